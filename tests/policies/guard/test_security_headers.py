"""Security headers: what every response gets, what it keeps, what it loses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.policy import Stage, ValidationError
from gatekit.policies.guard import SecurityHeaders

Requests = Callable[..., Exchange]
DEFAULT = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"frame-ancestors 'none'",
    b"cross-origin-opener-policy": b"same-origin",
}
HSTS = {b"strict-transport-security": b"max-age=31536000"}


def passed(spec: SecurityHeaders, exchange: Exchange, status: int = 200, **headers: Any) -> dict[bytes, bytes]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    head = ResponseHead(status, raw)
    spec.bind().on_response(exchange, head)
    assert len(dict(head.raw)) == len(head.raw)
    return dict(head.raw)


def test_se11_defaults(request_to: Requests) -> None:
    assert passed(SecurityHeaders(), request_to(), server="nginx/1.2", x_powered_by="PHP/8", x="1") == {
        b"x": b"1", **DEFAULT,
    }  # fmt: skip


@pytest.mark.parametrize(("scheme", "sent"), [("http", False), ("ws", False), ("https", True), ("wss", True)])
def test_hsts_is_for_tls_alone(request_to: Requests, scheme: str, sent: bool) -> None:
    found = passed(SecurityHeaders(), request_to(scheme=scheme))
    assert found == ({**DEFAULT, **HSTS} if sent else DEFAULT)


@pytest.mark.parametrize(
    ("given_settings", "value"),
    [
        ({"hsts": 60}, b"max-age=60"),
        ({"hsts": 0}, b"max-age=0"),
        ({"hsts_subdomains": True}, b"max-age=31536000; includeSubDomains"),
        ({"hsts_subdomains": True, "hsts_preload": True}, b"max-age=31536000; includeSubDomains; preload"),
        ({"hsts": None}, None),
    ],
)
def test_hsts_values(request_to: Requests, given_settings: dict[str, Any], value: bytes | None) -> None:
    found = passed(SecurityHeaders(**given_settings), request_to(scheme="https"))
    assert found.get(b"strict-transport-security") == value


def test_what_the_app_set_stays_unless_it_is_overridden(request_to: Requests) -> None:
    exchange = request_to(scheme="https")
    own: dict[str, Any] = {"x_frame_options": "SAMEORIGIN", "strict_transport_security": "max-age=1"}
    kept = passed(SecurityHeaders(), exchange, **own)
    assert kept == {**DEFAULT, b"x-frame-options": b"SAMEORIGIN", b"strict-transport-security": b"max-age=1"}
    assert passed(SecurityHeaders(override=True), exchange, **own) == {**DEFAULT, **HSTS}
    over_http = passed(SecurityHeaders(override=True), request_to(), **own)
    assert over_http == {**DEFAULT, b"strict-transport-security": b"max-age=1"}


def test_each_can_be_left_out_or_added(request_to: Requests) -> None:
    bare = SecurityHeaders(
        hsts=None, content_type_options=False, referrer_policy=None, frame_options=None, content_security_policy=None,
        opener_policy=None, remove=[],
    )  # fmt: skip
    assert passed(bare, request_to(scheme="https"), server="x") == {b"server": b"x"}
    more = SecurityHeaders(resource_policy="same-site", permissions_policy="camera=()", remove=["Via"])
    found = passed(more, request_to(), via="1.1 a", server="x")
    assert found == {
        **DEFAULT, b"server": b"x", b"cross-origin-resource-policy": b"same-site", b"permissions-policy": b"camera=()",
    }  # fmt: skip


def test_a_websocket_accept_is_left_alone(request_to: Requests) -> None:
    assert passed(SecurityHeaders(), request_to(kind="websocket", scheme="wss"), 101, server="x") == {b"server": b"x"}


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"hsts_preload": True}, "needs hsts_subdomains"),
        ({"hsts_preload": True, "hsts_subdomains": True, "hsts": 60}, "at least 31536000"),
        ({"hsts_preload": True, "hsts_subdomains": True, "hsts": None}, "at least 31536000"),
        ({"hsts": -1}, "greater than or equal to 0"),
        ({"referrer_policy": "none"}, "'no-referrer'"),
        ({"content_security_policy": "a\r\nb: c"}, "CR, LF or NUL"),
        ({"remove": ["a b"]}, "not a header name"),
    ],
)
def test_what_makes_no_sense_is_refused(given_settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SecurityHeaders(**given_settings)


def test_it_stands_outermost() -> None:
    assert SecurityHeaders().placement().stage is Stage.OBSERVE
