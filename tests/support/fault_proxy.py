"""Stand between a client and a TCP server and make the connection misbehave on demand."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, auto
from random import Random
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class Fault(Enum):
    """Name what the proxy does to the replies of the server."""

    NONE = auto()
    DELAY = auto()  # each piece of a reply comes late
    BLACK_HOLE = auto()  # connections open, replies never come
    CUT = auto()  # the connection breaks in the middle of a reply
    GARBLE = auto()  # some bytes of each reply are changed
    NOISE = auto()  # each reply is replaced by random bytes
    STUTTER = auto()  # each reply comes twice, so that all later ones are one call late


class FaultProxy:
    """Forward a loopback port to a server; `fault` may be changed at any time.

    Args:
        host: the server's address.
        port: its port.
        seed: of the garbled bytes, so that a failure can be repeated.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.fault = Fault.NONE
        self.delay_seconds = 0.0
        self.connections = 0
        self.port = 0
        self._target = (host, port)
        self._random = Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return the address of the proxy for a Redis client."""
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen on a port of the system's choice."""
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the port and every connection."""
        await self.refuse()

    async def accept(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        asking = asyncio.create_task(_pump(reader, server_writer))
        answering = asyncio.create_task(self._answer(server_reader, writer))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
        finally:
            server_writer.close()  # first: waiting for the tasks may be cancelled
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_CHUNK):
            fault = self.fault
            if fault is Fault.BLACK_HOLE:
                continue
            if fault is Fault.DELAY:
                await asyncio.sleep(self.delay_seconds)
            if fault is Fault.CUT:
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                return
            writer.write(self._changed(piece, fault))
            await writer.drain()

    def _changed(self, piece: bytes, fault: Fault) -> bytes:
        if fault is Fault.NOISE:
            return self._random.randbytes(len(piece))
        if fault is Fault.STUTTER:
            return piece + piece
        if fault is not Fault.GARBLE:
            return piece
        changed = bytearray(piece)
        for _ in range(1 + len(piece) // 200):
            changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_CHUNK):
        writer.write(piece)
        await writer.drain()
