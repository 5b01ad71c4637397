import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from typing import Any

import pytest
import uvicorn

from froster.errors import FrosterError
from froster.serve.connections import Connection, bound_socket

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def running(body: bytes) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A server that answers everything with `body`, and its port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with bound_socket("127.0.0.1", 0) as bound:
        server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_level="critical", lifespan="off"))
        serving = asyncio.ensure_future(server.serve(sockets=[bound]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield server, bound.getsockname()[1]
        server.should_exit = True
        await asyncio.wait_for(serving, 60)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 15)  # the limit itself is 20 s, but for the tests that lower it


def test_answers_on_a_kept_connection_do_not_wait() -> None:
    """With Nagle's algorithm, each waits 40 ms for the client's delayed ACK."""

    async def work() -> None:
        async with running(b"") as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await exchange(reader, writer)
            (connection,) = server.server_state.connections
            accepted = connection.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()

    asyncio.run(work())


def test_headers_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.connections.HEADER_SECONDS", 0.3)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            for byte in chain(REQUEST.removesuffix(b"\r\n\r\n"), repeat(ord("a"))):  # headers that never end
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)

        sending = asyncio.ensure_future(send())
        try:
            await until_closed(reader)
        finally:
            sending.cancel()

    async def work() -> None:
        async with running(b"") as (server, port):
            silent, _ = await asyncio.open_connection("127.0.0.1", port)
            await until_closed(silent)
            await drip(*await asyncio.open_connection("127.0.0.1", port))
            kept = await asyncio.open_connection("127.0.0.1", port)
            await exchange(*kept)
            await drip(*kept)  # the next request of a connection, too
            kept = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(5):
                await exchange(*kept)  # longer in all than one request may take
                await asyncio.sleep(0.15)
            kept[1].close()
            assert len(server.server_state.connections) <= 1

    asyncio.run(work())


def test_answers_that_nobody_reads_have_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("froster.serve.connections.STALL_SECONDS", 0.3)

    async def work() -> None:
        async with running(bytes(50_000_000)) as (server, port):  # more than the kernel's buffers take
            with socket.create_connection(("127.0.0.1", port)) as deaf:
                deaf.sendall(REQUEST)
                await until(lambda: len(server.server_state.connections) == 1)
                await until(lambda: not server.server_state.connections)
            monkeypatch.setattr("froster.serve.connections.STALL_SECONDS", 10)  # a busy machine stalls, too
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await exchange(reader, writer)
            assert len(await asyncio.wait_for(reader.readexactly(50_000_000), 60)) == 50_000_000
            writer.close()

    async def until(condition: Any) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(work())


def test_a_port_that_cannot_be_had() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(FrosterError, match=rf"port {number} .*`port=`"):
            bound_socket("127.0.0.1", number)
    with pytest.raises(FrosterError, match="Cannot listen"):
        bound_socket("no.such.host.invalid", 0)
    # Nobody can connect before the models are loaded.
    with bound_socket("127.0.0.1", 0) as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname())
