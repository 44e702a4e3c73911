"""One decision of each rate limiter, asked for the way its own documentation does: in memory, or with a server.

Nothing here is measured. Every way is given the same limits and the same callers, and what a framework would have made
before the decision (the request, the response) is made before it here too.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from itertools import cycle, islice
from typing import Any, NamedTuple

from bench.peers.programs import Module

BUCKET, FIXED, SLIDING = "token_bucket", "fixed_window", "sliding_window"
ALGORITHMS = (BUCKET, FIXED, SLIDING)
UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


class Rate(NamedTuple):
    """So many in so many seconds."""

    amount: int
    seconds: int

    @property
    def text(self) -> str:
        return f"{self.amount}/{UNITS[self.seconds]}"


ONE = (Rate(100_000_000, 3600),)
THREE = (Rate(1_000_000, 1), Rate(10_000_000, 60), Rate(100_000_000, 3600))
"""Nobody is refused by these, and each of the three lets as much pass as the others: the widest is last."""


async def nothing() -> None:
    """Nothing to close."""


class Asked(NamedTuple):
    """A limiter that is ready to decide. `ready` gives so many arguments for `call`, callers in turn."""

    call: Callable[[Any], Any]
    ready: Callable[[int], list[Any]]
    waits: bool
    """Whether `call` gives an awaitable."""
    allowed: Callable[[Any], bool] = bool
    refusals: tuple[type[Exception], ...] = ()
    """What `call` raises where others return."""
    close: Callable[[], Awaitable[Any]] = nothing

    async def once(self, argument: Any) -> bool:
        """Whether this one is let through."""
        try:
            found = self.call(argument)
            return self.allowed(await found if self.waits else found)
        except self.refusals:
            return False


Make = Callable[[str, Sequence[Rate], str | None, int], Asked | None]
"""Algorithm, limits, URL of a server (None: in memory) and how many callers there are. None where it has no such thing."""

NEEDS: Mapping[str, Module] = {
    "limits": Module("limits", "limits>=5.8"),
    "throttled-py": Module("throttled", "throttled-py>=3.5"),
    "pyrate-limiter": Module("pyrate_limiter", "pyrate-limiter>=4.5"),
    "slowapi": Module("slowapi", "slowapi>=0.1.10"),
    "fastapi-limiter": Module("fastapi_limiter", "fastapi-limiter>=0.2"),
}


def address(number: int) -> str:
    """Everybody has one of his own."""
    return f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def in_turn(callers: int, make: Callable[[str], Any] = str) -> Callable[[int], list[Any]]:
    """The callers in turn, each call of it going on where the last one ended; what can be kept is made once."""
    turn = cycle([make(address(number)) for number in range(callers)])
    return lambda count: list(islice(turn, count))


def anew(callers: int, make: Callable[[str], Any]) -> Callable[[int], list[Any]]:
    """The same where each argument is good for one call."""
    turn = cycle([address(number) for number in range(callers)])
    return lambda count: [make(one) for one in islice(turn, count)]


# -- limits


def limits_way(*, waits: bool, told: bool) -> Make:
    """Each limit in turn until one refuses; with `told` also what header fields say of each."""

    def made(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
        if algorithm == BUCKET:
            return None
        limits = import_module("limits")
        package = "limits.aio" if waits else "limits"
        storages = import_module(f"{package}.storage")
        name = "FixedWindowRateLimiter" if algorithm == FIXED else "SlidingWindowCounterRateLimiter"
        if url is None:
            storage = storages.MemoryStorage()
        elif waits:
            storage = storages.RedisStorage(f"async+{url}", implementation="redispy")
        else:
            storage = storages.RedisStorage(url)
        limiter = getattr(import_module(f"{package}.strategies"), name)(storage)
        items = [limits.parse(rate.text) for rate in rates]

        def decided(caller: str) -> bool:
            for item in items:
                if not limiter.hit(item, caller):
                    return False
            if told:
                for item in items:
                    limiter.get_window_stats(item, caller)
            return True

        async def decided_later(caller: str) -> bool:
            for item in items:
                if not await limiter.hit(item, caller):
                    return False
            if told:
                for item in items:
                    await limiter.get_window_stats(item, caller)
            return True

        return Asked(decided_later if waits else decided, in_turn(callers), waits)

    return made


# -- throttled-py


def throttled_way(*, waits: bool, room: int = 10_000_000) -> Make:
    """One object for each limit: its answers say what is left."""

    def made(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
        from datetime import timedelta

        package = import_module("throttled.asyncio" if waits else "throttled")
        quota = import_module("throttled").per_duration
        using = "gcra" if algorithm == BUCKET else algorithm
        memory = {"MAX_SIZE": room}
        store = package.MemoryStore(options=memory) if url is None else package.RedisStore(server=url, options={})
        # The counter of a key is the same one for every quota, so each limit needs keys of its own.
        parts = [
            (
                f":{rate.seconds}",
                package.Throttled(using=using, store=store, quota=quota(timedelta(seconds=rate.seconds), rate.amount)),
            )
            for rate in rates
        ]

        def decided(caller: str) -> bool:
            return all(not one.limit(caller + more).limited for more, one in parts)

        async def decided_later(caller: str) -> bool:
            for more, one in parts:
                if (await one.limit(caller + more)).limited:
                    return False
            return True

        return Asked(decided_later if waits else decided, in_turn(callers), waits)

    return made


# -- pyrate-limiter


def pyrate_limiter(algorithm: str, rates: Sequence[Rate], url: str | None, *, waits: bool) -> Any:
    """Its limiter with a bucket for each name: by itself it has one for all of them. Nothing is leaked in the background,
    which for its logs is less than they need."""
    pyrate: Any = import_module("pyrate_limiter")
    allowed = [pyrate.Rate(rate.amount, rate.seconds * 1000) for rate in rates]
    log = pyrate.FixedWindow() if algorithm == FIXED else pyrate.SlidingWindowLog()
    if url is not None:
        client = import_module("redis.asyncio" if waits else "redis").Redis.from_url(url)

    def bucket(name: str) -> Any:
        if algorithm == BUCKET:
            store = None if url is None else pyrate.RedisStateStore(client, f"pyrate:{algorithm}:{len(rates)}:{name}")
            return pyrate.StateBucket(allowed, store=store)
        if url is None:
            return pyrate.InMemoryBucket(allowed, algorithm=log)
        return pyrate.RedisBucket.init(allowed, client, f"pyrate:{algorithm}:{len(rates)}:{name}", algorithm=log)

    clock = pyrate.MonotonicClock() if url is None else pyrate.WallClock()

    class PerName(pyrate.BucketFactory):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return pyrate.RateItem(name, clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            found = self.buckets.get(item.name)
            if found is None:
                made = bucket(item.name)
                if isinstance(made, Awaitable):
                    return self._kept(item.name, made)
                found = self.buckets[item.name] = made
            return found

        async def _kept(self, name: str, made: Awaitable[Any]) -> Any:
            self.buckets[name] = found = await made
            return found

    return pyrate.Limiter(PerName())


def pyrate_way(*, waits: bool) -> Make:
    def made(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
        limiter = pyrate_limiter(algorithm, rates, url, waits=waits)

        def decided(caller: str) -> Any:
            return limiter.try_acquire(caller, blocking=False)

        def decided_later(caller: str) -> Any:
            return limiter.try_acquire_async(caller, blocking=False)

        return Asked(decided_later if waits else decided, in_turn(callers), waits)

    return made


# -- What belongs to a framework


def scope(caller: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": "/v1/orders/42", "raw_path": b"/v1/orders/42", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"shop.test"), (b"accept", b"*/*"), (b"user-agent", b"bench")], "client": (caller, 50_000),
        "server": ("127.0.0.1", 8000), **more,
    }  # fmt: skip


def slowapi_limiter(algorithm: str, url: str | None, *, fallback: bool = False) -> Any:
    slowapi = import_module("slowapi")
    logging.getLogger("slowapi").setLevel(logging.ERROR)
    return slowapi.Limiter(
        key_func=import_module("slowapi.util").get_remote_address,
        strategy="fixed-window" if algorithm == FIXED else "sliding-window-counter",
        storage_uri=url,
        headers_enabled=True,
        in_memory_fallback_enabled=fallback,
    )


def slowapi_way(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
    """An endpoint that does nothing, decorated; request and response are there already."""
    if algorithm == BUCKET:
        return None
    from starlette.requests import Request
    from starlette.responses import Response

    @slowapi_limiter(algorithm, url).limit(";".join(rate.text for rate in rates))  # type: ignore[untyped-decorator, unused-ignore]
    async def endpoint(request: Request, response: Response) -> None:
        pass

    def decided(given: tuple[Request, Response]) -> Any:
        request, response = given
        return endpoint(request=request, response=response)

    made = anew(callers, lambda caller: (Request(scope(caller)), Response()))
    refusals = (import_module("slowapi.errors").RateLimitExceeded,)
    return Asked(decided, made, True, lambda _: True, refusals)


def fastapi_limiter_way(algorithm: str, rates: Sequence[Rate], url: str | None, callers: int) -> Asked | None:
    """Its dependency, called; with a bucket for each caller, which its own documentation does not have."""
    from fastapi import Depends, FastAPI, HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

    limiter = pyrate_limiter(algorithm, rates, url, waits=True)
    dependency = import_module("fastapi_limiter.depends").RateLimiter(limiter)
    app = FastAPI(openapi_url=None)

    @app.get("/v1/orders/42", dependencies=[Depends(dependency)])
    async def order() -> None:
        pass

    def decided(given: tuple[Request, Response]) -> Any:
        return dependency(*given)

    made = anew(callers, lambda caller: (Request(scope(caller, app=app)), Response()))
    return Asked(decided, made, True, lambda _: True, (HTTPException,))


PEERS: Mapping[str, Make] = {
    "limits, hit": limits_way(waits=False, told=False),
    "limits, hit and stats": limits_way(waits=False, told=True),
    "limits.aio, hit": limits_way(waits=True, told=False),
    "limits.aio, hit and stats": limits_way(waits=True, told=True),
    "throttled-py": throttled_way(waits=False),
    "throttled-py, asyncio": throttled_way(waits=True),
    "pyrate-limiter": pyrate_way(waits=False),
    "pyrate-limiter, async": pyrate_way(waits=True),
    "slowapi, decorated endpoint": slowapi_way,
    "fastapi-limiter, dependency": fastapi_limiter_way,
}
"""Each by what of it is asked. `hit and stats` is what header fields need; the answers of throttled-py have it, those of
pyrate-limiter and fastapi-limiter do not."""


def missing() -> dict[str, str]:
    """The peers that cannot be asked here, and what to do about it."""
    found = {}
    for name in PEERS:
        package = name.partition(",")[0].partition(".")[0]
        told = NEEDS[package].missing()
        if told is not None:
            found[name] = told
    return found
