"""A proxy between a gateway and an upstream that breaks connections where a test says.

It runs in this process, on a loopback port, and carries bytes: TLS passes through it unread. It has no clock: what
waits, waits for the test. `Fault` says when a fault is done.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from gatekit.testing.fault_line import Broken, Carried, Direction, Fault, Flow, Line


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Both ends are cut with a RST (SO_LINGER 0)."""

    async def act(self, flow: Flow) -> None:
        raise Broken


@dataclass(frozen=True, slots=True)
class Close(Fault):
    """Both ends get a FIN. What they still send goes nowhere, and no RST tells them so."""

    async def act(self, flow: Flow) -> None:
        flow.finish()
        flow.back.finish()


@dataclass(frozen=True, slots=True)
class HalfClose(Fault):
    """The receiver gets a FIN and the rest of this direction goes nowhere. The way back lives on."""

    async def act(self, flow: Flow) -> None:
        flow.finish()


@dataclass(frozen=True, slots=True)
class Truncate(Fault):
    """The receiver gets a FIN and nothing passes either way any more. The sender is not told: what it sends is taken
    and dropped. Only the receiver's FIN still passes."""

    async def act(self, flow: Flow) -> None:
        flow.finish()
        flow.back.dropping = True


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Nothing passes any more, nor is it read, so that the sender is held up once the buffers between are full.

    With `both` the way back stalls too. It lasts until `FaultProxy.release`.
    """

    both: bool = False

    async def act(self, flow: Flow) -> None:
        flow.open.clear()
        if self.both:
            flow.back.open.clear()
        await flow.open.wait()


@dataclass(frozen=True, slots=True)
class Drip(Fault):
    """From here on pieces of at most `size` bytes, each a write of its own; the loop turns between them.

    `gate` is acquired before each piece.
    """

    size: int = 1
    gate: asyncio.Semaphore | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.size < 1:
            raise ValueError("a piece has at least one byte")

    async def act(self, flow: Flow) -> None:
        flow.piece, flow.permit = self.size, self.gate


@dataclass(frozen=True, slots=True)
class Garble(Fault):
    """The bytes from here on are changed: `replace` stands in their place, or each is combined with `xor`.

    `replace` changes as many bytes as it has; `xor` changes `count`, None for all that follow.
    """

    xor: int = 0xFF
    count: int | None = None
    replace: bytes | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if not 0 < self.xor < 256:
            raise ValueError("xor is 1 to 255: 0 changes nothing")

    async def act(self, flow: Flow) -> None:
        """Nothing: it is `altered` that does it, byte by byte."""

    def altered(self, data: bytes, at: int) -> bytes:
        count = self.count if self.replace is None else len(self.replace)
        begin = max(self.after - at, 0)
        end = len(data) if count is None else min(self.after + count - at, len(data))
        if begin >= end:
            return data
        if self.replace is not None:
            offset = at + begin - self.after
            changed = self.replace[offset : offset + end - begin]
        else:
            changed = bytes(byte ^ self.xor for byte in data[begin:end])
        return data[:begin] + changed + data[end:]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is accepted and cut with a RST at once; the upstream sees nothing of it."""


Faults = Fault | Refuse | Sequence[Fault | Refuse]
"""What one connection gets: nothing (an empty sequence), one fault, or several."""
Script = Faults | Callable[[int], Faults]
"""`Faults`, or a function that picks them by the number of the connection, counted from 1."""


class FaultProxy:
    """`async with FaultProxy(up.url, Reset("response", after=10)) as proxy`: the way to `up` leads over `proxy.url`.

    Each connection gets the next of the `faults`, the last of them again and again; with none, all pass unharmed.
    `upstream` is a URL or `host:port`. `connections` counts those accepted; `carried` has for each of them, in order,
    what it has come to. Leaving the block cuts whatever is open, and raises what a function of the script raised.
    """

    def __init__(self, upstream: str, *faults: Script) -> None:
        address = urlsplit(upstream if "://" in upstream else f"http://{upstream}")
        if address.hostname is None or address.port is None:
            raise ValueError(f"an upstream is a URL or host:port, with its port: {upstream!r} is not")
        self._scheme = address.scheme
        self._upstream = (address.hostname, address.port)
        self._faults: list[Script] = list(faults) or [()]
        self._listener: socket.socket | None = None
        self._open: dict[Line, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self.connections = 0
        self.carried: list[Carried] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def faults_done(self) -> int:
        """How many faults were done, over all connections."""
        return sum(one.faults_done for one in self.carried)

    def script(self, *faults: Script) -> None:
        """What connections get from the next one on; those that are open keep what they have."""
        self._faults = list(faults) or [()]

    async def wait_for(self, condition: Callable[[FaultProxy], bool], timeout: float = 5.0) -> None:
        """Wait until `condition` holds; it is looked at whenever bytes passed, a fault was done or a connection came
        or ended."""
        async with asyncio.timeout(timeout):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def release(self) -> None:
        """End every stall there is; one that begins later lasts until the next call."""
        for line in self._open:
            line.release()

    def drop_connections(self) -> None:
        """Cut every open connection with a RST on both sides; the port still listens."""
        for task in self._open.values():
            if not task.cancelling():
                task.cancel()

    def stop_listening(self) -> None:
        """From now on connecting is refused; connections that are open live on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def listen(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        if self._listener is not None:
            return
        # Accepted here and not by `create_server`: that loses a connection which comes as the port is closed.
        listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def __aenter__(self) -> Self:
        self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_listening()
        self.drop_connections()
        await self.wait_for(lambda proxy: not proxy._open)
        if self._error is not None and error is None:
            raise self._error

    # -- connections

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            # The client has gone again.
            return
        accepted.setblocking(False)
        # asyncio does so only for sockets whose protocol number it knows. Without it pieces wait for each other.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        line = Line(accepted, self._changed.set)
        self.carried.append(line.carried)
        entry = self._faults.pop(0) if len(self._faults) > 1 else self._faults[0]
        task = asyncio.get_running_loop().create_task(self._serve(line, entry, self.connections))
        self._open[line] = task
        task.add_done_callback(lambda task: self._forget(line, task))
        self._changed.set()

    def _forget(self, line: Line, task: asyncio.Task[None]) -> None:
        del self._open[line]
        if not task.cancelled():
            self._error = task.exception() or self._error
        line.over()

    async def _serve(self, line: Line, entry: Script, number: int) -> None:
        try:
            chosen = entry(number) if callable(entry) else entry
        except Exception:
            line.refuse()
            raise
        faults = [chosen] if isinstance(chosen, (Fault, Refuse)) else chosen
        if any(isinstance(fault, Refuse) for fault in faults):
            line.acted()
            line.refuse()
        else:
            await line.run(*self._upstream, [fault for fault in faults if isinstance(fault, Fault)])


__all__ = [
    "Carried", "Close", "Direction", "Drip", "Fault", "FaultProxy", "Faults", "Garble", "HalfClose", "Refuse", "Reset",
    "Script", "Stall", "Truncate",
]  # fmt: skip
