"""An upstream in this process: a real HTTP/1.1 server on a loopback port with scripted answers.

It keeps what it was sent, as bytes and parsed, so that a test can say what went over the wire. It answers exactly as
scripted, wrong answers included; it is no web server. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

from gatekit.core.headers import Headers
from gatekit.testing.connection import Connection, Ended
from gatekit.testing.exchanges import HeaderItems, raw_headers


@dataclass(slots=True)
class Seen:
    """One request as the upstream got it. `raw` is every byte of it, `body` is without its framing, `connection` which
    connection it came over, counted from 1."""

    method: str
    target: str
    version: str
    headers: Headers
    body: bytes
    raw: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass(slots=True)
class Answer:
    """What to answer. Content-Length is added unless `chunks` are given (sent chunked, each at once) or a framing header.

    `informational` statuses are sent first. `gate` is waited for before the head, `chunk_gate` before every chunk but
    the first. `truncate_after` cuts the connection after that many bytes of the answer; `raw` stands for the whole
    answer; `hang` sends nothing, ever. `close` ends the connection after the answer.
    """

    status: int = 200
    headers: HeaderItems | None = None
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    trailers: HeaderItems | None = None
    informational: tuple[int, ...] = ()
    raw: bytes | None = None
    gate: asyncio.Event | None = None
    chunk_gate: asyncio.Semaphore | None = None
    truncate_after: int | None = None
    hang: bool = False
    close: bool = False


Script = Callable[[Seen], Answer | Awaitable[Answer]]


class Upstream:
    """`async with Upstream(Answer(201)) as up`: a server at `up.url` that gives these answers in order.

    The last answer is given again and again; with none, every request gets a 200 with the body `ok`. A callable gets
    the request and returns the answer. `requests` has what was seen, `connections` counts those accepted, `aborted` the
    requests whose client went before the answer was complete.
    """

    def __init__(self, *answers: Answer | Script, tls: ssl.SSLContext | None = None) -> None:
        self._answers: list[Answer | Script] = list(answers) or [Answer(body=b"ok")]
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: dict[Connection, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.requests: list[Seen] = []
        self.connections = 0
        self.aborted = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def last(self) -> Seen:
        """The request that came last."""
        return self.requests[-1]

    def script(self, *answers: Answer | Script) -> None:
        """Answer like this from the next request on."""
        self._answers = list(answers)

    async def wait_for(self, condition: Callable[[Upstream], bool], timeout: float = 5.0) -> None:
        """Wait until `condition` holds; it is looked at whenever a request or a connection came, ended or broke."""
        async with asyncio.timeout(timeout):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def drop_connections(self) -> None:
        """Cut every open connection, idle or not, as a crash does; the port still listens."""
        for connection in list(self._open):
            connection.abort()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop_connections()
        await self.wait_for(lambda up: not up._open)
        await self._server.wait_closed()

    # -- connections

    def _connect(self) -> Connection:
        self.connections += 1
        return Connection(self.connections, self._opened, self._closed)

    def _opened(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._open[connection] = task
        self._changed.set()

    def _closed(self, connection: Connection) -> None:
        self._open[connection].add_done_callback(lambda _: self._forget(connection))

    def _forget(self, connection: Connection) -> None:
        del self._open[connection]
        self._changed.set()

    async def _serve(self, connection: Connection) -> None:
        try:
            while await self._one(connection):
                connection.raw.clear()
        except Ended:
            pass
        finally:
            if connection.left is not None or connection.gone.is_set():
                connection.abort()
            else:
                connection.close()

    async def _one(self, connection: Connection) -> bool:
        """Read one request and answer it. False once the connection is over."""
        seen = await self._read(connection)
        if seen is None:
            return False
        self.requests.append(seen)
        self._changed.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if callable(answer):
            made = answer(seen)
            answer = made if isinstance(made, Answer) else await made
        writing = asyncio.create_task(_write(connection, answer, seen.method))
        gone = asyncio.create_task(connection.gone.wait())
        try:
            await asyncio.wait([writing, gone], return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() or (isinstance(writing.exception(), Ended) and connection.left != 0):
                self.aborted += 1
                self._changed.set()
                return False
            writing.result()
        finally:
            writing.cancel()
            gone.cancel()
            await asyncio.wait([writing, gone])
        return not answer.close and (seen.headers.get("connection") or "").lower() != "close"

    async def _read(self, connection: Connection) -> Seen | None:
        line = await connection.line()
        if not line:
            return None
        method, target, version = line.decode("latin-1").rstrip("\r\n").split(" ")
        headers = await connection.headers()
        if (headers.get("expect") or "").lower() == "100-continue":
            await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await connection.body(headers)
        return Seen(method, target, version, headers, body, bytes(connection.raw), connection.number)


async def _write(connection: Connection, answer: Answer, method: str) -> None:
    """Send the answer as it was scripted."""
    if answer.gate is not None:
        await answer.gate.wait()
    if answer.hang:
        await asyncio.Event().wait()
    connection.left = answer.truncate_after
    for status in answer.informational:
        await connection.write(_status_line(status) + b"\r\n")
    if answer.raw is not None:
        await connection.write(answer.raw)
        return
    headers = raw_headers(answer.headers)
    names = {name for name, _ in headers}
    if answer.chunks is not None:
        headers.append((b"transfer-encoding", b"chunked"))
        if answer.trailers is not None:
            headers.append((b"trailer", b", ".join(name for name, _ in raw_headers(answer.trailers))))
    elif not names & {b"content-length", b"transfer-encoding"} and answer.status >= 200 and answer.status != 204:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await connection.write(_status_line(answer.status) + _fields(headers) + b"\r\n")
    if method == "HEAD":
        return
    if answer.chunks is None:
        await connection.write(answer.body)
        return
    for number, chunk in enumerate(answer.chunks):
        if number and answer.chunk_gate is not None:
            await answer.chunk_gate.acquire()
        await connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await connection.write(b"0\r\n" + _fields(raw_headers(answer.trailers)) + b"\r\n")


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())


def _fields(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)
