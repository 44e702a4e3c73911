"""The tour of the demo: requests over real sockets, what is stated of each, and what really became of it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from gatekit.cli import say


class Trace(NamedTuple):
    """What the gateway noted of an exchange: the route's template and the reason, if it answered itself."""

    route: str
    reason: str | None


class Stop(NamedTuple):
    """One request and what is stated of it. `backend` is any of those named; `-` means that none is asked."""

    method: str
    target: str
    status: int
    backends: tuple[str, ...]
    route: str
    why: str
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    location: str | None = None


ORDERS = ("orders-1", "orders-2")
NOBODY = ("-",)
_KEY = (("x-api-key", "{key}"),)

STOPS: tuple[Stop, ...] = (
    Stop("GET", "/v1/orders/42", 200, ORDERS, "/v1/orders/{id}", "template route"),
    Stop("GET", "/v1/orders/42", 200, ORDERS, "/v1/orders/{id}", "the other endpoint in turn"),
    Stop("HEAD", "/v1/orders/42", 200, NOBODY, "/v1/orders/{id}", "HEAD goes where GET goes"),
    Stop("GET", "/v1/orders/42", 200, ("next",), "/v1/orders/{id}", "header match", (("x-tier", "beta"),)),
    Stop("POST", "/v1/orders", 401, NOBODY, "/v1/orders", "no key", reason="authn.missing_key"),
    Stop("POST", "/v1/orders", 200, ORDERS, "/v1/orders", "with a key", _KEY),
    Stop("GET", "/admin/users", 401, NOBODY, "/admin/*", "wrong key", (("x-api-key", "guess"),), "authn.invalid_key"),
    Stop("GET", "/admin/users", 200, ("members",), "/admin/*", "app in this process", _KEY),
    Stop("GET", "/old/orders/42", 301, NOBODY, "/old/*", "redirected", reason="redirect", location="/v1/orders/42"),
    Stop("GET", "/shop/orders/42", 200, ORDERS, "/shop/*", "prefix rewritten"),
    Stop("GET", "/canary", 200, (*ORDERS, "next"), "/canary", "weighted split"),
    Stop("GET", "/limited", 200, ORDERS, "/limited", "within the limit"),
    Stop("GET", "/limited", 200, ORDERS, "/limited", "within the limit"),
    Stop("GET", "/limited", 429, NOBODY, "/limited", "over the limit", reason="rate_limit.exceeded"),
    Stop("DELETE", "/v1/orders/42", 405, NOBODY, "-", "method not allowed", reason="router.method_not_allowed"),
    Stop("GET", "/v1x", 404, NOBODY, "-", "no such route", reason="router.no_route"),
    Stop("GET", "/v1/./orders//42", 200, ORDERS, "/v1/orders/{id}", "path made canonical"),
    Stop("GET", "/v1/orders/a%2Fb", 400, NOBODY, "/v1/orders/{id}", "two readings", reason="door.odd_path"),
    Stop("GET", "/v1/orders/..%2fadmin", 400, NOBODY, "-", "no reading at all", reason="door.bad_path"),
)


async def tour(base: str, stops: Sequence[Stop], traces: dict[str, Trace], *, key: str) -> int:
    """Make every stop and print the table. 0 if all came out as stated."""
    rows = [("request", "route", "backend", "status", "why")]
    surprises: list[str] = []
    transport = httpx.AsyncHTTPTransport(socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
    async with transport:
        for stop in stops:
            status, backend, trace, location = await _visit(transport, base, stop, traces, key)
            why = stop.why if trace.reason is None else f"{stop.why} ({trace.reason})"
            rows.append((f"{stop.method} {stop.target}", trace.route, backend, str(status), why))
            got = (status, trace.route, trace.reason, location)
            if got != (stop.status, stop.route, stop.reason, stop.location) or backend not in stop.backends:
                surprises.append(f"{stop.method} {stop.target}: stated {stop}, got {(backend, *got)}")
    for line in table(rows):
        say(line)
    for surprise in surprises:
        say(surprise, error=True)
    say(f"{len(stops) - len(surprises)} of {len(stops)} as stated")
    return 1 if surprises else 0


async def _visit(
    transport: httpx.AsyncHTTPTransport, base: str, stop: Stop, traces: dict[str, Trace], key: str
) -> tuple[int, str, Trace, str | None]:
    """Send the request as it is written (a client would tidy its path) and look at what came back."""
    host = base.removeprefix("http://")
    headers = [("host", host), *((name, value.format(key=key)) for name, value in stop.headers)]
    url = httpx.URL(base).copy_with(raw_path=stop.target.encode())
    response = await transport.handle_async_request(httpx.Request(stop.method, url, headers=headers))
    body = await response.aread()
    await response.aclose()
    is_json = response.headers.get("content-type") == "application/json" and body
    backend = httpx.Response(200, content=body).json()["backend"] if is_json else "-"
    location = response.headers.get("location")
    trace = traces.get(response.headers.get("x-request-id", ""), Trace("?", "no trace"))
    return response.status_code, backend, trace, None if location is None else location.removeprefix(base)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows under each other, a line below the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
