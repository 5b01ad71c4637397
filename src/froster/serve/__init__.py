"""HTTP server for action recognition: a web page and a REST API."""
