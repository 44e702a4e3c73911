"""Requests for these tests: core's own exchange, taken through core's own door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import pytest

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers

MakeRequest = Callable[..., Exchange]


class FixedRandom:
    def random(self) -> float:
        return 0.5

    def token(self, size: int) -> bytes:
        return b"\xab" * size


@pytest.fixture
def request_to() -> MakeRequest:
    """Makes the exchange of a request: target, then what else matters to the test."""

    def make(
        target: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        scheme: str = "http",
        host: str = "gateway.test",
        kind: Literal["http", "websocket"] = "http",
        params: Mapping[str, str] | None = None,
        allowed_marks: int = 0,
        started: float = 0.0,
    ) -> Exchange:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        raw = [(b"host", host.encode()), *((name.lower().encode(), value.encode("latin-1")) for name, value in pairs)]
        path, _, query = target.partition("?")
        door = Door(FixedRandom(), allowed_marks=allowed_marks)
        exchange = Exchange(
            kind, method, scheme, Headers(raw, shared=True), "192.0.2.1", "1.1", {}, door, NoBody(), started
        )  # fmt: skip
        exchange.refusal = door.admit(exchange, path.encode(), query.encode()) or door.odd_path(exchange)
        exchange.params = {} if params is None else params
        return exchange

    return make
