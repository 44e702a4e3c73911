"""The rules that both drivers follow: who is entered, whose headers win, what a hook that raises comes to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from gatekit.core.events import Event, Events, PolicyFailed, RequestRefused
from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.headers import Headers
from gatekit.core.outcome import Fault, Outcome, client_gone
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.policy import BodyFilter, Hooks, Placement, Spec, Stage
from gatekit.core.verdict import Reply


class Asks(Spec):
    """Says where it stands; what it does is another's affair."""

    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    def placement(self) -> Placement:
        return Placement(Stage.LIMIT, frozenset(self.requires), frozenset(self.provides))


class Upper:
    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def finish(self) -> bytes:
        return b""


class Decides:
    def decide(self, exchange: Exchange) -> Reply | None:
        return None


class Marks:
    """Appends its name to `x-trail` and to what it observed; may raise."""

    def __init__(self, name: str, log: list[str] | None = None, *, raises: bool = False) -> None:
        self.name, self.raises = name, raises
        self.log: list[str] = [] if log is None else log

    def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
        self._maybe()
        head.append("x-trail", self.name)

    def on_trailers(self, exchange: Exchange, trailers: Headers) -> None:
        self._maybe()
        trailers.append("x-trail", self.name)

    def observe(self, exchange: Exchange, outcome: Outcome) -> None:
        self._maybe()
        self.log.append(self.name)

    def _maybe(self) -> None:
        if self.raises:
            raise ValueError(self.name)


class Filters:
    def __init__(self, found: BodyFilter | None, *, streams: bool = False) -> None:
        self.found, self.filters_event_streams = found, streams

    def body_filter(self, exchange: Exchange, head: ResponseHead) -> BodyFilter | None:
        return self.found


def pipeline(policies: Iterable[object], events: Events | None = None) -> Pipeline:
    return Pipeline([Hooks(Asks(), one) for one in policies], events=Events() if events is None else events)


def respond(
    policies: Sequence[object], exchange: Exchange, head: ResponseHead, entered: int | None = None
) -> tuple[tuple[Reply | None, int], list[BodyFilter]]:
    filters: list[BodyFilter] = []
    found = pipeline(policies).respond(exchange, head, len(policies) if entered is None else entered, filters)
    return found, filters


# -- what is compiled


def test_only_what_has_something_to_do_has_a_step() -> None:
    class Reads:
        needs_body = 10

    built = pipeline([object(), Decides(), Marks("a"), Filters(None), Reads()])
    assert (built.size, built.kinds) == (5, ("Asks",) * 5)
    assert [(step.index, step.needs_body) for step in built.decides] == [(1, None), (4, 10)]
    assert [step.index for step in built.responds] == [3, 2]
    assert [index for index, _, _ in built.trailers] == [2]
    assert [index for index, _, _ in built.observes] == [2]
    assert built.filters
    assert not pipeline([Marks("a")]).filters


@pytest.mark.parametrize(("proven", "checked"), [(False, [("b", "c"), ()]), (True, [()])])
def test_requirements_are_checked_where_building_could_not_prove_them(proven: bool, checked: list[Any]) -> None:
    specs = [(Asks(provides=("a",)), object()), (Asks(requires=("a", "c", "b"), provides=("b",)), object())]
    specs.append((Asks(requires=("b",)), Decides()))
    built = Pipeline([Hooks(spec, one) for spec, one in specs], events=Events(), proven=proven)
    assert [step.requires for step in built.decides] == checked


def test_a_requirement_that_was_not_provided_fails_closed(make_exchange: Any, caplog: pytest.LogCaptureFixture) -> None:
    built = Pipeline([Hooks(Asks(requires=("plan",)), Decides())], events=Events())
    (step,) = built.decides
    exchange = make_exchange()
    reply = built.missing(exchange, step)
    assert reply is not None
    assert (reply.status, reply.reason, exchange.fault) == (500, "policy.missing_requirement", Fault.GATEWAY)
    assert "policy Asks needs 'plan'" in caplog.text
    exchange.facts["plan"] = "gold"
    assert built.missing(exchange, step) is None


# -- refusals


def test_who_refused_and_why_is_noted_and_told(make_exchange: Any) -> None:
    events, heard = Events(), list[Event]()
    built, exchange = pipeline([], events), make_exchange()
    built.refused(exchange, "limit", Reply(429, "limit.exceeded"))
    assert exchange.reason == "limit.exceeded"
    events.subscribe(RequestRefused, heard.append)
    built.refused(exchange, "limit", Reply(429, "limit.exceeded"))
    exchange.route = RoutePlan("orders", "/orders", built)
    built.refused(exchange, "limit", Reply(429, "limit.exceeded"))
    assert heard == [
        RequestRefused("limit", "limit.exceeded", 429, None),
        RequestRefused("limit", "limit.exceeded", 429, "orders"),
    ]


def test_a_hook_that_raises_refuses_the_request(make_exchange: Any, caplog: pytest.LogCaptureFixture) -> None:
    events, heard = Events(), list[PolicyFailed]()
    events.subscribe(PolicyFailed, heard.append)
    exchange, error = make_exchange(), ValueError("x")
    reply = pipeline([], events).failed(exchange, "limit", "decide", error)
    assert (reply.status, reply.reason, exchange.fault) == (500, "policy.failed", Fault.GATEWAY)
    assert heard == [PolicyFailed("limit", "decide", error)]
    assert caplog.messages == ["policy limit raised in decide"]


# -- responses


@pytest.mark.parametrize(("entered", "trail"), [(3, ["c", "b", "a"]), (2, ["b", "a"]), (1, ["a"]), (0, [])])
@pytest.mark.parametrize("queued", [False, True])
def test_only_those_entered_see_the_response_innermost_first(
    make_exchange: Any, entered: int, trail: list[str], queued: bool
) -> None:
    exchange, head = make_exchange(), ResponseHead(200)
    if queued:
        exchange.respond_with("x-queued", "yes")
    found, filters = respond([Marks("a"), Marks("b"), Marks("c")], exchange, head, entered)
    assert (found, filters) == ((None, 0), [])
    assert head.get_all("x-trail") == trail
    assert exchange.answered
    assert ("x-queued" in head) is (queued and entered > 0)


def test_queued_headers_are_set_in_the_place_of_who_queued_them(make_exchange: Any) -> None:
    exchange, head = make_exchange(), ResponseHead(200, [(b"x-a", b"app")])
    for place, value in ((0, "outer"), (2, "inner"), (2, "inner again"), (1, "middle")):
        exchange.cursor = place
        exchange.respond_with("x-a", value)
    respond([object(), object(), object()], exchange, head)
    assert head.get_all("x-a") == ["outer"]


def test_a_policy_further_out_has_the_last_word_on_a_queued_header(make_exchange: Any) -> None:
    class Drops:
        def on_response(self, exchange: Exchange, head: ResponseHead) -> None:
            head.remove("x-a")

    for place, left in ((0, ["queued"]), (1, [])):
        exchange, head = make_exchange(), ResponseHead(200)
        exchange.cursor = place
        exchange.respond_with("x-a", "queued")
        respond([Drops(), object()], exchange, head)
        # Its own queued header is set before its on_response has its turn.
        assert head.get_all("x-a") == ([] if place == 0 else left)


@pytest.mark.parametrize("queued", [False, True])
def test_a_response_hook_that_raises_replaces_the_response_outside_of_it(make_exchange: Any, queued: bool) -> None:
    exchange, head = make_exchange(), ResponseHead(200)
    if queued:
        exchange.respond_with("x-queued", "yes")
    policies = [Marks("a"), Marks("b", raises=True), Marks("c")]
    (failure, outside), _ = respond(policies, exchange, head)
    assert failure is not None
    assert (failure.status, failure.reason, outside) == (500, "policy.failed", 1)
    assert head.get_all("x-trail") == ["c"]
    again = ResponseHead(failure.status)
    assert respond(policies, exchange, again, outside)[0] == (None, 0)
    assert again.get_all("x-trail") == ["a"]
    assert ("x-queued" in again) is queued


# -- body filters


@pytest.mark.parametrize(
    ("status", "content_type", "streams", "filtered"),
    [
        (200, "text/plain", False, True),
        (200, "text/event-stream", False, False),
        (200, "text/event-stream", True, True),
        (204, "text/plain", False, False),
        (304, "text/plain", True, False),
    ],
)
def test_which_bodies_are_filtered(
    make_exchange: Any, status: int, content_type: str, streams: bool, filtered: bool
) -> None:
    head = ResponseHead(status, [(b"content-type", content_type.encode()), (b"content-length", b"3")])
    _, filters = respond([Filters(Upper(), streams=streams)], make_exchange(), head)
    assert bool(filters) is filtered
    assert ("content-length" in head) is not filtered


@pytest.mark.parametrize(("tag", "after"), [(b'"a"', 'W/"a"'), (b'W/"a"', 'W/"a"'), (None, None)])
def test_a_filtered_body_is_another_representation(make_exchange: Any, tag: bytes | None, after: str | None) -> None:
    head = ResponseHead(200, [(b"accept-ranges", b"bytes"), (b"content-length", b"3")])
    if tag is not None:
        head.set("etag", tag)
    respond([Filters(Upper())], make_exchange(), head)
    assert (head.get("etag"), "accept-ranges" in head, "content-length" in head) == (after, False, False)


def test_a_filter_that_does_not_want_this_body_changes_nothing(make_exchange: Any) -> None:
    head = ResponseHead(200, [(b"content-length", b"3"), (b"etag", b'"a"')])
    assert respond([Filters(None)], make_exchange(), head)[1] == []
    assert head.get("content-length") == "3"
    assert head.get("etag") == '"a"'


def test_filters_come_innermost_first(make_exchange: Any) -> None:
    outer, inner = Upper(), Upper()
    assert respond([Filters(outer), Filters(inner)], make_exchange(), ResponseHead(200))[1] == [inner, outer]


# -- trailers and the end


def test_trailers_pass_as_the_response_did(make_exchange: Any) -> None:
    trailers = Headers([(b"grpc-status", b"0")])
    pipeline([Marks("a"), Marks("b"), Marks("c")]).trail(make_exchange(), trailers, 2)
    assert trailers.get_all("x-trail") == ["b", "a"]


def test_trailers_that_a_hook_raised_on_are_dropped(make_exchange: Any) -> None:
    events, heard = Events(), list[PolicyFailed]()
    events.subscribe(PolicyFailed, heard.append)
    trailers = Headers([(b"grpc-status", b"0")])
    pipeline([Marks("a"), Marks("b", raises=True)], events).trail(make_exchange(), trailers, 2)
    assert trailers.raw == [(b"x-trail", b"a")]
    assert [one.hook for one in heard] == ["on_trailers"]


@pytest.mark.parametrize(("entered", "told"), [(3, ["a", "c"]), (2, ["a"]), (0, [])])
def test_everybody_who_was_entered_hears_the_end(
    make_exchange: Any, caplog: pytest.LogCaptureFixture, entered: int, told: list[str]
) -> None:
    events, heard, log = Events(), list[PolicyFailed](), list[str]()
    events.subscribe(PolicyFailed, heard.append)
    exchange = make_exchange()
    with caplog.at_level(logging.ERROR, "gatekit"):
        policies = [Marks("a", log), Marks("b", log, raises=True), Marks("c", log)]
        pipeline(policies, events).observe(exchange, client_gone(), entered)
    assert log == told
    assert [one.hook for one in heard] == ["observe"] * (entered > 1)
    assert exchange.fault is None
