"""Run the server until it is stopped."""

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
from froster.serve.service import SHUTDOWN_SECONDS, Service
from froster.serve.settings import ServeSettings


class Server(uvicorn.Server):
    """Prints its address when it is ready, and notifies the service of a signal before connections close."""

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
    """uvicorn's access log format without control characters, since `X-Forwarded-For` may contain anything."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        line = copy.copy(record)
        if isinstance(line.args, tuple):
            line.args = tuple(one_line(part) if isinstance(part, str) else part for part in line.args)
        return super().formatMessage(line)


def logging_config() -> dict[str, Any]:
    """uvicorn's logging config, with the access log on standard error; standard output has only the address."""
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["access"]["()"] = PrintableAccessFormatter
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    for name in ("uvicorn", "uvicorn.error"):
        config["loggers"][name]["level"] = "WARNING"
    return config


def run(settings: ServeSettings, port: int, *, access_log: bool = True) -> None:
    """Serve until SIGINT or SIGTERM; `access_log`: one line for each request on standard error.

    Raises `FrosterError` if the port is taken or a model cannot be loaded."""
    with bound_socket(settings.host, port) as bound:
        app = create_app(settings)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings are about clients' requests
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=logging_config(),
            access_log=access_log,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        # uvicorn raises the signal again after closing everything.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        service: Service = app.state.service
        host = f"[{settings.host}]" if bound.family == socket.AF_INET6 else settings.host
        address = f"http://{host}:{bound.getsockname()[1]}"
        Server(config, service, f"froster serves {', '.join(service.models)} on {address}").run(sockets=[bound])
    if any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        os._exit(0)  # the only way to stop a long step of a model; everything else is closed
