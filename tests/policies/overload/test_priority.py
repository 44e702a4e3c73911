"""How important a request is, and who may say so (OV3: never an untrusted header)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatekit.core.policy import Stage
from gatekit.policies.overload import Overload, Priority
from gatekit.testing import decide, request

from .conftest import plan


def told_by(**settings: Any) -> Priority:
    """Believes a header of one network."""
    return Priority(from_header="X-Priority", trusted=["10.0.0.0/8"], **settings)


def level(spec: Priority, route: str | None = None, **settings: Any) -> tuple[Any, Any]:
    exchange = request(**settings)
    if route is not None:
        exchange.route = plan(route)
    assert decide(spec.bind(), exchange) is None
    return exchange.fact("priority"), exchange


@pytest.mark.parametrize(
    ("spec", "settings", "told"),
    [
        (Priority(), {}, "default"),
        (Priority("bulk"), {}, "bulk"),
        (Priority(routes={"pay": "critical"}), {"route": "pay"}, "critical"),
        (Priority(routes={"pay": "critical"}), {"route": "other"}, "default"),
        (Priority(routes={"pay": "critical"}), {}, "default"),
        (Priority(clients={"192.0.2.0/24": "sheddable"}), {"client": "192.0.2.9"}, "sheddable"),
        (Priority(clients={"192.0.2.0/24": "sheddable"}), {"client": "198.51.100.1"}, "default"),
        (Priority(clients={"192.0.2.0/24": "sheddable"}), {"client": None}, "default"),
        (Priority(clients={"192.0.2.0/24": "sheddable"}), {"client": "testclient"}, "default"),
        (Priority(clients={"2001:db8::/32": "bulk"}), {"client": "2001:db8::1"}, "bulk"),
        (Priority(clients={"10.0.0.0/8": "bulk", "10.1.0.0/16": "critical"}), {"client": "10.1.2.3"}, "critical"),
        (Priority(clients={"10.1.0.0/16": "critical", "10.0.0.0/8": "bulk"}), {"client": "10.2.2.3"}, "bulk"),
        (Priority(routes={"pay": "critical"}, clients={"10.0.0.0/8": "bulk"}), {"route": "pay", "client": "10.0.0.1"}, "critical"),
        (told_by(), {"client": "10.0.0.1", "headers": {"x-priority": "critical"}}, "critical"),
        (told_by(routes={"pay": "bulk"}), {"route": "pay", "client": "10.0.0.1", "headers": {"x-priority": "critical"}}, "critical"),
        (told_by(), {"client": "10.0.0.1", "headers": {"x-priority": "vip"}}, "default"),
        (told_by(), {"client": "10.0.0.1"}, "default"),
        (told_by(), {"client": "10.0.0.1", "headers": [("x-priority", "bulk"), ("x-priority", "critical")]}, "default"),
        (Priority(from_header="X-Priority", trusted=["unix"]), {"client": None, "headers": {"x-priority": "bulk"}}, "bulk"),
    ],
)  # fmt: skip
def test_the_level_is_what_the_configuration_or_a_trusted_peer_says(spec: Priority, settings: Any, told: str) -> None:
    assert level(spec, **settings)[0] == told


@pytest.mark.parametrize("name", ["x-priority", "X_Priority", "x.priority", "X-PRIORITY"])
def test_ov3_a_header_of_anybody_else_is_not_believed_and_removed(name: str) -> None:
    told, exchange = level(told_by(), client="192.0.2.1", headers=[(name, "critical"), ("x-other", "1")])
    assert told == "default"
    assert [key for key, _ in exchange.headers.raw] == [b"host", b"x-other"]


def test_ov3_whom_a_trusted_proxy_speaks_for_is_not_trusted_himself() -> None:
    """The peer is who is on the connection, not who X-Forwarded-For names."""
    told, _ = level(
        told_by(),
        client="192.0.2.1",
        trusted=["192.0.2.1"],
        headers={"x-forwarded-for": "10.0.0.1", "x-priority": "critical"},
    )
    assert told == "default"


def test_headers_of_a_request_without_it_are_left_alone() -> None:
    _, exchange = level(told_by(), client="192.0.2.1")
    assert exchange.headers.raw is exchange.headers.origin


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"level": "vip"}, "critical"),
        ({"from_header": "X-Priority"}, "believed from nobody"),
        ({"from_header": "X Priority", "trusted": ["10.0.0.0/8"]}, "not a header name"),
        ({"trusted": ["10.0.0.0/8"]}, "from_header"),
        ({"from_header": "X-P", "trusted": ["ten"]}, "no network"),
        ({"clients": {"ten": "bulk"}}, "no network"),
        ({"clients": {"10.0.0.0/8": "vip"}}, "critical"),
    ],
)
def test_a_bad_setting_says_what_to_do(settings: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Priority(**settings)


def test_it_stands_before_load_shedding_and_a_routes_own_takes_its_place() -> None:
    placement = Priority().placement()
    assert placement.stage is Stage.PRIORITY < Overload().placement().stage
    assert placement.provides == {"priority"}
    own = Priority("bulk")
    assert own.over(Priority("critical")) is own


@pytest.mark.parametrize(
    ("spec", "told"),
    [(Priority("bulk"), "bulk"), (told_by(), "default, as long as no trusted peer says otherwise")],
)
def test_explain_says_the_level(spec: Priority, told: str) -> None:
    assert list(spec.bind().explain(request())) == [told]
