"""The synthetic benchmark (puppets): run it, store results, and write a report."""
