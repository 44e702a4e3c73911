"""`Reply`: the answer a policy gives instead of carrying on, and how it is written on the wire.

Errors are RFC 9457 problem documents with a stable dotted reason as `code`; a gRPC caller gets a gRPC status
(trailers-only response, status mapping of the gRPC HTTP document). No upstream address, no trace, no header of the
request is ever part of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from gatekit.core.head import ResponseHead
from gatekit.core.headers import encode_name, encode_value

if TYPE_CHECKING:
    from gatekit.core.exchange import Exchange

ErrorShape = Callable[["Exchange", "Reply", ResponseHead], bytes]
"""An application's own body for error replies: it may change the head and returns the body."""

_GRPC_STATUS = {
    400: 13, 401: 16, 403: 7, 404: 12, 408: 4, 409: 10, 413: 8, 429: 8, 499: 1, 501: 12, 502: 14, 503: 14, 504: 4,
}  # fmt: skip


_PHRASES = {
    413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content",
}  # fmt: skip


class Reply:
    """An answer to a client. Not an exception, and not yet bytes: the driver renders it for the caller at hand.

    `reason` is dotted and stable (`rate_limit.exceeded`) and is what logs, metrics and the problem document carry.
    With `body` given, that is sent as it is; otherwise a status of 400 or more becomes a problem document in which
    `members` are extension members.
    """

    __slots__ = ("body", "detail", "headers", "members", "reason", "status")

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str | None = None,
        *,
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
        body: bytes | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = [(encode_name(name), encode_value(value)) for name, value in headers]
        self.body = body
        self.members = members

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.reason!r})"


def render(reply: Reply, exchange: Exchange, shape: ErrorShape | None = None) -> tuple[ResponseHead, bytes]:
    """The head and body that carry `reply` to this caller. The list of headers is the caller's to keep."""
    head = ResponseHead(reply.status, list(reply.headers))
    if reply.body is None and reply.status >= 400:
        if is_grpc(exchange):
            return _grpc(reply, head)
        if shape is not None:
            body = shape(exchange, reply, head)
        else:
            body = _problem(reply, exchange)
            head.set(b"content-type", b"application/problem+json")
            head.set(b"cache-control", b"no-store")
    else:
        body = reply.body or b""
    if head.has_body:
        head.set(b"content-length", b"%d" % len(body))
    else:
        body = b""
    return head, body


def is_grpc(exchange: Exchange) -> bool:
    """Whether the caller speaks gRPC, by its content type."""
    value = exchange.headers.get_bytes(b"content-type")
    if value is None:
        return False
    value = value.lower()
    return value == b"application/grpc" or value.startswith((b"application/grpc+", b"application/grpc;"))


def _problem(reply: Reply, exchange: Exchange) -> bytes:
    document: dict[str, object] = {
        "type": "about:blank",
        "title": phrase(reply.status),
        "status": reply.status,
        "code": reply.reason,
    }
    if reply.detail is not None:
        document["detail"] = reply.detail
    document["request_id"] = exchange.request_id
    if reply.members is not None:
        document.update(reply.members)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def phrase(status: int) -> str:
    """The reason phrase of a status, as RFC 9110 has it: `http` has older ones before Python 3.13."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _grpc(reply: Reply, head: ResponseHead) -> tuple[ResponseHead, bytes]:
    code = _GRPC_STATUS.get(reply.status, 2 if reply.status < 500 else 13)
    head.status = 200
    head.set(b"content-type", b"application/grpc")
    head.set(b"grpc-status", b"%d" % code)
    head.set(
        b"grpc-message", quote(f"{reply.reason}: {reply.detail or phrase(reply.status)}", safe=" :,.'()/-").encode()
    )
    return head, b""
