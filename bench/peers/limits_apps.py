"""The same small app behind each rate limiter, as its own documentation has it: whole requests by direct ASGI calls.

All of them say in header fields what is left, but fastapi-limiter and pyrate-limiter, which cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from bench.peers.limits_ours import spec
from bench.peers.limits_ways import BUCKET, FIXED, NEEDS, Rate, pyrate_limiter, slowapi_limiter
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from gatekit.asgi import Policies

BODY = b'{"id":42,"status":"paid"}'
PATH = "/v1/orders/42"

App = Callable[..., Any]


async def bare_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that does nothing; it is alive for as long as its server is."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({
        "type": "http.response.start", "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": BODY})


def fastapi_app(*dependencies: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get(PATH, dependencies=list(dependencies))
    async def order() -> Response:
        return Response(BODY, media_type="application/json")

    return app


def bare(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    return bare_app


def bare_gatekit(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    return Policies(bare_app, spec(algorithm, rates, url))


def fastapi_open(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    return fastapi_app()


def fastapi_gatekit(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    app = fastapi_app()
    app.add_middleware(Policies, spec(algorithm, rates, url))
    return app


def fastapi_limits(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    """What somebody writes who uses `limits` by hand, in a dependency."""
    limits, storages = import_module("limits"), import_module("limits.aio.storage")
    strategies = import_module("limits.aio.strategies")
    if url is None:
        storage = storages.MemoryStorage()
    else:
        storage = storages.RedisStorage(f"async+{url}", implementation="redispy")
    strategy = "FixedWindowRateLimiter" if algorithm == FIXED else "SlidingWindowCounterRateLimiter"
    limiter = getattr(strategies, strategy)(storage)
    items = [limits.parse(rate.text) for rate in rates]
    app = FastAPI(openapi_url=None)

    async def limited(request: Request) -> int:
        who = request.client.host if request.client else "nobody"
        for item in items:
            if not await limiter.hit(item, who):
                raise HTTPException(429, headers={"retry-after": str(item.get_expiry())})
        left = [(await limiter.get_window_stats(item, who)).remaining for item in items]
        return int(min(left))

    @app.get(PATH)
    async def order(left: int = Depends(limited)) -> Response:
        return Response(BODY, media_type="application/json", headers={"x-ratelimit-remaining": str(left)})

    return app


def slowapi_app(middleware: str | None, *, fallback: bool = False) -> Callable[..., App]:
    """Decorated, or with one of its middlewares and default limits; with its own way of going on without its store."""

    def made(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
        slowapi, errors = import_module("slowapi"), import_module("slowapi.errors")
        limiter = slowapi_limiter(algorithm, url, fallback=fallback)
        text = ";".join(rate.text for rate in rates)
        app = FastAPI(openapi_url=None)
        app.state.limiter = limiter
        app.add_exception_handler(errors.RateLimitExceeded, slowapi._rate_limit_exceeded_handler)

        async def order(request: Request) -> Response:
            return Response(BODY, media_type="application/json")

        if middleware is None:
            order = limiter.limit(text)(order)
        else:
            limiter._default_limits = [
                import_module("slowapi.wrappers").LimitGroup(
                    text, limiter._key_func, None, False, None, None, None, 1, False
                )
            ]
            app.add_middleware(getattr(import_module("slowapi.middleware"), middleware))
        app.get(PATH)(order)
        return app

    return made


def fastapi_limiter_app(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    limiter = pyrate_limiter(algorithm, rates, url, waits=True)
    return fastapi_app(Depends(import_module("fastapi_limiter.depends").RateLimiter(limiter)))


def throttled_app(algorithm: str, rates: Sequence[Rate], url: str | None) -> App:
    """Its decorator, once for each limit, and its middleware for the header fields."""
    from datetime import timedelta

    contrib = import_module("throttled.asyncio.contrib.fastapi")
    package, quota = import_module("throttled.asyncio"), import_module("throttled").per_duration
    memory = {"MAX_SIZE": 1_000_000}
    app = FastAPI(openapi_url=None)
    app.add_middleware(contrib.RateLimitMiddleware)
    app.add_exception_handler(contrib.RateLimitExceededError, contrib.rate_limit_exceeded_handler)

    async def order(request: Request) -> Response:
        return Response(BODY, media_type="application/json")

    for rate in rates:
        # A store for each limit: the same key in one store is one counter, whatever the quota.
        store = package.MemoryStore(options=memory) if url is None else package.RedisStore(server=url, options={})
        limiter = contrib.Limiter(
            quota(timedelta(seconds=rate.seconds), rate.amount),
            using="gcra" if algorithm == BUCKET else algorithm,
            store=store,
            key_func=contrib.get_remote_address if len(rates) == 1 else _by(contrib.get_remote_address, rate),
        )
        order = limiter.limit()(order)
    app.get(PATH)(order)
    return app


def _by(key: Callable[[Any], str], rate: Rate) -> Callable[[Any], str]:
    return lambda request: f"{key(request)}/{rate.seconds}"


APPS: Mapping[str, Callable[[str, Sequence[Rate], str | None], App]] = {
    "bare ASGI, open": bare,
    "bare ASGI, gatekit": bare_gatekit,
    "fastapi, open": fastapi_open,
    "fastapi, gatekit": fastapi_gatekit,
    "fastapi, limits.aio in a dependency": fastapi_limits,
    "fastapi, throttled-py": throttled_app,
    "fastapi, fastapi-limiter": fastapi_limiter_app,
    "fastapi, slowapi decorator": slowapi_app(None),
    "fastapi, slowapi ASGI middleware": slowapi_app("SlowAPIASGIMiddleware"),
    "fastapi, slowapi middleware": slowapi_app("SlowAPIMiddleware"),
    "fastapi, slowapi decorator with fallback": slowapi_app(None, fallback=True),
}


def missing() -> dict[str, str]:
    """The apps that cannot be made here, and what to do about it."""
    found = {}
    for name in APPS:
        package = name.partition(", ")[2].partition(" ")[0].partition(".")[0]
        told = NEEDS[package].missing() if package in NEEDS else None
        if told is not None:
            found[name] = told
    return found
