"""Doors, bodies and exchanges as a driver would make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange
from gatekit.core.headers import Headers
from gatekit.core.peers import Trust


class CountedRandom:
    """Tokens that count up."""

    def __init__(self) -> None:
        self.given = 0

    def random(self) -> float:
        return 0.5

    def token(self, size: int) -> bytes:
        self.given += 1
        return self.given.to_bytes(size, "big")


class EmptyBody:
    data: bytes | None = None
    length: int | None = 0
    limit: int | None = None

    async def buffer(self, cap: int) -> bytes | None:
        return b""

    def abandon(self) -> None:
        pass

    async def read(self) -> bytes:
        return b""


RawPairs = Sequence[tuple[bytes, bytes]]
MakeExchange = Callable[..., Exchange]


@pytest.fixture
def make_exchange() -> MakeExchange:
    """Makes an exchange that has not been through its door."""

    def make(
        headers: RawPairs = ((b"host", b"shop.example"),),
        *,
        method: str = "GET",
        peer: str | None = "203.0.113.9",
        trusted: Sequence[str] = (),
        door: Door | None = None,
    ) -> Exchange:
        the_door = Door(CountedRandom(), trust=Trust(trusted)) if door is None else door
        raw = list(headers)
        return Exchange("http", method, "http", Headers(raw), peer, "1.1", {}, the_door, EmptyBody(), 0.0)

    return make


@pytest.fixture
def make_door() -> Callable[..., Door]:
    def make(**settings: object) -> Door:
        return Door(CountedRandom(), **settings)  # type: ignore[arg-type]

    return make
