"""What goes on to a destination and what comes back: header rules as pure functions, no I/O.

Order matters. What belongs to the client's hop goes first: the fixed list and whatever the client named in
`Connection`. Only then is added what the gateway says itself, so that no client can have it removed. Framing
(Content-Length, Transfer-Encoding) is derived from the body at hand and never copied.

Sources: RFC 9110 sections 7.6 (Connection, Via, hop-by-hop), 8.6 (Content-Length) and 10.1.4 (TE), RFC 7239
(Forwarded). `Via` is added to requests only: RFC 9110 asks it of a gateway there and leaves responses free.
"""

from __future__ import annotations

import re
from typing import Final

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders, Shape, fold, is_told
from gatekit.core.peers import unmapped
from gatekit.core.verdict import is_grpc
from gatekit.errors import UpstreamError

CHUNKED: Final = -1
"""The length of a request body that nobody declared: it is sent chunked."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip

_NOT_RELAYED: Final = HOP_BY_HOP | {b"content-length"}
# With a 304 a length may be sent (RFC 9110 section 8.6), and servers then wait for a body that does not come.
_BODILESS: Final = (204, 304)
_LOCATING: Final = frozenset({201, 202, 300, 301, 302, 303, 305, 307, 308})
_PLAIN_CONNECTION: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})

_PASS, _DROP, _FORWARDING, _CONNECTION, _TE = range(5)
_REMADE = frozenset({b"content-length", b"expect", b"host", b"x-request-id"})
_WEBSOCKET = b"sec-websocket-"
_KINDS_KEPT = 1024
_CONTENT_IS_EXPECTED = frozenset({"PATCH", "POST", "PUT"})
_NOT_IN_TRAILERS = HOP_BY_HOP | _REMADE | {b"authorization", b"content-encoding", b"content-type", b"set-cookie"}
_ABSOLUTE = re.compile(rb"(https?:|)//([^/?#]*)", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PSEUDONYM = b"gatekit"

_NONE: Final = -1
_ODD: Final = -2
_TE_TRAILERS: Final = (b"te", b"trailers")
_pair_text: Final = b": ".join

_kinds: dict[bytes, int] = {}
# What the gateway says of itself depends on four things that a client seldom changes.
_forwarding: dict[tuple[str | None, str, str, str], tuple[RawHeaders, bytes]] = {}


def forward_headers(exchange: Exchange, host: bytes) -> RawHeaders:
    """The headers the destination gets, `Host` first, without framing. The list is the caller's.

    `host` is used unless a policy asked for another one. Headers from `exchange.headers` keep their order.
    """
    target_host = exchange.target_host
    out, own, _ = _carried(exchange, host if target_host is None else target_host)
    out += own
    out.append((b"x-request-id", exchange.request_id.encode("latin-1")))
    return out


def _carried(exchange: Exchange, host: bytes) -> tuple[RawHeaders, RawHeaders, bytes]:
    """Host and what the client sent and may go on; what the gateway says of this hop, also as lines of text."""
    out: RawHeaders = [(b"host", host)]
    headers = exchange.headers
    shape = headers.shape
    if shape is not None and headers.raw is headers.origin:
        places, connection = shape.carried or _carry(shape, headers.raw)
        if connection == _NONE or (connection >= 0 and headers.raw[connection][1] in _PLAIN_CONNECTION):
            raw = headers.raw
            for place in places:
                out.append(raw[place])
            key = (exchange.peer, exchange.scheme, exchange.authority, exchange.http_version)
            return out, *(_forwarding.get(key) or _own_forwarding(key))
    incoming: RawHeaders | None = None
    named: list[bytes] | None = None
    trailers = False
    kinds = _kinds
    for pair in exchange.headers.raw:
        kind = kinds.get(pair[0])
        if kind is None:
            kind = _kind(pair[0])
        if kind == _PASS:
            out.append(pair)
        elif kind == _FORWARDING:
            incoming = incoming or []
            incoming.append(pair)
        elif kind == _CONNECTION:
            if pair[1] not in _PLAIN_CONNECTION:
                named = named or []
                named.append(pair[1])
        elif kind == _TE:
            trailers = trailers or b"trailers" in pair[1].lower()
    if named is not None:
        names = connection_names(named)
        if names:
            out = _without_named(exchange, out, names)
    if trailers and is_grpc(exchange):
        out.append((b"te", b"trailers"))
    if incoming is not None and exchange.door.trust.trusts(exchange.peer):
        own = _continued_forwarding(exchange, incoming)
        return out, own, _text(own)
    key = (exchange.peer, exchange.scheme, exchange.authority, exchange.http_version)
    return out, *(_forwarding.get(key) or _own_forwarding(key))


def _carry(shape: Shape, raw: RawHeaders) -> tuple[tuple[int, ...], int]:
    """Which headers of that shape go on as they are, and the place of its one Connection: _NONE where there is none,
    _ODD where more has to be looked at than that one's value."""
    kinds = [_kinds.get(name) or _kind(name) for name, _ in raw]
    connections = kinds.count(_CONNECTION)
    if _FORWARDING in kinds or _TE in kinds or connections > 1:
        connection = _ODD
    else:
        connection = kinds.index(_CONNECTION) if connections else _NONE
    shape.carried = (tuple(place for place, kind in enumerate(kinds) if kind == _PASS), connection)
    return shape.carried


def body_length(exchange: Exchange) -> int:
    """How many bytes of body go on; CHUNKED where nobody knows, 0 where there is none."""
    body = exchange.body
    data = body.data
    if data is not None:
        return len(data)
    length = body.length
    return CHUNKED if length is None else length


def add_framing(exchange: Exchange, headers: RawHeaders, length: int) -> None:
    """Say in HTTP/1.1 how long the body is. A request without content says so only where content is expected."""
    if length > 0 or (length == 0 and exchange.method in _CONTENT_IS_EXPECTED):
        headers.append((b"content-length", b"%d" % length))
    elif length == CHUNKED:
        headers.append((b"transfer-encoding", b"chunked"))


def request_target(exchange: Exchange) -> bytes:
    """Path and query as they go on the request line; both were checked at the door and at every rewrite."""
    query = exchange.target_query
    return b"%b?%b" % (exchange.target_path, query) if query else exchange.target_path


def request_head(exchange: Exchange, host: bytes) -> tuple[bytes, int]:
    """The head of an HTTP/1.1 request as bytes, and the length of the body that follows it (see `body_length`)."""
    path, query, target_host = exchange.target
    headers, _, own = _carried(exchange, host if target_host is None else target_host)
    method = exchange.method
    body = exchange.body
    length = 0 if body.length == 0 and body.data is None else body_length(exchange)
    if headers[-1] == _TE_TRAILERS:
        headers.append((b"connection", b"te"))
    if length or method in _CONTENT_IS_EXPECTED:
        add_framing(exchange, headers, length)
    request_id = exchange.request_id.encode("latin-1")
    if query:
        path += b"?" + query
    line = method.encode("latin-1") + b" " + path + b" HTTP/1.1"
    # Adding and joining bytes takes half the time that formatting them does.
    return b"\r\n".join((line, *map(_pair_text, headers), own, b"x-request-id: " + request_id, b"", b"")), length


def websocket_headers(exchange: Exchange, host: bytes) -> RawHeaders:
    """The headers of a WebSocket handshake, without those that each hop writes itself."""
    return [pair for pair in forward_headers(exchange, host) if not pair[0].startswith(_WEBSOCKET)]


def upgrade_headers(raw: RawHeaders) -> RawHeaders:
    """The headers of a 101 response that may travel on: those of the handshake are each hop's own, and so is Date: servers
    add theirs, and one of them (uvicorn on the old protocol of `websockets`) fails on a second."""
    return [pair for pair in response_headers(200, raw) if not pair[0].startswith(_WEBSOCKET) and pair[0] != b"date"]


def response_headers(status: int, raw: RawHeaders) -> RawHeaders:
    """The headers of a response that may travel on. The driver writes framing; a length stays only if it can be true.

    Raises UpstreamError (502) on a status outside 200-599 and on lengths that contradict each other.
    """
    if not 200 <= status <= 599:
        raise UpstreamError("upstream.bad_response", f"status {status}", sent=True)
    out: RawHeaders = []
    named: list[bytes] | None = None
    coded = False
    length: bytes | None = None
    for pair in raw:
        name = pair[0]
        if name not in _NOT_RELAYED:
            out.append(pair)
        elif name == b"content-length":
            value = pair[1]
            if not value.isdigit() or (length is not None and length != value):
                raise UpstreamError("upstream.bad_response", "contradicting Content-Length", sent=True)
            length = value
        elif name == b"connection":
            if pair[1] not in _PLAIN_CONNECTION:
                named = named or []
                named.append(pair[1])
        elif name == b"transfer-encoding":
            coded = True
    if named is not None:
        names = connection_names(named)
        out = [pair for pair in out if pair[0] not in names]
    if length is not None and not coded and status not in _BODILESS:
        # A 205 has no body, whatever the upstream thinks (RFC 9110 section 15.3.6).
        out.append((b"content-length", b"0" if status == 205 else length))
    return out


def relocated(status: int, headers: RawHeaders, sent: bytes, exchange: Exchange) -> None:
    """Let a Location that names the host which the destination was sent name the one that the client asked for.

    An upstream that makes absolute URLs of its Host header would otherwise tell every client its address.
    """
    if status not in _LOCATING:
        return
    asked = exchange.authority.encode("latin-1")
    host = exchange.target_host or sent
    if host == asked:
        return
    for place, (name, value) in enumerate(headers):
        if name == b"location":
            found = _ABSOLUTE.match(value)
            if found is not None and found[2].lower() == host.lower():
                scheme = found[1] and (b"https:" if exchange.scheme == "https" else b"http:")
                headers[place] = (name, b"%b//%b%b" % (scheme, asked, value[found.end() :]))


def response_trailers(raw: RawHeaders) -> RawHeaders:
    """The trailer fields that may travel on: none that frame, route or authenticate (RFC 9110 section 6.5.1)."""
    return [pair for pair in raw if pair[0] not in _NOT_IN_TRAILERS]


def connection_names(values: list[bytes]) -> frozenset[bytes]:
    """The header names that these Connection lines list, in lower case, connection options left out."""
    names = {name.strip().lower() for value in values for name in value.split(b",")}
    return frozenset(names - {b"", b"close", b"keep-alive", b"upgrade", b"te"})


def _kind(name: bytes) -> int:
    """What becomes of a header of that name. Spellings that somebody could take for one of ours are dropped."""
    folded = fold(name)
    forwarding = folded == b"via" or is_told(name)
    if folded != name:
        kind = _DROP if forwarding or folded in HOP_BY_HOP or folded in _REMADE else _PASS
    elif forwarding:
        kind = _FORWARDING
    elif name == b"connection":
        kind = _CONNECTION
    elif name == b"te":
        kind = _TE
    else:
        kind = _DROP if name in HOP_BY_HOP or name in _REMADE else _PASS
    if len(_kinds) < _KINDS_KEPT:
        _kinds[name] = kind
    return kind


def _without_named(exchange: Exchange, out: RawHeaders, names: frozenset[bytes]) -> RawHeaders:
    """Without what the client's Connection named, as far as the client sent it.

    A policy's header is another object than any that came from the server, even where the client guessed its value. Of
    nested drivers the outermost knows what came. Nested under WSGI headers are made anew: equal values have to do.
    """
    root = exchange
    while root.parent is not None:
        root = root.parent
    came = root.headers.origin
    if root is not exchange and "wsgi.input" in root.scope:
        return [pair for pair in out if pair[0] not in names or pair not in came or pair[0] == b"host"]
    sent = {id(pair) for pair in came}
    return [pair for pair in out if pair[0] not in names or id(pair) not in sent]


def _own_forwarding(key: tuple[str | None, str, str, str]) -> tuple[RawHeaders, bytes]:
    """X-Forwarded-*, Forwarded and Via for (peer, scheme, authority, HTTP version), nothing of a client's in them."""
    address, proto, authority, element, via = _hop(*key)
    out: RawHeaders = [(b"x-forwarded-for", address)] if address else []
    out.append((b"x-forwarded-proto", proto))
    out.append((b"x-forwarded-host", authority))
    out.append((b"forwarded", element))
    out.append((b"via", via))
    if len(_forwarding) >= _KINDS_KEPT:
        _forwarding.clear()
    found = _forwarding[key] = (out, _text(out))
    return found


def _text(headers: RawHeaders) -> bytes:
    return b"\r\n".join(map(_pair_text, headers))


def _continued_forwarding(exchange: Exchange, incoming: RawHeaders) -> RawHeaders:
    """The same behind a trusted peer: its own are continued."""
    out: RawHeaders = []
    address, proto, authority, element, via = _hop(
        exchange.peer, exchange.scheme, exchange.authority, exchange.http_version
    )
    chains: dict[bytes, list[bytes]] = {b"x-forwarded-for": [], b"forwarded": [], b"via": []}
    seen = set()
    for pair in incoming:
        seen.add(pair[0])
        if pair[0] in chains:
            chains[pair[0]].append(pair[1])
        else:
            out.append(pair)
    if address:
        chains[b"x-forwarded-for"].append(address)
    chains[b"forwarded"].append(element)
    chains[b"via"].append(via)
    out.extend((name, b", ".join(values)) for name, values in chains.items() if values)
    if b"x-forwarded-proto" not in seen:
        out.append((b"x-forwarded-proto", proto))
    if b"x-forwarded-host" not in seen:
        out.append((b"x-forwarded-host", authority))
    return out


def _hop(peer: str | None, scheme: str, authority: str, version: str) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """What this hop says: the peer's address, protocol, host, its element of Forwarded and of Via."""
    address = (unmapped(peer) or "").encode("latin-1", "replace")
    proto = b"https" if scheme in ("https", "wss") else b"http"
    host = authority.encode("latin-1")
    element = b"for=%b;host=%b;proto=%b" % (_node(address), _quoted(host), proto)
    return address, proto, host, element, b"%b %b" % (version.encode("latin-1"), _PSEUDONYM)


def _node(address: bytes) -> bytes:
    """An RFC 7239 node: IPv6 in brackets and quotes, `unknown` for a peer without an address."""
    if not address:
        return b"unknown"
    return b'"[%b]"' % address if b":" in address else _quoted(address)


def _quoted(value: bytes) -> bytes:
    if _TOKEN.fullmatch(value):
        return value
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
