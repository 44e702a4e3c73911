"""What the real servers serve: a gateway whose routes lead to what the test listens on, and a record of what its first
policy saw.

What it needs to know of upstreams comes from the environment. A GET of `/records` outside of the gateway tells the
record. Paths below `/s/` have their bodies buffered before they go on, those below `/i/` tell the upstream who calls,
those below `/f/` lead to upstreams that fail, each in its way; everything else is streamed to the sink, however long.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import ssl
from typing import Any, ClassVar

from gatekit import ApiKey, Authn, Cluster, Gateway, Route, api_keys
from gatekit.core.exchange import Body, Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.outcome import Outcome
from gatekit.core.policy import Placement, Spec, Stage

if os.environ.get("GATEKIT_DIES_WITH_PARENT"):
    # Servers start workers of their own; no worker may outlive the process that started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)

RECORD: list[dict[str, Any]] = []
"""One entry for each exchange, in the order in which they came."""


class _RecordedBody:
    """A request body that notes down what the destination was given of it."""

    def __init__(self, inner: Body, entry: dict[str, Any]) -> None:
        self._inner = inner
        self._entry = entry

    @property
    def data(self) -> bytes | None:
        return self._inner.data

    @property
    def limit(self) -> int | None:
        return self._inner.limit

    @property
    def length(self) -> int | None:
        return self._inner.length

    def abandon(self) -> None:
        self._inner.abandon()

    async def buffer(self, cap: int) -> bytes | None:
        found = await self._inner.buffer(cap)
        self._entry["body"] = "" if found is None else found.decode("latin-1")
        return found

    async def read(self) -> bytes:
        part = await self._inner.read()
        self._entry["body"] += part.decode("latin-1")
        return part


class Watching(Spec):
    """Writes down every exchange as a policy sees it, and how it ended."""

    kind: ClassVar[str] = "watching"

    def placement(self) -> Placement:
        return Placement(Stage.OBSERVE)

    def decide(self, exchange: Exchange) -> None:
        entry: dict[str, Any] = {
            "id": exchange.request_id,
            "kind": exchange.kind,
            "method": exchange.method,
            "target": (exchange.raw_path + (b"?" + exchange.query if exchange.query else b"")).decode("latin-1"),
            "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.headers],
            "body": "",
        }
        RECORD.append(entry)
        exchange.facts["watched"] = entry
        exchange.body = _RecordedBody(exchange.body, entry)  # type: ignore[assignment]

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        exchange.facts["watched"]["answered"] = head.get("x-saw")

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        exchange.facts["watched"]["status"] = outcome.status


class Holding(Spec):
    """Wants the whole body first, as an inspecting policy does."""

    kind: ClassVar[str] = "holding"
    needs_body: ClassVar[int] = 1024 * 1024

    def placement(self) -> Placement:
        return Placement(Stage.INSPECT)


def failing(at: dict[str, Any]) -> dict[str, Cluster]:
    """Clusters that give no good answer, by name. Each names an endpoint that no client may hear of."""
    faulty, tls, refused, deaf = (f"localhost:{at[name]}" for name in ("faulty", "tls", "refused", "deaf"))
    return {
        "orders-faulty": Cluster(f"http://{faulty}"),
        "orders-hasty": Cluster(f"http://{faulty}", timeout=0.15),
        "orders-refused": Cluster(f"http://{refused}"),
        "orders-deaf": Cluster(f"http://{deaf}", connect_timeout=0.15),
        "orders-unknown": Cluster(f"http://orders-backend.invalid:{at['refused']}", connect_timeout=0.15),
        "orders-nosocket": Cluster("unix:/nonexistent/orders-backend.sock"),
        "orders-untrusted": Cluster(f"https://{tls}"),
        "orders-misnamed": Cluster(
            f"https://{tls}", tls_context=lambda: ssl.create_default_context(cafile=at["authority"])
        ),
        "orders-plain": Cluster(f"https://{faulty}"),
    }


SINK = Cluster(f"http://127.0.0.1:{os.environ['GATEKIT_TEST_SINK']}", timeout=3.0)
FAILING = failing(json.loads(os.environ["GATEKIT_TEST_FAULTS"]))
ALICE = Authn(
    api_keys({"k1": ApiKey(os.environ["GATEKIT_TEST_KEY"], subject="alice")}),
    optional=True,
    identity_headers={"x-user-id": "subject"},
)

gateway = Gateway(
    policies=[Watching()],
    routes=[
        Route("/*", to="sink", max_body="unlimited"),
        Route("/s/*", to="sink", policies=[Holding()]),
        Route("/i/*", to="sink", policies=[ALICE]),
        *(Route(f"/f/{name}/*", to=name) for name in FAILING),
    ],
    clusters={"sink": SINK, **FAILING},
    # Nobody the tests can be: what only such a peer may say is taken from everybody.
    trusted_proxies=["192.0.2.0/24"],
    client_ip_header="cf-connecting-ip",
)
wsgi_gateway = gateway.wsgi()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The gateway, and what tells about it."""
    if scope["type"] != "http" or scope["path"] != "/records":
        await gateway(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(RECORD).encode()})


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """The same under WSGI."""
    if environ["PATH_INFO"] != "/records":
        return wsgi_gateway(environ, start_response)
    told = json.dumps(RECORD).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(told)))])
    return [told]
