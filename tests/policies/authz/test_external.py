"""An outside authoriser as it is written: settings, what is shared and kept across reloads, and rules with one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.policies.authz.external_scene import (
    OPA,
    Scene,
    asked,
    policy,
    refused,
)

from gatekit.core.identity import Identity
from gatekit.core.ports import Cells, Reach
from gatekit.errors import MissingPort, MissingSecret, StoreUnavailable
from gatekit.policies.authz import Rule
from gatekit.policies.authz.external import External, external
from gatekit.policies.authz.rules import Decider, Outside
from gatekit.testing import test_ports

# -- state


def test_places_that_ask_the_same_share_what_is_known_and_a_reload_keeps_it() -> None:
    cells = Cells()
    scene = Scene(cache={"ttl": 30}, ports={"cells": cells}).says(True)
    scene.ask()
    again = Scene(
        fetch=scene.fetch, cache={"ttl": 30}, ports={"cells": cells, "clock": scene.clock, "owner": "route:other"}
    )
    assert again.ask() is True
    assert again.counts == {"asked": 1, "allowed": 1, "cached": 1}
    other = Scene(fetch=scene.fetch, cache={"ttl": 30}, timeout=0.1, ports={"cells": cells, "clock": scene.clock})
    assert other.counts == {}
    ports = test_ports(cells=cells)
    External(url=OPA).bind_to(ports)
    assert len(ports.used) == 1


def test_ports_are_asked_for_when_it_is_bound() -> None:
    with pytest.raises(MissingPort, match="fetch"):
        External(url=OPA).bind_to(test_ports(fetch=None))
    with pytest.raises(MissingSecret):
        External(url=OPA, credentials={"authorization": "env:NOWHERE"}).bind_to(test_ports())


def test_credentials_are_looked_up_and_never_shown() -> None:
    spec = External(url=OPA, credentials={"Authorization": "env:OPA_TOKEN"})
    ports = test_ports(secrets=lambda reference: {"env:OPA_TOKEN": "Bearer MARKER"}[reference])
    decider = spec.bind_to(ports)
    scene = Scene(credentials={"Authorization": "Bearer MARKER"}).says(True)
    assert scene.ask() is True
    assert ("authorization", "Bearer MARKER") in scene.fetch.calls[0].headers
    assert "MARKER" not in repr(spec) + repr(scene.spec) + repr(decider.status()) + repr(decider) + decider.words
    with pytest.raises(ValueError, match="credential x-a") as caught:
        External(url=OPA, credentials={"x-a": "MARKER\n1"}).bind_to(test_ports())
    assert "MARKER" not in str(caught.value)


# -- settings


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "opa.internal/v1"}, "absolute http or https URL"),
        ({"url": "https://ópa.internal/"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/\x7f"}, "absolute http or https URL"),
        ({"url": "https://opa.internal\\@x/"}, "absolute http or https URL"),
        ({"url": "ftp://opa.internal/"}, "absolute http or https URL"),
        ({"url": "https://user:MARKER@opa.internal/"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/#x"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/a b"}, "absolute http or https URL"),
        ({"url": "https://opa.internal/" + "a" * 2048}, "absolute http or https URL"),
        ({"url": "http://opa.internal/"}, "over http, whoever is on the way decides"),
        ({"url": "https://a.example/?x", "style": "envoy"}, "it has no query"),
        ({"style": "envoy", "send": ["params"]}, "no place for params"),
        ({"style": "envoy", "claims": ["a", "A"]}, "two claims would be told in one header"),
        ({"style": "envoy", "claims": ["https://x/roles"]}, "not a header name"),
        ({"style": "envoy", "headers": ["X-Auth-Subject"]}, "a client's own cannot be passed on"),
        ({"style": "envoy", "headers": ["x_auth_claim_level"], "claims": ["level"]}, "a client's own cannot be passed on"),
        ({"headers": ["authorization"], "credentials": {"Authorization": "x"}}, "both the client's and the gateway's own"),
        ({"headers": ["x_user"], "upstream_headers": ["x-user"]}, "comes from the authoriser"),
        ({"relay_body": True}, "relay_body is for style: envoy"),
        ({"upstream_headers": ["Host"]}, "frames a message"),
        ({"upstream_headers": ["content_length"]}, "frames a message"),
        ({"upstream_headers": ["connection"]}, "frames a message"),
        ({"upstream_headers": ["Transfer-Encoding"]}, "frames a message"),
        ({"upstream_headers": ["x-forwarded-for"]}, "frames a message"),
        ({"client_headers": ["content-length"]}, "frames a message"),
        ({"headers": ["te"]}, "frames a message"),
        ({"credentials": {"host": "x"}}, "frames a message"),
        ({"upstream_headers": ["a b"]}, "not a header name"),
        ({"upstream_headers": ["x-a", "x_a"]}, "named twice"),
        ({"networks": ["10.0.0.0/99"]}, "is no network"),
        ({"cache": {"ttl": 61}}, "less than or equal to 60"),
        ({"cache": {"ttl": 0}}, "greater than 0"),
        ({"timeout": 0}, "greater than 0"),
        ({"timeout": 11}, "less than or equal to 10"),
        ({"max_in_flight": 0}, "greater than or equal to 1"),
        ({"on_error": "open"}, "'deny', 'unavailable' or 'allow'"),
        ({"send": ["body"]}, "'method'"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)  # fmt: skip
def test_a_bad_setting_says_what_to_do(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        External.model_validate({"url": OPA, **fields})
    assert says in str(caught.value)
    assert "MARKER" not in str(caught.value)


def test_a_network_of_its_own_may_be_reached_over_http() -> None:
    scene = Scene(url="http://10.0.0.7:8181/v1/data/x", networks=["10.0.0.7"], ca="/etc/ca.pem")
    scene.answers("http://10.0.0.7:8181/v1/data/x", json={"result": True})
    assert scene.ask() is True
    assert scene.fetch.calls[0].reach == Reach(("10.0.0.7/32",), "/etc/ca.pem")


# -- as a condition of rules


def test_it_is_what_rules_take_from_outside() -> None:
    spec = external(OPA, timeout=0.1)
    assert spec == External(url=OPA, timeout=0.1)
    assert isinstance(spec, Outside)
    assert spec.asks
    decider = spec.bind_to(test_ports())
    assert isinstance(decider, Decider)
    assert decider.words == "the authoriser at opa.internal agrees"


def test_rules_with_an_authoriser_decide_by_it() -> None:
    scene = Scene()
    scene.says(True, False).answers(status=503)
    by_rules = policy(scene.ports, Rule(external=scene.spec, roles=("admin",)))
    assert refused(by_rules.decide(asked())) is None
    denied = refused(by_rules.decide(asked()))
    assert denied is not None
    assert (denied.status, denied.reason) == (403, "authz.denied_by_authoriser")
    down = refused(by_rules.decide(asked()))
    assert down is not None
    assert (down.status, down.reason) == (403, "authz.authoriser_unavailable")
    (told,) = by_rules.status()["outside"]
    assert (told["says"], told["asked"], told["failed"]) == (scene.decider.words, 3, 1)


def test_nobody_is_asked_about_what_is_settled_already() -> None:
    scene = Scene()
    by_rules = policy(scene.ports, Rule(external=scene.spec, roles=("nobody",)), Rule(roles=("admin",)))
    assert refused(by_rules.decide(asked())) is None
    assert refused(by_rules.decide(asked(identity=Identity("bob", scheme="jwt")))) is not None
    assert scene.fetch.calls == []


def test_se5_a_header_of_the_authorisers_is_taken_from_a_client_about_whom_nobody_is_asked() -> None:
    scene = Scene(upstream_headers=["x-user-plan"])
    by_rules = policy(scene.ports, Rule(roles=("admin",)), Rule(external=scene.spec))
    exchange = asked(headers={"X_User_Plan": "gold", "x-mine": "1"})
    assert refused(by_rules.decide(exchange)) is None
    assert [name for name, _ in exchange.headers.raw] == [b"host", b"x-mine"]


def test_a_deny_rule_whose_authoriser_is_down_denies() -> None:
    scene = Scene().answers(error=StoreUnavailable("down"))
    by_rules = policy(scene.ports, Rule(roles=("admin",)), deny=(Rule(external=scene.spec),))
    found = refused(by_rules.decide(asked()))
    assert found is not None
    assert found.reason == "authz.authoriser_unavailable"
