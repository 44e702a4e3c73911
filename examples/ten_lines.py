"""A whole gateway before an app in this process: `uvicorn ten_lines:gateway`. Run as a script, it asks itself."""

from __future__ import annotations

import asyncio
from typing import Any

from gatekit import ApiKey, Authn, Cluster, Gateway, RateLimit, Route, SecurityHeaders, api_keys


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Any ASGI app: FastAPI, Starlette, Django."""
    body = f"hello {scope['user'].subject}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


gateway = Gateway(
    policies=[SecurityHeaders(), RateLimit("50/second", by="client_ip")],
    routes=[
        Route(
            "GET /hello", to="hello", policies=[Authn(api_keys({"k1": ApiKey(secret="a-long-key", subject="alice")}))]
        ),
    ],
    clusters={"hello": Cluster(app=hello)},
)


async def main() -> None:
    from gatekit.testing import call

    assert (await call(gateway, "GET", "/hello")).status == 401
    assert (await call(gateway, "GET", "/hello", headers={"x-api-key": "a-long-key"})).text == "hello alice\n"
    assert (await call(gateway, "GET", "/nothing")).status == 404
    await gateway.aclose()


if __name__ == "__main__":
    asyncio.run(main())
