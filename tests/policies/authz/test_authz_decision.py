"""What is answered, to whom, and what is left behind for logs."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.outcome import Fault
from gatekit.core.policy import Job
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply, render
from gatekit.policies.authz import Asking, Authz, Rule, Verdict, answer_with
from gatekit.policies.authz.rules import Decider
from gatekit.policies.authz.ruleset import BoundRule, Decision
from gatekit.testing import ManualClock, decide, request, run

TOKEN = Identity("ann", scopes=frozenset({"orders:read"}), roles=frozenset({"clerk"}), scheme="jwt")
KEY = Identity("ann", scopes=frozenset({"orders:read"}), scheme="api_key")


def answered(spec: Authz, identity: Identity | None = TOKEN, **given: Any) -> tuple[Reply | None, Exchange]:
    exchange = request(identity=identity, **given)
    return decide(spec.bind(clock=ManualClock()), exchange), exchange


def challenge(reply: Reply | None) -> list[str]:
    assert reply is not None
    return [value.decode() for name, value in reply.headers if name == b"www-authenticate"]


def test_the_smallest_policy_lets_the_right_one_in() -> None:
    assert answered(Authz(scopes=["orders:read"]))[0] is None


def test_az1_what_allows_nothing_denies() -> None:
    for spec in (Authz(), Authz(deny=[{"methods": "PUT"}]), Authz.shorthand(None)):
        reply, exchange = answered(spec)
        assert reply is not None
        assert (reply.status, reply.reason, exchange.facts["authz.rule"]) == (403, "authz.denied", "default")


def test_az1_public_is_written() -> None:
    for identity in (TOKEN, ANONYMOUS, None):
        reply, exchange = answered(Authz(public=True), identity)
        assert (reply, exchange.facts["authz.rule"]) == (None, "public")


def test_deny_overrides_allow() -> None:
    spec = Authz(allow=[Rule(roles=["clerk"], id="clerks")], deny=[Rule(methods=["PUT"], id="read-only")])
    assert answered(spec)[1].facts["authz.rule"] == "clerks"
    reply, exchange = answered(spec, method="PUT")
    assert reply is not None
    assert (reply.status, reply.reason, exchange.facts["authz.rule"]) == (403, "authz.denied", "read-only")


def test_az5_a_rule_without_an_id_is_named_by_its_place() -> None:
    spec = Authz(allow=[{"roles": "x"}, {"roles": "clerk"}])
    assert answered(spec)[1].facts["authz.rule"] == "allow[1]"
    assert answered(Authz(roles=["clerk"]))[1].facts["authz.rule"] == "allow[0]"


def test_the_answer_is_a_problem_document_that_tells_nothing() -> None:
    reply, exchange = answered(Authz(claims={"tenant": "secret-value"}))
    assert reply is not None
    head, body = render(reply, exchange)
    assert head.status == 403
    document = json.loads(body)
    assert document["code"] == "authz.denied"
    assert "secret" not in body.decode()


# -- 401 where logging in may help


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        (Authz(roles=["clerk"]), 401),
        (Authz(authenticated=True), 401),
        (Authz(not_=Rule(roles=["guest"])), 401),
        (Authz(networks=["10.0.0.0/8"]), 403),
        (Authz(), 403),
        (Authz(public=True, deny=[{"methods": "GET"}]), 403),
        (Authz(public=True, deny=[{"authenticated": False}]), 401),
        (Authz(roles=["clerk"], deny=[{"methods": "GET"}]), 403),
        (Authz(public=True, deny=[{"authenticated": False}, {"methods": "GET"}]), 403),
        (Authz(public=True, deny=[{"methods": "GET"}, {"authenticated": False}]), 403),
        (Authz(public=True, deny=[{"methods": "PUT"}, {"authenticated": False}]), 401),
    ],
)
@pytest.mark.parametrize("nobody", [ANONYMOUS, None], ids=["anonymous", "unseen"])
def test_nobody_is_told_to_log_in_where_that_may_help(spec: Authz, status: int, nobody: Identity | None) -> None:
    reply, _ = answered(spec, nobody)
    assert reply is not None
    if status == 401:
        assert (reply.status, reply.reason) == (401, "authz.authentication_required")
        assert challenge(reply) == ['Bearer realm="gateway"']
    else:
        assert (reply.status, reply.reason, challenge(reply)) == (403, "authz.denied", [])


def test_the_challenge_can_be_another() -> None:
    reply, _ = answered(Authz(roles=["x"], challenge='ApiKey realm="shop"'), None)
    assert challenge(reply) == ['ApiKey realm="shop"']


# -- insufficient scope


@pytest.mark.parametrize(
    ("spec", "scope"),
    [
        (Authz(scopes=["orders:write"]), "orders:write"),
        (Authz(scopes=["orders:write", "orders:read"]), "orders:read orders:write"),
        (Authz(any_scope=["orders:write", "admin"]), "orders:write"),
        (Authz(scopes=["a"], roles=["clerk"]), "a"),
        (Authz(all=[{"scopes": "a"}, {"any_scope": ["b", "c"]}]), "a b"),
        (Authz(allow=[{"scopes": ["a", "b"]}, {"scopes": ["z"]}]), "z"),
        (Authz(allow=[{"roles": "x", "scopes": "a"}, {"scopes": ["y", "z"]}]), "y z"),
        (Authz(scopes=["a"], not_=Rule(scopes=["b"])), "a"),
        (Authz(scopes=["a"], roles=["admin"]), None),
        (Authz(scopes=["a"], not_=Rule(scopes=["orders:read"])), None),
        (Authz(any=[{"scopes": "a"}, {"scopes": "b"}]), None),
        (Authz(any=[{"scopes": "a"}, {"scopes": "b"}], scopes=["c"]), None),
        (Authz(roles=["admin"]), None),
        (Authz(scopes=["a"], holds=lambda exchange: 1 // 0 == 1), None),
        (Authz(scopes=["orders:read"], deny=[{"methods": "GET"}]), None),
    ],
)
def test_a_token_is_told_the_scopes_that_are_all_it_lacks(spec: Authz, scope: str | None) -> None:
    reply, _ = answered(spec)
    assert reply is not None
    assert reply.status == 403
    assert challenge(reply) == ([] if scope is None else [f'Bearer error="insufficient_scope", scope="{scope}"'])
    assert challenge(answered(spec, KEY)[0]) == []


# -- a rule that cannot be evaluated


def broken(exchange: Exchange) -> bool:
    raise KeyError("a secret claim")


@pytest.mark.parametrize(
    "spec",
    [Authz(holds=broken), Authz(not_=Rule(holds=broken)), Authz(public=True, deny=[Rule(holds=broken)]),
     Authz(public=True, deny=[Rule(not_=Rule(holds=broken))])],
    ids=["allow", "not", "deny", "deny not"],
)  # fmt: skip
def test_az5_an_error_in_a_rule_never_allows_and_is_logged_once(spec: Authz, caplog: pytest.LogCaptureFixture) -> None:
    policy = spec.bind(clock=ManualClock())
    for _ in range(3):
        exchange = request(identity=TOKEN)
        reply = decide(policy, exchange)
        assert reply is not None
        assert (reply.status, reply.reason) == (403, "authz.rule_failed")
        assert exchange.fault is Fault.GATEWAY
    (line,) = [record.getMessage() for record in caplog.records if record.name == "gatekit.authz"]
    assert "KeyError in broken, line " in line
    assert ("deny[0]" if spec.public else "allow[0]") in line
    assert "secret" not in line


def test_a_failed_rule_stops_no_other_that_allows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    reply, exchange = answered(Authz(allow=[{"holds": broken}, {"roles": "clerk"}]))
    assert (reply, exchange.facts["authz.rule"]) == (None, "allow[1]")


async def coroutine(exchange: Exchange) -> bool:
    return True


@pytest.mark.parametrize(
    "holds", [lambda exchange: 1, lambda exchange: "yes", lambda exchange: None, lambda exchange: coroutine(exchange)],
    ids=["1", "text", "None", "coroutine"],
)  # fmt: skip
def test_only_true_is_true(holds: Any) -> None:
    reply, _ = answered(Authz(holds=holds))
    assert reply is not None
    assert reply.reason == "authz.rule_failed"


def test_a_function_is_asked_and_named() -> None:
    def is_clerk(exchange: Exchange) -> bool:
        return exchange.identity is not None and "clerk" in exchange.identity.roles

    spec = Authz(holds=is_clerk)
    assert answered(spec)[0] is None
    assert "is_clerk holds" in " ".join(spec.bind(clock=ManualClock()).explain(request(identity=KEY)))


# -- conditions from outside


class Authoriser:
    """Somebody outside: says what it is told to, with a reply, a header of its own, work in the background, figures."""

    asks = True
    strips = frozenset({b"x-user"})
    words = "the authoriser agrees"

    def __init__(self, says: Verdict, reply: Reply | None = None) -> None:
        self.says = says
        self.reply = reply

    def bind_to(self, ports: Ports) -> Decider:
        return self

    def decide(self, exchange: Exchange) -> Verdict | Asking:
        async def ask() -> Verdict:
            if self.reply is not None:
                answer_with(exchange, self.reply)
            return self.says

        return ask

    def jobs(self) -> list[Job]:
        return [Job("refresh", self.refresh, lambda: 1.0)]

    async def refresh(self) -> None:
        """Nothing to do."""

    def status(self) -> dict[str, object]:
        return {"asked": 1}


OWN = Reply(401, "authz.denied", "Ask Ann.")


def test_who_is_asked_may_say_what_the_client_is_told() -> None:
    assert answered(Authz(holds=Authoriser(False, OWN)))[0] is OWN
    assert answered(Authz(holds=Authoriser(None, OWN)))[0] is OWN
    reply, exchange = answered(Authz(holds=Authoriser(True, OWN)))
    assert reply is None
    assert list(exchange.facts) == ["authz.rule"]


def test_the_first_that_says_something_is_heard() -> None:
    exchange = request()
    answer_with(exchange, OWN)
    answer_with(exchange, Reply(403, "authz.denied"))
    assert exchange.facts["authz.answer"] is OWN


def test_a_deny_rule_has_its_own_word() -> None:
    reply, _ = answered(Authz(public=True, deny=[{"holds": Authoriser(True, OWN)}]))
    assert reply is not None
    assert reply.reason == "authz.denied"
    assert reply is not OWN


@pytest.mark.parametrize("name", ["X-User", "x_user", "X.USER", "x-User"])
def test_az6_a_header_of_who_is_asked_is_taken_out_of_every_request(name: str) -> None:
    spec = Authz(allow=[{"holds": Authoriser(True)}, {"methods": "GET"}])
    for method in ("GET", "PUT"):
        _, exchange = answered(spec, method=method, headers=[(name, "root"), ("x-users", "kept")])
        assert [key for key, _ in exchange.headers] == [b"host", b"x-users"]
    opened = Authz(public=True).over(spec)
    assert (b"x-user", b"root") not in answered(opened, headers=[("X-User", "root")])[1].headers.raw


def test_its_work_and_figures_are_the_policys() -> None:
    policy = Authz(allow=[{"holds": Authoriser(True)}], deny=[{"not": {"methods": "GET"}}]).bind(clock=ManualClock())
    assert [job.key for job in policy.jobs()] == ["refresh"]
    assert policy.status() == {
        "allow": ["allow[0]"], "deny": ["deny[0]"], "outside": [{"says": "the authoriser agrees", "asked": 1}],
    }  # fmt: skip
    assert "has to ask: whether the authoriser agrees has to be asked" in policy.explain(request())[2]
    assert policy.explain(request(headers={"x-user": "root"}))[0] == "somebody outside has to be asked"


def test_a_policy_without_such_has_neither() -> None:
    policy = Authz(public=True).bind(clock=ManualClock())
    assert list(policy.jobs()) == []
    assert policy.status() == {"allow": ["public"], "deny": []}
    assert Authz().bind(clock=ManualClock()).status() == {"allow": [], "deny": []}


# -- AZ6: who is calling comes from identification, never from what a client writes


TRUSTED_NAMES = st.sampled_from(
    ["x-user", "x-user-id", "x-forwarded-user", "authorization", "x-roles", "remote-user", "x-forwarded-for", "cookie",
     "x-client-cert", "x-forwarded-client-cert", "identity", "scope", "authz.rule", "user", "x-tenant"]
)  # fmt: skip


@given(
    headers=st.lists(st.tuples(TRUSTED_NAMES, st.sampled_from(["admin", "Bearer admin", "ann", "clerk"])), max_size=6),
    query=st.sampled_from(["", "?user=admin", "?roles=admin&authz.rule=x", "?identity=admin"]),
)
@settings(max_examples=100, deadline=None)
def test_az6_nothing_a_client_sends_makes_it_somebody(headers: list[tuple[str, str]], query: str) -> None:
    spec = Authz(allow=[{"roles": ["admin"]}, {"subjects": ["admin"]}, {"tenants": ["admin"]}, {"scopes": ["admin"]}])
    for identity in (None, ANONYMOUS, TOKEN):
        reply, exchange = answered(spec, identity, headers=headers, target="/" + query)
        assert reply is not None
        assert exchange.identity is identity
        assert exchange.facts["authz.rule"] == "default"


def test_az6_the_embedded_app_sees_the_identity_that_was_judged() -> None:
    seen: list[Identity | None] = []

    def app(exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
        seen.append(exchange.identity)
        return 200, {}, b"ok"

    assert run([Authz(roles=["clerk"])], request(identity=TOKEN), app).status == 200
    assert seen == [TOKEN]


def test_a_missing_identification_fails_closed() -> None:
    result = run([Authz(authenticated=True)], request())
    assert result.status == 500


def test_a_websocket_is_judged_as_any_request() -> None:
    assert answered(Authz(roles=["x"]), kind="websocket")[0] is not None
    assert answered(Authz(roles=["clerk"]), kind="websocket")[0] is None


def test_the_access_log_can_tell_the_rule() -> None:
    _, exchange = answered(Authz(allow=[Rule(id="clerks", roles=["clerk"])]))
    assert exchange.has("authz.rule")
    assert exchange.facts == {"authz.rule": "clerks"}


def test_what_is_asked_of_a_caller_may_fail_too(caplog: pytest.LogCaptureFixture) -> None:
    def for_get_only(exchange: Exchange) -> bool:
        if exchange.method != "GET":
            raise KeyError("secret")
        return True

    # The scope is missing, so that nobody asked the function: only the look for what would help does.
    policy = Authz(all=[{"scopes": "x"}, {"methods": "PUT"}, {"holds": for_get_only}]).bind(clock=ManualClock())
    reply = decide(policy, request("PUT", identity=TOKEN))
    assert reply is not None
    assert (reply.reason, challenge(reply)) == ("authz.denied", [])
    assert len(caplog.records) == 1


def test_what_raises_alone_in_a_rule_is_no_allowance(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    class Raising:
        asks = False
        words = "it raises"

        def bind_to(self, ports: Ports) -> Decider:
            return self

        def decide(self, exchange: Exchange) -> Verdict:
            raise ValueError

    spec = Authz(allow=[{"holds": Raising()}, {"holds": Authoriser(False)}])
    reply, exchange = answered(spec)
    assert reply is not None
    assert (reply.reason, exchange.facts["authz.rule"]) == ("authz.rule_failed", "allow[0]")


def test_a_decision_tells_itself() -> None:
    assert repr(Decision(True, "owners", "allow")) == "<allowed by owners>"
    assert repr(Decision(False, "owners", "allow", failed=True)) == "<refused by owners, which failed>"


def test_an_error_without_a_place_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    BoundRule(Rule(methods=["GET"]), "r", Ports(), deny=False).note(KeyError())
    assert "KeyError in an unknown place" in caplog.text
