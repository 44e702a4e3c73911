"""Requests for the matcher: a core Exchange, taken through the core Door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pytest

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange, NoBody
from gatekit.core.headers import Headers
from gatekit.core.paths import MARKS


class Ask(Protocol):
    """Makes the exchange of one request; the target may carry a query."""

    def __call__(
        self,
        method: str = "GET",
        target: str = "/",
        host: str = "gateway.test",
        headers: Iterable[tuple[str, str]] = (),
        *,
        client: str | None = "192.0.2.1",
        scheme: str = "http",
        merge_slashes: bool = True,
    ) -> Exchange: ...


class _Chance:
    def random(self) -> float:
        return 0.5

    def token(self, size: int) -> bytes:
        return bytes(size)


def _ask(
    method: str = "GET",
    target: str = "/",
    host: str = "gateway.test",
    headers: Iterable[tuple[str, str]] = (),
    *,
    client: str | None = "192.0.2.1",
    scheme: str = "http",
    merge_slashes: bool = True,
) -> Exchange:
    door = Door(
        _Chance(), max_target=1 << 20, allowed_marks=sum(MARKS.values()), merge_slashes=merge_slashes, max_headers=1000
    )
    raw = [(b"host", host.encode("latin-1"))]
    raw += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    exchange = Exchange("http", method, scheme, Headers(raw), client, "1.1", {"type": "http"}, door, NoBody(), 0.0)
    path, _, query = target.partition("?")
    refused = door.admit(exchange, path.encode("utf-8"), query.encode("utf-8"))
    assert refused is None, refused.detail
    return exchange


@pytest.fixture
def ask() -> Ask:
    return _ask


@pytest.fixture(scope="module")
def ask_often() -> Ask:
    """The same, for property tests, which may not take a fixture that lives for one function only."""
    return _ask
