"""Replies on the wire: problem documents, gRPC, bodies given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.verdict import Reply, is_grpc, render


def test_an_error_is_a_problem_document(make_exchange: Any) -> None:
    reply = Reply(429, "rate_limit.exceeded", "Too often.", headers=[("Retry-After", "3")], members={"limit": 5})
    head, body = render(reply, make_exchange())
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "code": "rate_limit.exceeded",
        "detail": "Too often.",
        "request_id": "00000000000000000000000000000001",
        "limit": 5,
    }
    assert dict(head.raw) == {
        b"retry-after": b"3",
        b"content-type": b"application/problem+json",
        b"cache-control": b"no-store",
        b"content-length": str(len(body)).encode(),
    }
    assert repr(reply) == "Reply(429, 'rate_limit.exceeded')"


def test_members_may_name_the_problem_type(make_exchange: Any) -> None:
    _, body = render(Reply(499, "x", members={"type": "https://example.com/p"}), make_exchange())
    document = json.loads(body)
    assert (document["type"], document["title"]) == ("https://example.com/p", "Error")
    assert "detail" not in document


def test_rendering_leaves_the_reply_as_it_was(make_exchange: Any) -> None:
    assert json.loads(render(Reply(403, "authz.denied"), make_exchange())[1])["code"] == "authz.denied"
    reply = Reply(204, "ok", headers=[("a", "b")])
    head, _ = render(reply, make_exchange())
    head.append("c", "d")
    assert reply.headers == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("reply", "sent", "length"),
    [
        pytest.param(Reply(200, "ok", body=b"hello"), b"hello", b"5", id="a body given"),
        pytest.param(Reply(200, "ok"), b"", b"0", id="no body"),
        pytest.param(Reply(503, "x", body=b""), b"", b"0", id="an error with an empty body given"),
        pytest.param(Reply(204, "ok", body=b"never sent"), b"", None, id="a status without a body"),
        pytest.param(Reply(304, "ok"), b"", None, id="not modified"),
    ],
)
def test_bodies_that_are_given(make_exchange: Any, reply: Reply, sent: bytes, length: bytes | None) -> None:
    head, body = render(reply, make_exchange())
    assert (body, head.get_bytes(b"content-length")) == (sent, length)


def test_an_app_may_shape_its_errors(make_exchange: Any) -> None:
    def shape(exchange: Exchange, reply: Reply, head: ResponseHead) -> bytes:
        head.set("content-type", "text/plain")
        return f"{exchange.method} {reply.reason}".encode()

    head, body = render(Reply(404, "router.no_route"), make_exchange(), shape)
    assert (body, head.get("content-type")) == (b"GET router.no_route", "text/plain")
    assert render(Reply(200, "ok", body=b"own"), make_exchange(), shape)[1] == b"own"


@pytest.mark.parametrize(
    ("content_type", "grpc"),
    [
        (b"application/grpc", True),
        (b"Application/GRPC+proto", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;a=b", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (None, False),
    ],
)
def test_who_speaks_grpc(make_exchange: Any, content_type: bytes | None, grpc: bool) -> None:
    headers = [] if content_type is None else [(b"content-type", content_type)]
    assert is_grpc(make_exchange(headers)) is grpc


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 13), (401, 16), (403, 7), (404, 12), (408, 4), (409, 10), (413, 8), (418, 2), (429, 8), (499, 1),
        (500, 13), (501, 12), (502, 14), (503, 14), (504, 4), (599, 13),
    ],
)  # fmt: skip
def test_a_grpc_caller_gets_a_grpc_status(make_exchange: Any, status: int, code: int) -> None:
    exchange = make_exchange([(b"content-type", b"application/grpc")])
    head, body = render(Reply(status, "some.reason", "Why: 100 % ä"), exchange)
    assert (head.status, body) == (200, b"")
    assert head.get("content-type") == "application/grpc"
    assert head.get("grpc-status") == str(code)
    assert head.get("grpc-message") == "some.reason: Why: 100 %25 %C3%A4"


def test_a_grpc_message_without_detail_is_the_title(make_exchange: Any) -> None:
    exchange = make_exchange([(b"content-type", b"application/grpc")])
    assert render(Reply(503, "x"), exchange)[0].get("grpc-message") == "x: Service Unavailable"


def test_a_grpc_caller_gets_a_good_reply_as_it_is(make_exchange: Any) -> None:
    exchange = make_exchange([(b"content-type", b"application/grpc")])
    assert render(Reply(204, "ok"), exchange)[0].status == 204


def test_a_reply_with_a_bad_header_is_never_made() -> None:
    with pytest.raises(ValueError, match="header"):
        Reply(200, "ok", headers=[("a", "b\r\nc: d")])
