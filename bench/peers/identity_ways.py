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
from typing import Any, NamedTuple, TypeVar

from bench.peers.identity_apps import APP_VARIABLE, APPS, JWKS_VARIABLE, missing, starlette_app
from bench.peers.identity_rounds import Amount, Requests, added, middle, ratio, requested, table, turns
from bench.peers.identity_scene import HEADERS, PATH, PROXY, SCOPE, Issuer, policies
from bench.peers.processes import NotStarted, Running, core_seconds, free_port, load

from gatekit import Authz
from gatekit.asgi import Policies
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.bearer import MAX_TTL

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SERVED = (
    "starlette, open", "starlette, gatekit without policies", "starlette, gatekit", "starlette, its own + PyJWT",
    "fastapi, open", "fastapi, gatekit", "fastapi, dependency + PyJWT", "fastapi, fastapi-azure-auth",
)  # fmt: skip
REMEMBER = frozenset({
    "starlette, gatekit", "starlette, its own + PyJWT, kept", "fastapi, gatekit",
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
    return [*lines, *kept(amount.tokens)]


def kept(most: int) -> list[str]:
    """How many of so many callers are found again, by the cache itself."""
    rows = []
    for count in (most // 2, most * 3 // 4, most):
        orders = (in_turn(range(count)), at_random(range(count)))
        rows.append([f"{count:,}", *(f"{found_share(order, most, 4 * count):.1%}" for order in orders)])
    title = f"Tokens that are found again, all within a minute, of {most:,} that are remembered"
    return table(title, "callers, in turn, at random", rows)


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
    with_one = Authz(scopes=SCOPE, shadow=candidate)
    told = []
    for name, app in (("a Starlette app", starlette_app()), ("an app that does nothing", open_app)):
        requests = {
            which: Requests(Policies(app, authn, authz), in_turn(scopes))
            for which, authz in (("without", live), ("with", with_one))
        }
        times = asyncio.run(requested(requests, 4 * amount.ways, amount.requests, dict.fromkeys(requests, 10)))
        share = ratio(times, "with", "without") - 1
        told.append(
            f"A shadow policy adds {share:.1%} to a request of {name} ({middle(times, 'without'):.1f} µs without)."
        )
    both = asyncio.run(_calls(Policies(open_app, authn, live), scopes[0]))
    alone = asyncio.run(_calls(Policies(open_app), scopes[0]))
    calls = f"Python calls of `Policies(app)`: {alone}; with `Authn(jwt(...)), Authz(scopes=...)`, token remembered: {both}."
    return [*told, calls, ""]


async def open_app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def _calls(app: Any, scope: dict[str, Any]) -> int:
    """Python calls of a request, the smaller of two; an earlier one has warmed what is made lazily."""
    one = Requests(app, cycle([scope]))
    await one.took(2)
    return min([await one.calls() for _ in range(2)])


# -- Served


DISTURBED = 0.1


class Window(NamedTuple):
    """Microseconds of the server's CPU for a request, requests a second, and what of its core others had."""

    cpu: float
    rate: float
    others: float


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

    def quiet(self, listed: Path, seconds: float, cores: Sequence[int]) -> Window:
        """A window in which nobody else was on its core; the better of two where somebody always was."""
        found: list[Window] = []
        while len(found) < 2 and not (found and found[-1].others <= DISTURBED):
            found.append(self.window(listed, seconds, cores))
        return min(found, key=lambda one: one.others)

    def window(self, listed: Path, seconds: float, cores: Sequence[int]) -> Window:
        """Load for so long. Raises RuntimeError unless every answer is a 200."""
        command = [
            sys.executable, str(ROOT / "bench" / "peers" / "identity_load.py"), str(self.port), str(CONNECTIONS),
            str(seconds), PATH, str(listed),
        ]  # fmt: skip
        before, busy = self.running.cpu_seconds(), core_seconds(cores[:1])[0]
        loaded = load(command, 60, cores[-1])
        cpu = self.running.cpu_seconds() - before
        others = (core_seconds(cores[:1])[0] - busy - cpu) / loaded.wall
        try:
            good, bad, took = loaded.output.split()
        except ValueError:
            raise RuntimeError(f"the load failed: {loaded.output[-500:]}") from None
        if int(bad) or not int(good):
            raise RuntimeError(f"of {good} + {bad} requests {bad} were not let in: {self.running.tail()}")
        return Window(cpu * 1e6 / int(good), int(good) / float(took), others if len(cores) > 1 else 0.0)


def served(issuer: Issuer, amount: Amount, texts: Sequence[str], apps: Sequence[str] = SERVED) -> list[str]:
    """CPU of the server for a request, and how many it answered; ten callers, windows in turn."""
    names = [name for name in apps if name not in missing()]
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
            server.window(listed, amount.seconds, cores)
        windows: dict[str, list[Window]] = {name: [] for name in names}
        for name in turns(names, amount.windows):
            windows[name].append(servers[name].quiet(listed, amount.seconds, cores))
    cpu = {name: [one.cpu for one in found] for name, found in windows.items()}
    rate = {name: [one.rate for one in found] for name, found in windows.items()}
    disturbed = sum(one.others > DISTURBED for found in windows.values() for one in found)
    rows = [
        (*_way(cpu, name), f"{middle(rate, name):,.0f}", f"{1 / ratio(rate, name, _ours(name)):.2f}") for name in names
    ]
    lines = table(
        f"Behind uvicorn, {CONNECTIONS} connections, 10 callers",
        "app, CPU µs, µs added to the open app, added / that of gatekit, CPU / that with gatekit, requests/s, "
        "requests/s of gatekit / its own",
        rows,
    )
    others = (
        f"Windows of {amount.seconds:g} s: {amount.windows} each, {disturbed} of all with others on the server's core."
    )
    return [*lines, others, ""]
