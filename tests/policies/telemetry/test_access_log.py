"""Access lines: one for each request, nothing secret in them, nothing a client sends can forge another."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.head import ResponseHead
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.outcome import Fault, Outcome, client_gone, finished
from gatekit.core.pipeline import Pipeline
from gatekit.core.plan import RoutePlan
from gatekit.core.policy import Hooks, Stage, ValidationError, bound
from gatekit.core.ports import Ports
from gatekit.errors import MissingPort
from gatekit.policies.telemetry import Telemetry
from gatekit.policies.telemetry.line import as_json, as_text

Requests = Callable[..., Exchange]
REQUEST_ID = "ab" * 16


class Clock:
    def __init__(self) -> None:
        self.readings = 0

    def monotonic(self) -> float:
        self.readings += 1
        return 12.3456789

    def wall(self) -> float:
        return 1_700_000_000.1239


def hooks(spec: Telemetry, clock: Clock | None = None) -> Hooks:
    return bound(spec, Ports(clock=Clock() if clock is None else clock))


def written(spec: Telemetry, exchange: Exchange, outcome: Outcome, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger=spec.logger):
        observe = hooks(spec).observe
        assert observe is not None
        observe(exchange, outcome)
    [record] = caplog.records
    assert record.name == spec.logger
    assert record.args in (None, ())
    return record.getMessage()


def test_a_line_says_what_happened(request_to: Requests, caplog: pytest.LogCaptureFixture) -> None:
    exchange = request_to("/v1/orders/7?token=canary", started=12.0, host="shop.example:8080")
    exchange.route = RoutePlan("orders", "/v1/orders/{id}", None)  # type: ignore[arg-type]
    exchange.identity = Identity("ann", tenant="acme", scheme="api_key")
    exchange.facts["authz.rule"] = "owners"
    exchange.backend, exchange.attempts, exchange.sent, exchange.generation = "orders", 2, 512, 3
    outcome = finished(200, reason=None, ours=False)
    line = written(Telemetry(), exchange, outcome, caplog)
    assert json.loads(line) == {
        "time": 1_700_000_000.124, "method": "GET", "host": "shop.example", "path": "/v1/orders/7",
        "route": "/v1/orders/{id}", "status": 200, "reason": None, "fault": "nobody", "complete": True,
        "duration": 0.345679, "bytes": 512, "client_ip": "192.0.2.1", "subject": "ann", "tenant": "acme",
        "authz.rule": "owners", "backend": "orders", "attempts": 2, "generation": 3, "request_id": REQUEST_ID,
    }  # fmt: skip
    assert caplog.records[0].__dict__["access"] == json.loads(line)
    assert caplog.records[0].levelno == logging.INFO


def test_ob5_an_aborted_request_has_its_line(request_to: Requests, caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(written(Telemetry(level="warning"), request_to("/%zz"), client_gone(), caplog))
    assert (document["status"], document["reason"], document["complete"]) == (499, "client.disconnected", False)
    assert (document["path"], document["route"], document["subject"]) == ("", None, None)
    assert caplog.records[0].levelno == logging.WARNING


def test_an_anonymous_caller_has_no_subject(request_to: Requests, caplog: pytest.LogCaptureFixture) -> None:
    exchange = request_to()
    exchange.identity = ANONYMOUS
    document = json.loads(written(Telemetry(), exchange, finished(200, reason=None, ours=False), caplog))
    assert (document["subject"], document["tenant"]) == (None, None)


def test_a_text_line(request_to: Requests, caplog: pytest.LogCaptureFixture) -> None:
    exchange = request_to("/a%20b=", started=12.0)
    spec = Telemetry(format="text", logger="shop.access", level="debug")
    line = written(spec, exchange, Outcome(None, reason="app.raised", fault=Fault.APP, complete=False), caplog)
    assert line == (
        'time=1700000000.124 method=GET host=gateway.test path="/a b=" route=- status=- reason=app.raised fault=app '
        "complete=false duration=0.345679 bytes=0 client_ip=192.0.2.1 subject=- tenant=- authz.rule=- "
        f"backend=- attempts=0 generation=0 request_id={REQUEST_ID}"
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_ob8_no_secret_of_a_request_is_in_its_line(
    request_to: Requests, caplog: pytest.LogCaptureFixture, form: Any
) -> None:
    headers = dict.fromkeys(("Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "User-Agent"), "canary")
    exchange = request_to("/a?access_token=canary&sig=canary", headers=headers)
    exchange.rewrite(path=b"/b", query=b"key=canary")
    line = written(Telemetry(format=form), exchange, finished(200, reason=None, ours=False), caplog)
    assert "canary" not in line
    assert "canary" not in repr(caplog.records[0].__dict__)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("path", ["/a%0d%0a%7b%22status%22%3a200%7d", "/%e2%80%a8%c2%85", "/%7f%1b[2J"])
def test_ob5_no_path_can_forge_a_second_line(
    request_to: Requests, caplog: pytest.LogCaptureFixture, form: Any, path: str
) -> None:
    line = written(Telemetry(format=form), request_to(path), finished(404, reason=None, ours=True), caplog)
    assert line.isascii()
    assert line.isprintable()
    assert len(line.splitlines()) == 1


TEXT = st.text(st.sampled_from('a1-é\r\n\t "=\x7f\x85\u2028\\\x00😀'), max_size=12)
PAIR = re.compile(r'([abc])=("(?:[^"\\]|\\.)*"|[^ "]+)(?: |$)')


@given(st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.booleans(), st.integers(), TEXT)))
@settings(max_examples=150)
def test_ob5_a_line_is_one_line_and_reads_back(fields: dict[str, Any]) -> None:
    document, text = as_json(fields), as_text(fields)
    assert all(line == "" or (line.isascii() and line.isprintable()) for line in (document, text))
    assert json.loads(document) == fields
    assert PAIR.sub("", text) == ""
    for name, word in PAIR.findall(text):
        value = fields[name]
        if value is None:
            assert word == "-"
        elif isinstance(value, str) and not word.startswith('"'):
            assert word == value
        else:
            assert json.loads(word) == value


def test_a_dash_that_was_sent_is_not_the_dash_for_nothing() -> None:
    assert as_text({"a": "-", "b": None, "c": "", "d": "x-y"}) == 'a="-" b=- c="" d=x-y'


def test_a_logger_that_is_off_costs_no_line(request_to: Requests, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    observe = hooks(Telemetry(logger="shop.silent"), clock).observe
    assert observe is not None
    outcome = finished(200, reason=None, ours=False)
    with caplog.at_level(logging.WARNING, logger="shop.silent"):
        observe(request_to(), outcome)
    assert (clock.readings, caplog.records) == (0, [])
    with caplog.at_level(logging.INFO, logger="shop.silent"):
        observe(request_to(), outcome)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("given_settings", "names"),
    [
        ({}, [b"x-request-id"]),
        ({"request_id_header": "X-Correlation-Id"}, [b"x-correlation-id"]),
        ({"request_id_header": None}, []),
    ],
)
def test_ob4_the_client_is_told_the_request_id(
    request_to: Requests, given_settings: dict[str, Any], names: list[bytes]
) -> None:
    exchange = request_to()
    head = ResponseHead(404, [(b"x-request-id", b"upstream")] if names == [b"x-request-id"] else [])
    one = hooks(Telemetry(**given_settings))
    if names:
        assert one.on_response is not None
        one.on_response(exchange, head)
    assert head.raw == [(name, REQUEST_ID.encode()) for name in names]


def test_a_hook_that_is_not_wanted_does_not_exist() -> None:
    from gatekit.core.events import Events

    bare = Telemetry(access_log=False, request_id_header=None)
    pipeline = Pipeline([bound(bare, Ports())], events=Events())
    assert (pipeline.decides, pipeline.responds, pipeline.observes) == ((), (), ())
    assert hooks(Telemetry()).decide is None


def test_it_needs_a_clock() -> None:
    with pytest.raises(MissingPort, match="clock"):
        Telemetry().bind()


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"logger": ""}, "at least 1 character"),
        ({"level": "trace"}, "'debug', 'info', 'warning' or 'error'"),
        ({"format": "xml"}, "'json' or 'text'"),
        ({"request_id_header": "a b"}, "not a header name"),
    ],
)
def test_what_makes_no_sense_is_refused(given_settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Telemetry(**given_settings)


def test_it_stands_outermost() -> None:
    assert Telemetry().placement().stage is Stage.OBSERVE
