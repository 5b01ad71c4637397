"""Listening socket, and connections with timeouts for slow clients."""

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

from froster.errors import FrosterError

HEADER_SECONDS = 20.0  # from connecting, or the first byte of a request, to the end of its headers
STALL_SECONDS = 60.0  # for a client to read the 48 kB between the water marks of asyncio's write buffer


def bound_socket(host: str, port: int) -> socket.socket:
    """Bind a port exclusively, without listening yet. Raises `FrosterError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only if the protocol is given; without it, answers wait 40 ms for an ACK.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
        except OSError:
            bound.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FrosterError(f"Cannot listen on {host}, port {port} ({reason}); try another `port=`.") from error
    return bound


class Connection(H11Protocol):
    """An HTTP/1.1 connection with time limits for headers and for answers; those for bodies are in `uploads.Body`."""

    _headers_due: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._headers_due, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()  # closing waits for the write buffer

    def _await_headers(self) -> None:
        """Start the timer if it is not running; stop it while a request is processed."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._headers_due is not None:
                self._headers_due.cancel()
                self._headers_due = None
        elif self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _abort_later(self) -> None:
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)
