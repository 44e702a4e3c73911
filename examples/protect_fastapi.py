"""Policies in front of a FastAPI app that exists already: `uvicorn protect_fastapi:app`."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from gatekit import RateLimit, SecurityHeaders, Telemetry
from gatekit.asgi import Policies

app = FastAPI()
app.add_middleware(Policies, Telemetry(), SecurityHeaders(), RateLimit("2/minute", by="client_ip"))


@app.get("/")
async def index() -> dict[str, str]:
    return {"hello": "world"}


async def main() -> None:
    from gatekit.testing import call

    statuses = [(await call(app, "GET", "/")).status for _ in range(3)]
    assert statuses == [200, 200, 429], statuses


if __name__ == "__main__":
    asyncio.run(main())
