"""Error responses: a status, a code for programs, a message for people."""

import logging

from froster.errors import FrosterError

log = logging.getLogger("froster.serve")


class RequestError(FrosterError):
    """A rejected request, answered as `{"error": {"code", "message"}}` with an HTTP `status`.

    `retry_after`: seconds after which the same request may do, None where it never will.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


def bad_request(message: str) -> RequestError:
    return RequestError(400, "bad_request", message)


def shutting_down() -> RequestError:
    return RequestError(503, "shutting_down", "The server is shutting down; try again when it is back.", 5)


def busy(why: str, seconds: int = 10) -> RequestError:
    return RequestError(429, "queue_full", f"{why}; try again in {seconds} s.", seconds)


def internal() -> RequestError:
    return RequestError(500, "internal", "The server failed at this request; its log says why.")
