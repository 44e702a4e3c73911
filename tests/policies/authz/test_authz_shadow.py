"""Shadow policies: never enforced, always counted."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.events import Event, Events
from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.plan import RoutePlan
from gatekit.core.ports import Cells, Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authz import Asking, Authz, ShadowDisagreed, ShadowPolicy, Verdict
from gatekit.policies.authz.rules import Decider
from gatekit.testing import ManualClock, decide, request

TOKEN = Identity("ann", scopes=frozenset({"a"}), roles=frozenset({"clerk"}), scheme="jwt")
KEY = Identity("svc", roles=frozenset({"batch"}), scheme="api_key")


def ports(**given: Any) -> Ports:
    return Ports(clock=ManualClock(), owner="route:orders", **given)


def counts(policy: Any, name: str = "shadow[0]") -> dict[str, Any]:
    found: dict[str, Any] = policy.status()["shadow"][name]
    return found


def test_az4_a_candidate_is_never_enforced_and_its_disagreement_is_counted() -> None:
    spec = Authz(allow=[{"roles": ["clerk", "batch"]}], shadow={"allow": [{"id": "clerks", "roles": "clerk"}]})
    policy = spec.bind(ports())
    for identity in (TOKEN, KEY, KEY, TOKEN, ANONYMOUS):
        reply = decide(policy, request(identity=identity))
        assert (reply is None) is (identity is not ANONYMOUS)
    assert counts(policy) == {
        "agreed": 3, "unknown": 0, "failed": [],
        "disagreed": [{"would": "deny", "rule": "default", "principal": "api_key", "count": 2}],
    }  # fmt: skip


def test_az4_what_would_be_allowed_is_counted_too() -> None:
    policy = Authz(scopes="x", shadow={"allow": [{"id": "anyone", "methods": "GET"}]}).bind(ports())
    for identity in (TOKEN, None, ANONYMOUS):
        assert decide(policy, request(identity=identity)) is not None
    assert counts(policy)["disagreed"] == [
        {"would": "allow", "rule": "anyone", "principal": "anonymous", "count": 2},
        {"would": "allow", "rule": "anyone", "principal": "jwt", "count": 1},
    ]


CLERKS = {"roles": "clerk"}
ALL = {"methods": ["GET", "PUT"]}
PUT = {"methods": "PUT"}


@pytest.mark.parametrize(
    ("live", "candidate", "method", "expected"),
    [
        # deny alone: whom a new deny rule would hit.
        ({"allow": [CLERKS]}, {"deny": [PUT]}, "GET", None),
        ({"allow": [CLERKS]}, {"deny": [PUT]}, "PUT", "would_deny:deny[0]"),
        ({"allow": [{"roles": "x"}]}, {"deny": [PUT]}, "PUT", None),
        ({"allow": [{"roles": "x"}]}, {"deny": [PUT]}, "GET", None),
        ({"public": True}, {"deny": [PUT]}, "GET", None),
        ({"public": True}, {"deny": [PUT]}, "PUT", "would_deny:deny[0]"),
        # deny in place of those in force.
        ({"allow": [CLERKS], "deny": [PUT]}, {"deny": []}, "PUT", "would_allow:allow[0]"),
        ({"allow": [{"roles": "x"}], "deny": [PUT]}, {"deny": []}, "PUT", None),
        ({"public": True, "deny": [PUT]}, {"deny": []}, "PUT", "would_allow:public"),
        ({"allow": [CLERKS], "deny": [PUT]}, {"deny": [{"methods": "GET"}]}, "PUT", "would_allow:allow[0]"),
        # allow alone: the deny rules in force stay.
        ({"allow": [CLERKS], "deny": [PUT]}, {"allow": [ALL]}, "PUT", None),
        ({"allow": [{"roles": "x"}], "deny": [PUT]}, {"allow": [ALL]}, "GET", "would_allow:allow[0]"),
        ({"allow": [{"roles": "x"}], "deny": [PUT]}, {"public": True}, "GET", "would_allow:public"),
        ({"allow": [{"roles": "x"}], "deny": [PUT]}, {"public": True}, "PUT", None),
        ({"allow": [CLERKS]}, {"allow": [{"roles": "x"}]}, "GET", "would_deny:default"),
        # both.
        ({"allow": [CLERKS]}, {"allow": [ALL], "deny": [PUT]}, "PUT", "would_deny:deny[0]"),
        ({"allow": [CLERKS]}, {"allow": [ALL], "deny": [PUT]}, "GET", None),
        ({"allow": [{"roles": "x"}], "deny": [PUT]}, {"allow": [ALL], "deny": []}, "PUT", "would_allow:allow[0]"),
    ],
)
def test_what_a_candidate_does_not_say_is_as_it_is_in_force(
    live: dict[str, Any], candidate: dict[str, Any], method: str, expected: str | None
) -> None:
    policy = Authz.shorthand({**live, "shadow": {"id": "new", **candidate}}).bind(ports())
    exchange = request(method, identity=TOKEN)
    before = decide(Authz.shorthand(live).bind(ports()), request(method, identity=TOKEN))
    reply = decide(policy, exchange)
    assert (reply and reply.reason) == (before and before.reason)
    assert exchange.facts.get("authz.shadow") == (None if expected is None else f"new:{expected}")
    found = counts(policy, "new")
    assert (found["agreed"], len(found["disagreed"])) == ((1, 0) if expected is None else (0, 1))


RULES = st.sampled_from([CLERKS, PUT, {"roles": "x"}, {"methods": "GET"}, {"scopes": "a"}])
LISTS = st.lists(RULES, min_size=1, max_size=2)
CANDIDATES = st.fixed_dictionaries({}, optional={"allow": LISTS, "deny": LISTS}).filter(bool)


@given(
    allow=LISTS, deny=st.lists(RULES, max_size=2), candidate=CANDIDATES, method=st.sampled_from(["GET", "PUT"]),
    identity=st.sampled_from([TOKEN, KEY, None]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_az4_a_candidate_says_what_it_would_say_in_force(
    allow: list[Any], deny: list[Any], candidate: dict[str, Any], method: str, identity: Identity | None
) -> None:
    live = {"allow": allow, "deny": deny}
    policy = Authz.shorthand({**live, "shadow": candidate}).bind(ports())
    exchange, alone = request(method, identity=identity), request(method, identity=identity)
    allowed = decide(policy, exchange) is None
    in_force = Authz.shorthand({**live, **candidate}).bind(ports())
    would = decide(in_force, alone) is None
    told = None if would is allowed else f"shadow[0]:would_{'allow' if would else 'deny'}:{alone.facts['authz.rule']}"
    assert exchange.facts.get("authz.shadow") == told
    assert f"shadow shadow[0]: {in_force.explain(alone)[0]}" == policy.explain(exchange)[-1]


def test_several_candidates_are_told_apart() -> None:
    spec = Authz(roles="clerk", shadow=[ShadowPolicy(id="a", deny=[ALL]), ShadowPolicy(deny=[PUT]), {"deny": [ALL]}])
    policy = spec.bind(ports())
    exchange = request(identity=TOKEN)
    assert decide(policy, exchange) is None
    assert exchange.facts["authz.shadow"] == "a:would_deny:deny[0],shadow[2]:would_deny:deny[0]"
    assert list(policy.status()["shadow"]) == ["a", "shadow[1]", "shadow[2]"]


def broken(exchange: Exchange) -> bool:
    raise KeyError("secret")


def test_az4_a_candidate_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    spec = Authz(roles="clerk", shadow={"id": "new", "allow": [{"holds": broken}]})
    policy = spec.bind(ports())
    exchange = request(identity=TOKEN)
    assert decide(policy, exchange) is None
    assert exchange.fault is None
    assert decide(policy, request(identity=KEY)) is not None
    assert counts(policy, "new") == {
        "agreed": 1, "unknown": 0,
        "disagreed": [{"would": "deny", "rule": "allow[0]", "principal": "jwt", "count": 1}],
        "failed": [
            {"rule": "allow[0]", "principal": "api_key", "count": 1}, {"rule": "allow[0]", "principal": "jwt", "count": 1},
        ],
    }  # fmt: skip
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "the authz rule of the shadow policy new"
    ]


def test_a_failure_in_force_is_not_the_candidates() -> None:
    spec = Authz(holds=broken, shadow={"deny": [PUT]})
    policy = spec.bind(ports())
    assert decide(policy, request(identity=TOKEN)) is not None
    assert counts(policy)["agreed"] == 1
    assert counts(policy)["failed"] == []


class Authoriser:
    """Somebody who has to be asked, and how often that was."""

    asks = True
    words = "the authoriser agrees"

    def __init__(self) -> None:
        self.looked = 0
        self.asked = 0

    def bind_to(self, ports: Ports) -> Decider:
        return self

    def decide(self, exchange: Exchange) -> Verdict | Asking:
        self.looked += 1

        async def ask() -> Verdict:
            self.asked += 1
            return True

        return ask


def test_az4_nobody_is_asked_for_the_sake_of_a_candidate() -> None:
    one = Authoriser()
    spec = Authz(allow=[{"holds": one}], deny=[{"methods": "DELETE"}], shadow={"deny": [PUT]})
    policy = spec.bind(ports())
    assert decide(policy, request("GET")) is None
    assert decide(policy, request("PUT")) is None
    assert (one.looked, one.asked) == (2, 2)
    # The live rules denied, so that nobody knows what the authoriser would have said.
    assert decide(policy, request("DELETE")) is not None
    assert (one.looked, one.asked) == (2, 2)
    found = counts(policy)
    assert (found["agreed"], found["unknown"], len(found["disagreed"])) == (1, 1, 1)


def test_a_candidate_cannot_ask() -> None:
    with pytest.raises(ValueError, match="a shadow policy cannot ask somebody outside"):
        Authz(roles="x", shadow={"allow": [{"any": [{"holds": Authoriser()}, {"roles": "x"}]}]})


def test_callers_of_more_schemes_than_there_should_be_are_counted_together() -> None:
    policy = Authz(public=True, shadow={"deny": [ALL]}).bind(ports())
    for number in range(40):
        decide(policy, request(identity=Identity("x", scheme=f"s{number:02}")))
    found = counts(policy)["disagreed"]
    assert len(found) == 17
    assert found[0] == {"would": "deny", "rule": "deny[0]", "principal": "other", "count": 24}


def test_an_event_is_made_where_somebody_listens() -> None:
    events = Events()
    policy = Authz(public=True, shadow={"id": "new", "deny": [PUT]}).bind(ports(events=events))
    heard: list[Event] = []
    decide(policy, request("PUT", identity=TOKEN))
    events.subscribe(ShadowDisagreed, heard.append)
    decide(policy, request("GET", identity=TOKEN))
    decide(policy, request("PUT", identity=TOKEN))
    exchange = request("PUT")
    exchange.route = RoutePlan("orders", "/orders", None)  # type: ignore[arg-type]
    decide(policy, exchange)
    assert heard == [
        ShadowDisagreed("new", "deny", "deny[0]", "public", "jwt", None),
        ShadowDisagreed("new", "deny", "deny[0]", "public", "anonymous", "orders"),
    ]


def test_counts_outlive_a_reload_that_leaves_the_candidate_as_it_is() -> None:
    cells = Cells()
    given = {"id": "new", "deny": [PUT]}
    decide(Authz(public=True, shadow=given).bind(ports(cells=cells)), request("PUT"))
    assert counts(Authz(roles="x", shadow=given).bind(ports(cells=cells)), "new")["disagreed"][0]["count"] == 1
    changed = Authz(public=True, shadow={**given, "deny": [PUT, ALL]}).bind(ports(cells=cells))
    assert counts(changed, "new")["disagreed"] == []


class Watched:
    """A lock that knows whether it is held, and how often it was."""

    def __init__(self) -> None:
        self.held = False
        self.times = 0

    def __enter__(self) -> None:
        assert not self.held
        self.held = True
        self.times += 1

    def __exit__(self, *_: object) -> None:
        self.held = False


def test_counts_are_kept_under_the_lock_and_nothing_else_is() -> None:
    lock = Watched()
    policy = Authz(public=True, shadow={"deny": [{"holds": lambda exchange: lock.held}]}).bind(ports(lock=lambda: lock))
    decide(policy, request())
    assert (lock.times, counts(policy)["agreed"], lock.times) == (1, 1, 2)


def test_the_reply_is_that_of_the_policy_in_force() -> None:
    policy = Authz(scopes="x", shadow={"public": True}).bind(ports())
    reply = decide(policy, request(identity=TOKEN))
    assert isinstance(reply, Reply)
    assert reply.headers == [(b"www-authenticate", b'Bearer error="insufficient_scope", scope="x"')]


def calls(spec: Authz) -> int:
    """How many Python calls one decision takes."""
    policy, exchange = spec.bind(ports()), request(identity=TOKEN)
    policy.decide(exchange)
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        policy.decide(exchange)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        (Authz(public=True), 3),
        (Authz(scopes=["a"]), 4),
        (Authz(allow=[{"roles": "x"}, {"scopes": "a"}], deny=[{"methods": "PUT"}]), 6),
        (Authz(scopes=["a"], shadow={"deny": [PUT]}), 11),
        (Authz(scopes=["a"], shadow={"allow": [{"scopes": "a"}], "deny": []}), 11),
    ],
    ids=["public", "a scope", "three rules", "a candidate to deny", "a candidate"],
)
def test_az4_a_decision_and_a_candidate_take_few_calls(spec: Authz, most: int) -> None:
    assert calls(spec) <= most
