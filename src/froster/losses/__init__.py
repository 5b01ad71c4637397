"""One method a file: its loss as a function that returns the loss and its terms."""
