"""A client that writes bytes as they are, many connections at a time, and never waits without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

QUIET = 0.2
"""Seconds without a byte after which a server is taken to wait for more, which for many payloads is right."""
PATIENCE = 8.0
"""Seconds that an answer which has to come may take, on a busy machine."""
PAUSE = 0.02
"""Seconds between two parts: long enough for the server to act on the first."""
AT_ONCE = 96

SAW = b"\r\nx-saw-target: "


async def visit(port: int, parts: Iterable[bytes], answers: int = 0, *, quiet: float = QUIET) -> bytes:
    """Write the parts and give all that came back: until the server closes, that many answers of the upstream have
    come, or, where none has to come, it has been quiet for long enough."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), PATIENCE)
    found = b""
    try:
        first, *more = parts
        writer.write(first)
        for part in more:
            found += await _read(reader, PAUSE)
            writer.write(part)
        while not answers or _complete(found) < answers:
            data = await _read(reader, PATIENCE if answers else quiet)
            if not data:
                break
            found += data
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return found


async def visit_all(port: int, visits: Iterable[tuple[Iterable[bytes], int]], *, quiet: float = QUIET) -> list[bytes]:
    """What came back of each visit, in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(parts: Iterable[bytes], answers: int) -> bytes:
        async with gate:
            return await visit(port, parts, answers, quiet=quiet)

    return await asyncio.gather(*(one(parts, answers) for parts, answers in visits))


async def _read(reader: asyncio.StreamReader, seconds: float) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(65536), seconds)
    except TimeoutError:
        return b""


def _complete(found: bytes) -> int:
    """How many heads of the upstream's answers are whole in there."""
    return sum(b"\r\n\r\n" in part for part in found.lower().split(SAW)[1:])
