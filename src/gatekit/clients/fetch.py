"""`HttpFetch`, the Fetch port over HTTP/1.1: key sets, introspection, discovery, on somebody else's word.

Every connection goes through the guarded dialer. Nothing is remembered between calls but idle connections: there is
no cookie jar, no cache, no proxy out of the environment. Compressed answers are neither asked for nor taken, so that
the cap on a body is a cap on memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final, TypedDict
from weakref import WeakKeyDictionary

import httpcore

from gatekit.clients.addresses import AddressRules, TargetRefused
from gatekit.clients.dial import DialFailed, GuardedDialer
from gatekit.clients.eyeballs import Connect, Resolve, open_socket, system_resolve
from gatekit.clients.links import Links
from gatekit.clients.urls import Url, join_url, read_url
from gatekit.core.ports import PUBLIC, Fetched, Reach
from gatekit.errors import StoreUnavailable, StoreUnreached

MAX_REDIRECTS: Final = 3

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OURS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding",
     "upgrade"}
)  # fmt: skip
"""Headers that say how a message is framed and where it goes: what a caller gives under these names is left out."""
_TRAVELS: Final = frozenset({"accept", "accept-language", "user-agent"})
"""What follows a redirect to another origin. Any other header may be a credential."""
_FAILURES: Final = (
    DialFailed,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    OSError,
    UnicodeError,
)


class FetchRefused(TargetRefused, StoreUnavailable):
    """The rules forbid this URL, a redirect's target, or an address of its host; nothing was sent there."""


class _Dialling(TypedDict):
    resolve: Resolve
    connect: Connect
    connect_timeout: float


class HttpFetch:
    """`Fetch` from where `guard` allows. May be used from any loop, also from several at once.

    `guard` is public addresses over https unless an operator writes something else, such as
    `AddressRules.trusted("10.0.0.0/8")` for an identity provider in a private network. `tls` verifies certificates,
    by default against the system's trust store. `max_body` caps an answer, in bytes.
    """

    def __init__(
        self,
        *,
        guard: AddressRules | None = None,
        tls: ssl.SSLContext | None = None,
        max_body: int = 1_048_576,
        resolve: Resolve = system_resolve,
        connect: Connect = open_socket,
        connect_timeout: float = 5.0,
    ) -> None:
        self.guard = AddressRules() if guard is None else guard
        self._dialling: _Dialling = {"resolve": resolve, "connect": connect, "connect_timeout": connect_timeout}
        self._dialer = GuardedDialer(self.guard, **self._dialling)
        self._tls = tls
        self._max_body = max_body
        self._reaching: dict[Reach, HttpFetch] = {}
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, Links] = WeakKeyDictionary()

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 5.0,
        reach: Reach = PUBLIC,
    ) -> Fetched:
        """The answer, whatever its status. Redirects of GET and HEAD are followed, at most three, never to http; those of a
        request with a body, and be it an empty one (`b""`), are not.

        `reach` names networks that may be connected to besides those of `guard`, and who signs certificates there.

        Raises FetchRefused (a StoreUnavailable) when the guard refuses, StoreUnavailable when no whole answer came
        within `timeout` seconds, redirects included, or when it is longer than the cap.
        """
        if reach != PUBLIC:
            return await self._for(reach)(method, url, headers=headers, body=body, timeout=timeout)
        try:
            first = self._admitted(read_url(url))
            # Before the time runs: the first call loads the trust store.
            self._here()
            try:
                async with asyncio.timeout(timeout):
                    return await self._follow(method, first, headers, body)
            except TimeoutError:
                raise StoreUnavailable(f"{first.origin}: no answer within {timeout} s") from None
        except TargetRefused as error:
            raise FetchRefused(error.host, error.why, address=error.address, range=error.range) from error

    async def aclose(self) -> None:
        """Close the connections of the running loop. The next call opens new ones; those of other loops are left."""
        for other in list(self._reaching.values()):
            await other.aclose()
        links = self._links.pop(asyncio.get_running_loop(), None)
        if links is not None:
            await links.aclose()

    def _for(self, reach: Reach) -> HttpFetch:
        """The same with that reach: its connections are its own, for nobody may come by one that he may not open."""
        found = self._reaching.get(reach)
        if found is None:
            guard = self.guard
            if reach.networks:
                guard = AddressRules.trusted(*reach.networks, *map(str, guard.allow))
            try:
                tls = self._tls if reach.ca is None else ssl.create_default_context(cafile=reach.ca)
            except OSError as error:
                # Also what ssl says of a file that holds no certificates. It may be there the next time.
                raise StoreUnavailable(f"{reach.ca} is no file of certificates that can be read: {error}") from None
            made = HttpFetch(guard=guard, tls=tls, max_body=self._max_body, **self._dialling)
            # Of two threads that make one at once, both take the first.
            found = self._reaching.setdefault(reach, made)
        return found

    def _admitted(self, url: Url) -> Url:
        """The URL, if its scheme is allowed; the dialer judges its port and its addresses."""
        self.guard.check_scheme(url.host, url.scheme)
        return url

    async def _follow(self, method: str, url: Url, headers: Sequence[tuple[str, str]], body: bytes | None) -> Fetched:
        sent = [(name, value) for name, value in headers if name.lower() not in _OURS]
        follow = method in ("GET", "HEAD") and body is None
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._once(method, url, sent, body, follow=follow)
            except _FAILURES as error:
                unsent = isinstance(error, (DialFailed, httpcore.ConnectError))
                kind = StoreUnreached if unsent else StoreUnavailable
                raise kind(f"{url.origin}: {error}") from error
            if not isinstance(answer, str):
                return answer
            there = self._admitted(join_url(url, answer))
            if url.scheme == "https" and there.scheme != "https":
                raise TargetRefused(there.host, f"{url.origin} redirects from https to http")
            if there.origin != url.origin:
                sent = [(name, value) for name, value in sent if name.lower() in _TRAVELS]
            url = there
        raise StoreUnavailable(f"{url.origin}: more than {MAX_REDIRECTS} redirects")

    async def _once(
        self, method: str, url: Url, headers: Sequence[tuple[str, str]], body: bytes | None, *, follow: bool
    ) -> Fetched | str:
        """One request: its answer, or the Location of a redirect that is to be followed."""
        request = httpcore.Request(
            method.encode("ascii"),
            httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=_framed(url, headers, method, body),
            content=body,
        )
        async with self._here().to(url) as connection:
            response = await connection.handle_async_request(request)
            try:
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if follow and response.status in _REDIRECTS and "location" in found:
                    return found["location"]
                return Fetched(response.status, found, await self._body(url, response, found))
            finally:
                await response.aclose()

    async def _body(self, url: Url, response: httpcore.Response, headers: dict[str, str]) -> bytes:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise StoreUnavailable(f"{url.origin}: the answer is compressed, though identity was asked for")
        received = bytearray()
        async for part in response.aiter_stream():
            received += part
            if len(received) > self._max_body:
                raise StoreUnavailable(f"{url.origin}: the answer is longer than {self._max_body} bytes")
        return bytes(received)

    def _here(self) -> Links:
        """The connections of the running loop. Loops that were closed without a word are forgotten then.

        No lock: a loop touches its own entry only, and a closed one is nobody's.
        """
        loop = asyncio.get_running_loop()
        links = self._links.get(loop)
        if links is None:
            for reference in self._links.keyrefs():
                other = reference()
                if other is not None and other.is_closed():
                    self._links.pop(other, None)
            if self._tls is None:
                self._tls = ssl.create_default_context()
            links = self._links[loop] = Links(self._dialer, self._tls)
        return links


def _framed(url: Url, headers: Sequence[tuple[str, str]], method: str, body: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers as they are sent."""
    framed = [("host", url.authority), ("accept-encoding", "identity")]
    if body is not None or method in ("POST", "PUT", "PATCH"):
        framed.append(("content-length", str(len(body or b""))))
    if not any(name.lower() == "user-agent" for name, _ in headers):
        framed.append(("user-agent", "gatekit"))
    framed += headers
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in framed]
