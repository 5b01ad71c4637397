"""Training losses, one method per file: functions that return the loss and its terms."""
