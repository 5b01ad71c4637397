"""From settings to a server that listens, until it is told to stop."""

import copy
import logging
import os
import signal
import socket
import threading
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter

from froster.cli.terminal import one_line
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


class PrintableAccessFormatter(AccessFormatter):
    """uvicorn's line for each request, without what a terminal would obey: `X-Forwarded-For` may hold anything."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        line = copy.copy(record)
        if isinstance(line.args, tuple):
            line.args = tuple(one_line(part) if isinstance(part, str) else part for part in line.args)
        return super().formatMessage(line)


def logging_config() -> dict[str, Any]:
    """uvicorn's, with the access log on standard error: standard output has the server's address alone."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["access"]["()"] = PrintableAccessFormatter
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    for name in ("uvicorn", "uvicorn.error"):
        config["loggers"][name]["level"] = "WARNING"
    return config


def run(settings: ServeSettings, port: int, *, access_log: bool = True) -> None:
    """Serve until SIGINT or SIGTERM; `access_log`: one line for each request on standard error.

    Raises `FrosterError` when the port cannot be had, or a model not be loaded."""
    with bound_socket(settings.host, port) as bound:
        app = create_app(settings)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of what clients send
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=logging_config(),
            access_log=access_log,
            timeout_graceful_shutdown=GRACE,
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
