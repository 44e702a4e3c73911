"""The whole way of a request through authentication and authorisation, gatekit's and its peers': in process and served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

from bench.peers.identity_apps import APP_VARIABLE, APPS, JWKS_VARIABLE, missing, starlette_app
from bench.peers.identity_rounds import Amount, Requests, added, middle, ratio, requested, table, turns
from bench.peers.identity_scene import HEADERS, PATH, PROXY, SCOPE, Issuer, policies
from bench.peers.processes import NotStarted, Running, free_port, load

from gatekit import Authz
from gatekit.asgi import Policies
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.bearer import MAX_TTL

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SERVED = (
    "starlette, open", "starlette, gatekit", "starlette, its own + PyJWT", "fastapi, open", "fastapi, gatekit",
    "fastapi, dependency + PyJWT", "fastapi, fastapi-azure-auth",
)  # fmt: skip
REMEMBER = frozenset({
    "starlette, gatekit", "starlette, gatekit cache=20000", "starlette, its own + PyJWT, kept", "fastapi, gatekit",
})  # fmt: skip
CONNECTIONS = 16


def scopes_of(texts: Sequence[str]) -> list[dict[str, Any]]:
    """What a server hands over, for each token."""
    plain = [(name.encode(), value.encode()) for name, value in HEADERS]
    shared: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": PATH, "raw_path": PATH.encode(), "query_string": b"", "root_path": "",
        "client": (PROXY, 50_000), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    return [{**shared, "headers": [*plain, (b"authorization", f"Bearer {text}".encode())]} for text in texts]


def in_turn(all_of_them: Sequence[T]) -> Iterator[T]:
    return cycle(all_of_them)


def at_random(all_of_them: Sequence[T]) -> Iterator[T]:
    chance = random.Random(1)  # noqa: S311
    while True:
        yield chance.choice(all_of_them)


def found_share(order: Iterator[int], size: int, count: int) -> float:
    """The share of requests whose token a cache of that size still has, by the cache itself, once it is full."""
    cache: RecentCache[int, bool] = RecentCache(size)
    found = 0
    for number in range(2 * count):
        one = next(order)
        known = cache.get(one, 0.0)
        if known is None:
            cache.put(one, True, 0.0, MAX_TTL)
        found += number >= count and known is not None
    return found / count


def ways(issuer: Issuer, amount: Amount, texts: Sequence[str]) -> list[str]:
    """Ten callers, then many in turn and at random."""
    scopes = scopes_of(texts)
    names = [name for name in APPS if name not in missing()]
    lines = [f"Not measured, {name}: {told}" for name, told in missing().items()]
    orders = {
        "10 callers": (scopes[:10], in_turn),
        f"{len(texts):,} callers, in turn": (scopes, in_turn),
        f"{len(texts):,} callers, at random": (scopes, at_random),
    }
    for title, (callers, order) in orders.items():
        apps = {name: Requests(APPS[name](issuer.jwks), order(callers)) for name in names}
        # What remembers tokens has seen nearly all of them; to what does not, it makes no difference.
        warm = {name: 3 * len(callers) if name in REMEMBER else 10 for name in names}
        times = asyncio.run(requested(apps, amount.ways, amount.requests, warm))
        columns = "app, µs, µs added to the open app, added / that of gatekit, time / that with gatekit"
        lines += table(f"In process, {title}", columns, [_way(times, name) for name in names])
    count = len(texts)
    for size in (10_000, 20_000):
        turn, chance = (
            found_share(order, size, 4 * count) for order in (in_turn(range(count)), at_random(range(count)))
        )
        lines.append(f"Of {count:,} callers, cache={size}: remembered {turn:.1%} in turn, {chance:.1%} at random.")
    return [*lines, ""]


def _ours(name: str) -> str:
    return f"{name.partition(',')[0]}, gatekit"


def _way(times: Any, name: str) -> tuple[object, ...]:
    kind = name.partition(",")[0]
    bare, ours = f"{kind}, open", _ours(name)
    if name == bare:
        return name, f"{middle(times, name):.1f}", "", "", f"{ratio(times, name, ours):.2f}"
    more = added(times, name, bare)
    return (
        name, f"{middle(times, name):.1f}", f"{more:.1f}", f"{more / added(times, ours, bare):.1f}",
        f"{ratio(times, name, ours):.2f}",
    )  # fmt: skip


def shadowed(issuer: Issuer, amount: Amount) -> list[str]:
    """AZ4: what a candidate beside the rules in force adds to a request."""
    scopes = scopes_of([issuer.token(number) for number in range(10)])
    authn, live = policies(issuer.jwks)
    rule: Any = {"scopes": SCOPE, "tenants": ["acme"]}
    candidate: Any = [{"id": "stricter", "allow": [rule]}]
    both = {"without": live, "with one": Authz(scopes=SCOPE, shadow=candidate)}
    apps = {name: Policies(starlette_app(), authn, authz) for name, authz in both.items()}
    requests = {name: Requests(app, in_turn(scopes)) for name, app in apps.items()}
    times = asyncio.run(requested(requests, 4 * amount.ways, amount.requests, dict.fromkeys(requests, 10)))
    share = ratio(times, "with one", "without") - 1
    bare = asyncio.run(_calls(Policies(open_app, *policies(issuer.jwks)), scopes[0]))
    alone = asyncio.run(_calls(Policies(open_app), scopes[0]))
    return [
        f"A shadow policy adds {share:.1%} to a request of a Starlette app "
        f"({middle(times, 'without'):.1f} µs without it).",
        f"`Policies(app, Authn(jwt(...)), Authz(scopes=...))` makes {bare} Python calls for a request whose token is "
        f"remembered, `Policies(app)` {alone}.",
        "",
    ]


async def open_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def _calls(app: Any, scope: dict[str, Any]) -> int:
    """Python calls of a request, the smaller of two; an earlier one has warmed what is made lazily."""
    one = Requests(app, cycle([scope]))
    await one.took(2)
    return min([await one.calls() for _ in range(2)])


# -- Served


class Server:
    """One app behind uvicorn, on one core."""

    def __init__(self, name: str, issuer: Issuer, folder: Path, core: int) -> None:
        self.port = free_port()
        command = [
            sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log",
            "--log-level", "warning", "--host", "127.0.0.1", "--port", str(self.port), "--factory",
            "bench.peers.identity_apps:served",
        ]  # fmt: skip
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        told = {APP_VARIABLE: name, JWKS_VARIABLE: json.dumps(issuer.jwks), "PYTHONPATH": path}
        folder.mkdir()
        self.running = Running(command, told, core, folder)

    def wait(self) -> None:
        """Until it takes connections. Raises NotStarted."""
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.running.process.wait(0.02)
                break
        raise NotStarted(self.running.tail() or "no answer")


def served(issuer: Issuer, amount: Amount, texts: Sequence[str]) -> list[str]:
    """CPU of the server for a request, and how many it answered; ten callers, windows in turn."""
    names = [name for name in SERVED if name not in missing()]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        listed = folder / "tokens"
        listed.write_text("\n".join(texts[:10]))
        servers = {}
        for place, name in enumerate(names):
            servers[name] = server = Server(name, issuer, folder / str(place), cores[0])
            stack.enter_context(server.running)
        for server in servers.values():
            server.wait()
        for server in servers.values():
            _window(server, listed, 0.3, cores[-1])
        cpu: dict[str, list[float]] = {name: [] for name in names}
        rate: dict[str, list[float]] = {name: [] for name in names}
        for name in turns(names, amount.windows):
            each, came = _window(servers[name], listed, amount.seconds, cores[-1])
            cpu[name].append(each)
            rate[name].append(came)
    rows = [
        (*_way(cpu, name), f"{middle(rate, name):,.0f}", f"{1 / ratio(rate, name, _ours(name)):.2f}") for name in SERVED
    ]
    return table(
        f"Behind uvicorn, {CONNECTIONS} connections, 10 callers",
        "app, CPU µs, µs added to the open app, added / that of gatekit, CPU / that with gatekit, requests/s, "
        "requests/s of gatekit / its own",
        rows,
    )


def _window(server: Server, listed: Path, seconds: float, core: int) -> tuple[float, float]:
    """Microseconds of CPU of the server for a request, and requests a second. Raises RuntimeError unless all are 200."""
    before = server.running.cpu_seconds()
    command = [
        sys.executable, str(ROOT / "bench" / "peers" / "identity_load.py"), str(server.port), str(CONNECTIONS), str(seconds),
        PATH, str(listed),
    ]  # fmt: skip
    told = load(command, 60, core).output
    try:
        good, bad, took = told.split()
    except ValueError:
        raise RuntimeError(f"the load failed: {told[-500:]}") from None
    if int(bad) or not int(good):
        raise RuntimeError(f"{bad} of {good} + {bad} requests were not let in: {server.running.tail()}")
    return (server.running.cpu_seconds() - before) * 1e6 / int(good), int(good) / float(took)
