"""The stage of the stories: one app described once, played behind the same policies under ASGI and under WSGI."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from gatekit.asgi import Policies as AsgiPolicies
from gatekit.core.policy import Spec
from gatekit.core.ports import Ports
from gatekit.gateway import system
from gatekit.testing import (
    Closes,
    FixedRandom,
    Log,
    ManualClock,
    Suspensions,
    TestResponse,
    call,
    call_wsgi,
    test_ports,
)
from gatekit.wsgi import Policies as WsgiPolicies


class App(TypedDict, total=False):
    """What the app behind the policies does. `raises` is raised at `raises_at`: before the head (`call`), or after the
    head and first part (`body`). `silent` returns without a response. `reads` reads the request body first."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    chunks: Sequence[bytes]
    raises: Exception
    raises_at: str
    silent: bool
    reads: bool
    waits_for_disconnect: bool
    trailers: Sequence[tuple[bytes, bytes]]


@dataclass
class Played:
    """What came of one story: the response, what the policies wrote down, and what the app got."""

    response: TestResponse
    log: Log
    driver: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    @property
    def decided(self) -> list[Any]:
        return [entry[0] for entry in self.log if entry[1] == "decide"]

    def calls(self, hook: str) -> list[tuple[Any, ...]]:
        """Every entry of that hook, without the word: `("a", 200)`."""
        return [(entry[0], *entry[2:]) for entry in self.log if entry[1] == hook]


def _head(app: App) -> tuple[int, list[tuple[bytes, bytes]], list[bytes]]:
    chunks = list(app.get("chunks", [b"ok"]))
    headers = list(
        app.get("headers", [(b"content-type", b"text/plain"), (b"content-length", b"%d" % sum(map(len, chunks)))])
    )
    return app.get("status", 200), headers, chunks


def asgi_app(app: App, seen: list[dict[str, Any]]) -> Any:
    """The app under ASGI."""
    status, headers, chunks = _head(app)

    async def run(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        if app.get("reads"):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
        seen.append(
            {
                "method": scope["method"],
                "path": scope["path"],
                "raw_path": scope.get("raw_path"),
                "body": body,
                "query": scope["query_string"],
                "headers": list(scope["headers"]),
                "user": scope.get("user"),
                "auth": scope.get("auth"),
                "exchange": scope["state"]["gatekit"][-1],
            }
        )
        if app.get("silent"):
            return
        if "raises" in app and app.get("raises_at", "call") == "call":
            raise app["raises"]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        if "trailers" in app:
            start["trailers"] = True
        await send(start)
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if "raises" in app:
                raise app["raises"]
        if app.get("waits_for_disconnect"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if "trailers" in app:
            await send({"type": "http.response.trailers", "headers": list(app["trailers"]), "more_trailers": False})

    return run


def wsgi_app(app: App, seen: list[dict[str, Any]]) -> Any:
    """The app under WSGI."""
    status, headers, chunks = _head(app)

    def run(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) if app.get("reads") else b""
        exchange = environ["gatekit.stack"][-1]
        seen.append(
            {
                "method": environ["REQUEST_METHOD"],
                "path": environ["PATH_INFO"].encode("latin-1").decode(),
                "raw_path": environ["REQUEST_URI"].encode().partition(b"?")[0],
                "body": body,
                "query": environ["QUERY_STRING"].encode(),
                "headers": [
                    (key[5:].replace("_", "-").lower().encode(), value.encode("latin-1"))
                    for key, value in environ.items()
                    if key.startswith("HTTP_")
                ],
                "user": environ.get("gatekit.identity"),
                "auth": environ.get("gatekit.identity"),
                "exchange": exchange,
            }
        )
        if app.get("silent"):
            return []
        if "raises" in app and app.get("raises_at", "call") == "call":
            raise app["raises"]
        start_response(f"{status} Whatever", [(name.decode(), value.decode()) for name, value in headers])
        return parts()

    def parts() -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            if "raises" in app:
                raise app["raises"]

    return run


Play = Callable[..., Any]


class Stage:
    """One driver. `play` runs a story through it with ports in memory."""

    def __init__(self, driver: str, ports: Ports, suspensions: Suspensions | None) -> None:
        self.driver = driver
        self.ports = ports
        self._suspensions = suspensions

    async def play(
        self,
        policies: Callable[[Log], Sequence[Spec]],
        app: App | None = None,
        *,
        leaves_after: int | None = None,
        options: dict[str, Any] | None = None,
        **request: Any,
    ) -> Played:
        """Play it. `leaves_after` counts the parts of the body after which the client has gone."""
        log: Log = []
        seen: list[dict[str, Any]] = []
        specs = policies(log)
        if self._suspensions is not None:
            specs = self._suspensions.watch(*specs)
        given = {"ports": self.ports, **(options or {})}
        if self.driver == "asgi":
            response = await call(
                AsgiPolicies(asgi_app(app or {}, seen), *specs, **given),
                raise_app_exceptions=False,
                disconnect_after=None if leaves_after is None else leaves_after + 1,
                **request,
            )
            return Played(response, log, "asgi", seen)
        behind = Closes(wsgi_app(app or {}, seen))
        response = call_wsgi(
            WsgiPolicies(behind, *specs, **given), raise_app_exceptions=False, close_after=leaves_after, **request
        )
        return Played(response, log, "wsgi", seen, behind.opened, behind.closed)


def _refused(name: str) -> Callable[..., Any]:
    def raising(*_: object) -> Any:
        raise AssertionError(f"gatekit asked for {name} though ports were injected")

    return raising


def _guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """The real thing for everyone but gatekit: the event loop needs its clock."""

    def guard(*args: Any) -> Any:
        if str(sys._getframe(1).f_globals.get("__name__", "")).partition(".")[0] == "gatekit":
            raise AssertionError(f"gatekit asked for {name} though ports were injected")
        return real(*args)

    return guard


@pytest.fixture(
    params=[("asgi", "plain"), ("asgi", "frozen"), ("asgi", "watched"), ("wsgi", "plain"), ("wsgi", "frozen")],
    ids="-".join,
)
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """`frozen`: wall clock, monotonic clock and randomness of the process raise. `watched`: no policy may suspend."""
    driver, mode = request.param
    if mode == "frozen":
        _freeze(monkeypatch)
    suspensions = Suspensions() if mode == "watched" else None
    yield Stage(driver, test_ports(clock=ManualClock(), random=FixedRandom()), suspensions)
    if suspensions is not None:
        with suspensions:
            pass


def _freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((time, "time"), (time, "monotonic"), (random, "random")):
        monkeypatch.setattr(module, name, _guarded(f"{module.__name__}.{name}", getattr(module, name)))
    for kind, name in (
        (system.SystemClock, "monotonic"), (system.SystemClock, "wall"),
        (system.SystemRandom, "random"), (system.SystemRandom, "token"),
    ):  # fmt: skip
        monkeypatch.setattr(kind, name, _refused(f"{kind.__name__}.{name}"))


@pytest.fixture(params=["asgi", "wsgi"])
def frozen_without_ports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A frozen stage, for what happens when the ports are not injected."""
    _freeze(monkeypatch)
    return Stage(request.param, test_ports(), None)
