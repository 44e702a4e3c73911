"""What the upstream got, held against what the policies saw: every byte must be part of a request that they saw."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .sink import Connection
from .strict import CHUNKED, Request, take_head

Entry = dict[str, Any]

TAG = re.compile(rb"/[pshce]/([wtbc][0-9]{4})")
OURS = {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "x-request-id"}
"""What the gateway says itself, once each, in place of whatever the client said."""
FRAMING = {"content-length", "transfer-encoding"}
HANDSHAKE = {
    "connection", "upgrade", "sec-websocket-version", "sec-websocket-key", "sec-websocket-extensions",
    "sec-websocket-protocol",
}  # fmt: skip
"""What a WebSocket handshake has of its own (RFC 6455 section 4.1)."""


@dataclass(frozen=True)
class Finding:
    """Something that may not be. `tags` say of which visits."""

    tags: frozenset[str]
    text: str


def tags_in(data: bytes) -> frozenset[str]:
    return frozenset(tag.decode() for tag in TAG.findall(data))


def judge(
    entries: Iterable[Entry], connections: Iterable[Connection], sink_host: str, earlier: frozenset[str] = frozenset()
) -> list[Finding]:
    """Every difference between the policies' record and the upstream's; `earlier` are ids of what is not looked at."""
    seen = {entry["id"]: entry for entry in entries}
    forwarded: Counter[str] = Counter()
    findings = []
    for connection in connections:
        for request in connection.requests:
            if earlier.issuperset(request.all("x-request-id")):
                continue
            texts = _request(request, seen, forwarded, sink_host, whole=True)
            about = f"{request.target} {request.headers}".encode() + request.body
            findings += [Finding(tags_in(about), text) for text in texts]
        findings += [Finding(tags_in(connection.rest), text) for text in _rest(connection, seen, forwarded, sink_host)]
    for id, entry in seen.items():
        if id in earlier:
            continue
        for text in _exchange(entry, forwarded[id]):
            findings.append(Finding(tags_in(f"{entry['target']} {entry['headers']}".encode()), text))
    return findings


def _rest(connection: Connection, seen: dict[str, Entry], forwarded: Counter[str], host: str) -> Iterable[str]:
    """What came last: no request, or the beginning of one that the gateway gave up."""
    if connection.malformed is not None:
        yield f"the upstream was sent what is no request: {connection.malformed}; {connection.rest[:600]!r}"
        return
    begun = take_head(connection.rest)
    if begun is not None:
        request, length, rest = begun
        body = b"" if length == CHUNKED else rest
        yield from _request(Request(request.method, request.target, request.headers, body), seen, forwarded, host)


def _request(
    request: Request, seen: dict[str, Entry], forwarded: Counter[str], host: str, *, whole: bool = False
) -> Iterable[str]:
    ids = request.all("x-request-id")
    if len(ids) != 1 or ids[0] not in seen:
        yield f"a request that no policy saw: {request}"
        return
    entry = seen[ids[0]]
    forwarded[ids[0]] += 1
    if (request.method, request.target) != (entry["method"], entry["target"]):
        yield f"the policies saw {entry['method']} {entry['target']}, the upstream {request.method} {request.target}"
    body = request.body.decode("latin-1")
    if body != entry["body"] if whole else not entry["body"].startswith(body):
        yield f"the destination was given the body {entry['body'][:200]!r}, the upstream {body[:200]!r}"
    handshake = HANDSHAKE if entry["kind"] == "websocket" else set()
    trailers = (
        {"te", "connection"} if request.all("te") == ["trailers"] and request.all("connection") == ["te"] else set()
    )
    passed = Counter(pair for pair in request.headers if pair[0] not in OURS | FRAMING | handshake | trailers)
    unseen = passed - Counter((name.lower(), value.strip(" \t")) for name, value in entry["headers"])
    if unseen:
        yield f"headers that no policy saw: {sorted(unseen)}"
    odd = [
        name for name, _ in request.headers if (same := re.sub("[_.]", "-", name)) != name and same in OURS | FRAMING
    ]
    if odd:
        yield f"another spelling of what the gateway says: {odd}"
    for name in OURS:
        if len(request.all(name)) != 1:
            yield f"{name} is there {len(request.all(name))} times: {request.headers}"
    if request.all("host") != [host] or request.all("x-forwarded-for") != ["127.0.0.1"]:
        yield f"the client wrote what the gateway says: {request.headers}"


def _exchange(entry: Entry, times: int) -> Iterable[str]:
    answered = entry.get("answered")
    if answered is not None and answered != entry["id"]:
        yield f"exchange {entry['id']} {entry['target']} got the answer to {answered}"
    if times > 1:
        yield f"exchange {entry['id']} {entry['target']} was sent {times} times"
    if answered is not None and not times:
        yield f"exchange {entry['id']} {entry['target']} got an answer and was never sent"
