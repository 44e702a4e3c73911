"""The admin endpoints, as an ASGI application for a listener of its own. They are never routes of a gateway.

`/live` and `/ready` are for probes and say nothing but yes or no. Whatever says more, or does something, is for this
machine alone, or for who has the token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

from gatekit.core.headers import Headers
from gatekit.errors import ConfigRefused
from gatekit.gateway.status import mean_pressure

if TYPE_CHECKING:
    from gatekit.gateway.gateway import Gateway, Source


class Subject(Protocol):
    """What is administered: one gateway, or an instance with its workers."""

    def ready(self) -> str | None:
        """None when it takes requests, else why it does not."""
        ...

    async def status(self) -> Mapping[str, Any]: ...

    async def saturation(self) -> Mapping[str, Any]:
        """How close to its limits it is, for autoscalers; `{"error": ...}` when that cannot be said."""
        ...

    async def drain(self) -> Mapping[str, Any]:
        """Drain, and tell what became of it once it is over."""
        ...

    async def reload(self) -> Mapping[str, Any]:
        """Read the configuration anew. `{"refused": [...]}` when nothing was changed."""
        ...


class OneGateway:
    """A gateway as `Subject`, for those who run its server themselves. `reading` gives the configuration that `/reload`
    puts in force."""

    def __init__(
        self,
        gateway: Gateway,
        reading: Callable[[], Source] | None = None,
        *,
        grace: float = 5.0,
        timeout: float = 30.0,
    ) -> None:
        self._gateway = gateway
        self._reading = reading
        self._grace = grace
        self._timeout = timeout

    def ready(self) -> str | None:
        return "draining" if self._gateway.draining else None

    async def status(self) -> Mapping[str, Any]:
        return self._gateway.status()

    async def saturation(self) -> Mapping[str, Any]:
        return mean_pressure([self._gateway.pressure()])

    async def drain(self) -> Mapping[str, Any]:
        report = await self._gateway.drain(grace=self._grace, timeout=self._timeout)
        return {"drained": True, "seconds": round(report.seconds, 3), "cut": report.cut, "ended": report.ended}

    async def reload(self) -> Mapping[str, Any]:
        gateway = self._gateway
        if self._reading is None:
            return {"refused": ["this gateway was made in Python: nothing says where to read it anew"]}
        try:
            snapshot = await gateway.reload(self._reading())
        except ConfigRefused as refused:
            return {"refused": [str(problem) for problem in refused.problems], "generation": gateway.generation}
        return {"generation": snapshot.generation, "digest": snapshot.digest}


_Answer = tuple[int, Mapping[str, Any]]


class Admin:
    """GET `/live`, `/ready`, `/status`, `/saturation`; POST `/drain`, `/reload`. Answers are JSON.

    Without a `token`, all but `/live` and `/ready` are open to peers on a Unix socket and on a loopback address
    whose request names a loopback host and comes from no web page: a page in a browser on this machine can do nothing
    (DNS rebinding, cross-site requests). With one, `Authorization: Bearer TOKEN` is asked of everybody.
    """

    def __init__(self, subject: Subject, *, token: str | None = None) -> None:
        """Raises ValueError on a token that would not keep everybody out, or that no header can carry."""
        if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
            raise ValueError("an admin token must have 16 characters or more, printable ASCII without spaces")
        self._subject = subject
        self._token = token
        self._open: dict[str, Callable[[], _Answer]] = {"/live": self._live, "/ready": self._ready}
        self._closed: dict[str, tuple[str, Callable[[Any], Awaitable[_Answer]]]] = {
            "/status": ("GET", self._status),
            "/saturation": ("GET", self._saturation),
            "/drain": ("POST", self._drain),
            "/reload": ("POST", self._reload),
        }
        self._draining: set[Awaitable[Any]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the admin endpoints do not serve {scope['type']!r}")
        status, body = await self._answered(scope)
        text = json.dumps(body, indent=2, default=str).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            headers.append((b"allow", str(body["allow"]).encode("ascii")))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})

    async def _answered(self, scope: Any) -> _Answer:
        path, method = scope["path"], scope["method"]
        probe = self._open.get(path)
        if probe is not None:
            return probe() if method in ("GET", "HEAD") else (405, {"allow": "GET, HEAD"})
        found = self._closed.get(path)
        if found is None:
            return 404, {"endpoints": [*self._open, *self._closed]}
        refusal = self._refusal(scope)
        if refusal is not None:
            return refusal
        wanted, answer = found
        if method != wanted and (method, wanted) != ("HEAD", "GET"):
            return 405, {"allow": "GET, HEAD" if wanted == "GET" else wanted}
        return await answer(scope)

    def _refusal(self, scope: Any) -> _Answer | None:
        headers = Headers(list(scope["headers"]), shared=True)
        if self._token is not None:
            given = headers.get_bytes(b"authorization") or b""
            if hmac.compare_digest(given, b"Bearer " + self._token.encode("ascii")):
                return None
            return 401, {"error": "give the admin token: Authorization: Bearer ..."}
        client = scope.get("client")
        # A peer on a Unix socket has no address: the file's mode says who may connect.
        if client and client[0] and not is_loopback(client[0]):
            return 403, {"error": "without an admin token, this is for the machine itself"}
        host = (headers.get("host") or "").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name not in ("localhost", "") and not is_loopback(name):
            return 403, {"error": "the Host header must name this machine: localhost or a loopback address"}
        if headers.get("origin") is not None or headers.get("sec-fetch-site") not in (None, "none"):
            return 403, {"error": "web pages may not ask this"}
        return None

    def _live(self) -> _Answer:
        return 200, {"live": True}

    def _ready(self) -> _Answer:
        why_not = self._subject.ready()
        return (200, {"ready": True}) if why_not is None else (503, {"ready": False, "reason": why_not})

    async def _status(self, scope: Any) -> _Answer:
        return 200, await self._subject.status()

    async def _saturation(self, scope: Any) -> _Answer:
        """Never a number that stands for not knowing: an autoscaler would take the instances away."""
        found = await self._subject.saturation()
        return (503 if "error" in found else 200), found

    async def _drain(self, scope: Any) -> _Answer:
        """Answers when it is over, which is what a preStop hook waits for; `?wait=false` answers at once."""
        draining = asyncio.ensure_future(self._subject.drain())
        if parse_qs(scope.get("query_string", b"").decode("latin-1")).get("wait") == ["false"]:
            self._draining.add(draining)
            draining.add_done_callback(self._draining.discard)
            return 202, {"draining": True}
        # Whoever asked may leave; the drain goes on.
        return 200, await asyncio.shield(draining)

    async def _reload(self, scope: Any) -> _Answer:
        outcome = await self._subject.reload()
        return (409 if "refused" in outcome else 200), outcome


def is_loopback(text: str) -> bool:
    """Whether that is an address of this machine alone."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


__all__ = ["Admin", "Subject"]
