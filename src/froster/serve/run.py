"""From settings to a server that listens, until it is told to stop."""

import logging
import os
import signal
import socket
import threading
from types import FrameType

import uvicorn

from froster.serve.app import create_app
from froster.serve.connections import Connection, bound_socket
from froster.serve.engine import THREADS
from froster.serve.service import GRACE, Service
from froster.serve.settings import ServeSettings


class Server(uvicorn.Server):
    """Says when it can be reached, and tells the service of a signal before the connections close."""

    def __init__(self, config: uvicorn.Config, service: Service, greeting: str) -> None:
        super().__init__(config)
        self.service, self.greeting = service, greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.greeting, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.service.close()
        super().handle_exit(sig, frame)


def run(settings: ServeSettings, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises `FrosterError` when the port cannot be had, or a model not be loaded."""
    with bound_socket(settings.host, port) as bound:
        app = create_app(settings)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what clients send
        config = uvicorn.Config(
            app, http=Connection, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE
        )
        # uvicorn raises the signal again when all is closed: then it has done its work.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        service: Service = app.state.service
        host = f"[{settings.host}]" if bound.family == socket.AF_INET6 else settings.host
        address = f"http://{host}:{bound.getsockname()[1]}"
        Server(config, service, f"froster serves {', '.join(service.models)} on {address}").run(sockets=[bound])
    if any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        os._exit(0)  # a long step of a model cannot be stopped in another way; all else is closed and removed
