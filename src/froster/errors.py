"""Errors meant for people: one sentence that says what was wrong, where, and what to do."""


class FrosterError(Exception):
    """Base of every error a user can cause; the command line prints it as one line, without a traceback."""


class FrosterWarning(UserWarning):
    """Something was assumed that the user should know of."""


class VideoError(FrosterError):
    """A video that cannot be used at all; the message names the file and the reason."""


class WeightsError(FrosterError):
    """A checkpoint that cannot be read; the message names the file and what to do."""
