"""Answers that are always the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gatekit.core.exchange import Exchange
from gatekit.core.policy import ValidationError
from gatekit.core.verdict import render
from gatekit.policies.transform import Respond

Requests = Callable[..., Exchange]


def test_a_body_is_sent_as_it_is(request_to: Requests) -> None:
    exchange = request_to("/robots.txt")
    reply = Respond(200, "Disallow: /ü\n", headers={"Cache-Control": "max-age=60"}).bind().decide(exchange)
    head, body = render(reply, exchange)
    assert (head.status, body.decode(), reply.reason) == (200, "Disallow: /ü\n", "respond")
    assert head.get("content-type") == "text/plain; charset=utf-8"
    assert head.get("cache-control") == "max-age=60"


def test_a_content_type_of_ones_own(request_to: Requests) -> None:
    reply = Respond(body="{}", headers={"Content-Type": "application/json"}).bind().decide(request_to())
    assert reply.headers == [(b"content-type", b"application/json")]


def test_a_failure_without_a_body_is_a_problem_document(request_to: Requests) -> None:
    exchange = request_to()
    policy = Respond(503, headers={"Retry-After": "60"}).bind()
    for _ in range(2):
        head, body = render(policy.decide(exchange), exchange)
        document = json.loads(body)
        assert (head.status, document["code"], document["status"]) == (503, "respond", 503)
        assert head.get_all("retry-after") == ["60"]
        assert head.get_all("content-type") == ["application/problem+json"]


def test_nothing_at_all(request_to: Requests) -> None:
    exchange = request_to()
    head, body = render(Respond(204).bind().decide(exchange), exchange)
    assert (head.status, head.raw, body) == (204, [], b"")


def test_what_the_door_refused_gets_the_refusal_of_the_door(request_to: Requests) -> None:
    assert Respond(200).bind().decide(request_to("/%zz")) is None


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"status": 101}, "greater than or equal to 200"),
        ({"status": 600}, "less than or equal to 599"),
        ({"status": 204, "body": "x"}, "has no body"),
        ({"headers": {"Content-Length": "3"}}, "derived from the body"),
        ({"headers": {"Connection": "close"}}, "belongs to one connection"),
        ({"headers": {"x": "a\nb"}}, "CR, LF or NUL"),
    ],
)
def test_what_cannot_be_sent_is_refused(given_settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Respond(**given_settings)


def test_a_spec_survives_being_written_and_read() -> None:
    spec = Respond.shorthand({"status": 410, "body": "gone"})
    assert Respond.model_validate(spec.model_dump()) == spec == Respond(410, "gone")
    assert Respond.shorthand(404) == Respond(404)
