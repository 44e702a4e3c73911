"""What supervisor and worker say to each other: JSON lines over a pair of sockets, questions and answers both ways.

When one side is gone, the other's questions fail at once and `closed` is set: no worker outlives its supervisor, and
nobody waits for a worker that died.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatekit.errors import GatekitError

LONGEST = 256 * 1024 * 1024
"""The longest message, in bytes: a configuration has to fit."""

Answering = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class PeerGone(GatekitError):
    """The process at the other end has ended, or does not answer in time."""


class Channel:
    """One end of the pair. `answering` is called with each question and gives what is answered.

    What it raises is answered as `{"error": …}`, which `ask` gives back like any answer.
    """

    def __init__(self, sock: socket.socket, answering: Answering) -> None:
        self._sock = sock
        self._answering = answering
        self._asked: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._next = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen. Questions can be asked from now on."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock, limit=LONGEST)
        self._reading = asyncio.create_task(self._read(reader), name="gatekit channel")

    async def ask(self, what: str, *, timeout: float, **about: Any) -> Mapping[str, Any]:
        """The answer to a question. Raises PeerGone when the other side is gone or does not answer within `timeout`
        seconds."""
        if self.closed.is_set() or self._writer is None:
            raise PeerGone("the other process is gone")
        self._next += 1
        number = self._next
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._say({"ask": what, "number": number, "about": about})
            async with asyncio.timeout(timeout):
                found: Mapping[str, Any] = await answer
                return found
        except TimeoutError:
            raise PeerGone(f"no answer to {what!r} within {timeout:g} s") from None
        finally:
            self._asked.pop(number, None)

    def tell(self, what: str, **about: Any) -> None:
        """Say something that needs no answer."""
        if not self.closed.is_set():
            self._say({"ask": what, "about": about})

    async def close(self) -> None:
        """End the conversation."""
        if self._writer is not None:
            self._writer.close()
        for task in (self._reading, *self._answers):
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    def _say(self, message: Mapping[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError, TypeError, KeyError):
            # What is no message of ours ends the conversation.
            pass
        finally:
            self.closed.set()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(PeerGone("the other process is gone"))

    def _take(self, message: Mapping[str, Any]) -> None:
        if "ask" in message:
            task = asyncio.create_task(self._answer(message))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
            return
        answer = self._asked.get(message["number"])
        if answer is not None and not answer.done():
            answer.set_result(message["answer"])

    async def _answer(self, message: Mapping[str, Any]) -> None:
        number = message.get("number")
        try:
            answer = await self._answering(message["ask"], message["about"])
            json.dumps(answer)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        if number is not None and not self.closed.is_set():
            self._say({"number": number, "answer": answer})
