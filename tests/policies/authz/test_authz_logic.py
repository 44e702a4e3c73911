"""The logic of rules against a brute-force reading of what is documented, for random rules, requests and orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.policies.authz import Asking, Authz, Outside, Rule, Verdict
from gatekit.policies.authz.rules import Decider, Part, all_of, any_of, negated
from gatekit.testing import ManualClock, decide, request
from gatekit.testing.policies import step

TRUE, FALSE, UNTOLD = True, False, None


class Says:
    """A condition from outside that always says the same; `later` says it only when it is asked. `calls` counts."""

    words = "it is said"

    def __init__(self, says: Any, *, later: bool = False, asks: bool | None = None) -> None:
        self.says = says
        self.later = later
        self.asks = later if asks is None else asks
        self.calls = 0
        self.looked = 0

    def bind_to(self, ports: Ports) -> Decider:
        return self

    def decide(self, exchange: Exchange) -> Verdict | Asking:
        self.looked += 1
        if self.later:
            return self._ask
        return self._said()

    async def _ask(self) -> Verdict:
        self.calls += 1
        return self._said()

    def _said(self) -> Verdict:
        if self.says == "raises":
            raise RuntimeError("secret")
        found: Verdict = self.says
        return found

    def __repr__(self) -> str:
        return f"Says({self.says!r}, later={self.later})"


# -- a reading of the documentation that knows nothing of closures, short cuts or who is asked when


def truth(rule: Rule, exchange: Exchange, *, deny: bool, negations: int = 0) -> Verdict:
    """All that is written in the rule must hold."""
    missing = negations % 2 == 1 and not deny
    found: list[Verdict] = []
    who = exchange.identity
    known = who if who is not None and who.scheme else None
    if rule.scopes is not None:
        found.append(missing if known is None else all(scope in known.scopes for scope in rule.scopes))
    if rule.roles is not None:
        found.append(missing if known is None else any(role in known.roles for role in rule.roles))
    if rule.authenticated is not None:
        found.append((known is not None) is rule.authenticated)
    if rule.methods is not None:
        found.append(exchange.method in rule.methods or (exchange.method == "HEAD" and "GET" in rule.methods))
    if rule.tenants is not None:
        params = [exchange.params.get(getattr(one, "param", "")) for one in rule.tenants]
        plain = [one for one in rule.tenants if isinstance(one, str)]
        if known is None or known.tenant is None:
            found.append(missing)
        elif known.tenant in plain or known.tenant in params:
            found.append(True)
        else:
            found.append(missing and any(value is None for value in params[len(plain) :]))
    for name, test in (rule.headers or {}).items():
        values = exchange.headers.get_all(name)
        if not values:
            found.append(missing)
        elif deny != (negations % 2 == 1):
            found.append(test.exact in values)
        else:
            found.append(all(value == test.exact for value in values))
    for name, wanted in (rule.claims or {}).items():
        value = None if known is None else known.claims.get(name)
        if value is None:
            found.append(missing)
        else:
            found.append(type(value) is type(wanted.exact) and value == wanted.exact)
    if rule.networks is not None:
        found.append(missing if exchange.client_ip is None else exchange.client_ip.startswith("10."))
    if rule.any is not None:
        found.append(any_kleene([truth(one, exchange, deny=deny, negations=negations) for one in rule.any]))
    if rule.all is not None:
        found.append(all_kleene([truth(one, exchange, deny=deny, negations=negations) for one in rule.all]))
    if rule.not_ is not None:
        inner = truth(rule.not_, exchange, deny=deny, negations=negations + 1)
        found.append(None if inner is None else not inner)
    if rule.holds is not None:
        assert isinstance(rule.holds, Says)
        found.append(rule.holds.says if rule.holds.says in (True, False) and rule.holds.says != "raises" else None)
    return all_kleene(found)


def all_kleene(found: list[Verdict]) -> Verdict:
    return False if False in found else None if None in found else True


def any_kleene(found: list[Verdict]) -> Verdict:
    return True if True in found else None if None in found else False


def brute_force(spec: Authz, exchange: Exchange) -> str:
    """allowed, denied (a deny rule or none that allows) or failed."""
    deny = [truth(rule, exchange, deny=True) for rule in spec.denials()]
    if True in deny:
        return "denied"
    if None in deny:
        return "failed"
    if spec.public:
        return "allowed"
    allow = [truth(rule, exchange, deny=False) for rule in spec.allowances()]
    return "allowed" if True in allow else "failed" if None in allow else "denied"


# -- random rules, requests, orders

NAMES = st.sampled_from(["a", "b"])
LISTS = st.lists(NAMES, min_size=1, max_size=2, unique=True)
SAYINGS = st.builds(
    Says, st.sampled_from([True, False, None, "raises"]), later=st.booleans()
)  # fmt: skip
LEAVES = st.one_of(
    st.fixed_dictionaries({"scopes": LISTS}),
    st.fixed_dictionaries({"roles": LISTS}),
    st.fixed_dictionaries({"authenticated": st.booleans()}),
    st.fixed_dictionaries({"methods": st.lists(st.sampled_from(["GET", "HEAD", "PUT"]), min_size=1, max_size=2)}),
    st.fixed_dictionaries(
        {"tenants": st.sampled_from([["a"], [{"param": "t"}], ["b", {"param": "t"}, {"param": "u"}]])}
    ),
    st.fixed_dictionaries({"headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), NAMES, min_size=1)}),
    st.fixed_dictionaries(
        {"claims": st.dictionaries(st.sampled_from(["c", "d"]), st.sampled_from(["a", True, 1]), min_size=1)}
    ),
    st.fixed_dictionaries({"networks": st.just(["10.0.0.0/8"])}),
    st.fixed_dictionaries({"holds": SAYINGS}),
)


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several conditions in one rule."""
    return {name: value for part in parts for name, value in part.items()}


FLAT = st.lists(LEAVES, min_size=1, max_size=3).map(merged)
RULES = st.recursive(
    FLAT,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        st.tuples(FLAT, st.lists(inner, min_size=1, max_size=2)).map(lambda pair: {**pair[0], "any": pair[1]}),
    ),
    max_leaves=6,
)
SPECS = st.one_of(
    st.fixed_dictionaries(
        {"allow": st.lists(RULES, min_size=1, max_size=3)}, optional={"deny": st.lists(RULES, max_size=2)}
    ),
    st.fixed_dictionaries({"public": st.just(True), "deny": st.lists(RULES, max_size=2)}),
    st.fixed_dictionaries({"deny": st.lists(RULES, max_size=2)}),
)
SETS = st.frozensets(NAMES)
KNOWN = st.builds(
    Identity,
    subject=st.just("ann"),
    tenant=st.none() | NAMES,
    scopes=SETS,
    roles=SETS,
    scheme=st.sampled_from(["jwt", "api_key"]),
    claims=st.dictionaries(st.sampled_from(["c", "d"]), st.sampled_from(["a", True, 1, None])),
)
REQUESTS = st.builds(
    lambda method, client, headers, params, identity: request(
        method, "/", client=client, headers=headers, params=params, identity=identity
    ),
    st.sampled_from(["GET", "HEAD", "PUT"]),
    st.sampled_from(["10.1.1.1", "192.0.2.1", None]),
    st.lists(st.tuples(st.sampled_from(["x-a", "x-b"]), NAMES), max_size=3),
    st.dictionaries(st.sampled_from(["t", "u"]), NAMES),
    KNOWN | st.just(ANONYMOUS) | st.none(),
)


def reordered(value: Any, shuffle: Callable[[list[Any]], Any]) -> Any:
    """The same rules, with every list and every mapping in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        shuffle(items)
        return {name: reordered(one, shuffle) for name, one in items}
    if isinstance(value, list):
        entries = [reordered(one, shuffle) for one in value]
        shuffle(entries)
        return entries
    return value


def outcome(reply: Reply | None) -> str:
    if reply is None:
        return "allowed"
    return "failed" if reply.reason == "authz.rule_failed" else "denied"


@given(written=SPECS, exchange=REQUESTS, random=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_az2_the_decision_is_the_documented_one_in_every_order(
    written: dict[str, Any], exchange: Exchange, random: Any
) -> None:
    spec = Authz.shorthand(written)
    reply = decide(spec.bind(clock=ManualClock()), exchange)
    expected = brute_force(spec, exchange)
    assert (reply is None) is (expected == "allowed")
    # Nobody is asked where no answer could allow the request, so that a failure may then not be seen.
    assert outcome(reply) == expected or "later=True" in repr(written)
    for _ in range(3):
        other = decide(Authz.shorthand(reordered(written, random.shuffle)).bind(clock=ManualClock()), exchange)
        assert (other and (other.status, other.reason, other.headers)) == (
            reply and (reply.status, reply.reason, reply.headers)
        )
    assert exchange.facts["authz.rule"]


@given(written=SPECS, exchange=REQUESTS)
@settings(max_examples=60, deadline=None)
def test_az2_another_deny_rule_never_allows_and_another_allow_rule_never_denies(
    written: dict[str, Any], exchange: Exchange
) -> None:
    before = outcome(decide(Authz.shorthand(written).bind(clock=ManualClock()), exchange))
    denying = {**written, "deny": [*written.get("deny", []), {"not": {"methods": ["TRACE"]}}]}
    assert outcome(decide(Authz.shorthand(denying).bind(clock=ManualClock()), exchange)) == "denied"
    if "public" not in written:
        allowing = {**written, "allow": [*written.get("allow", []), {"not": {"methods": ["TRACE"]}}]}
        after = outcome(decide(Authz.shorthand(allowing).bind(clock=ManualClock()), exchange))
        assert after == "allowed" or brute_force(Authz(deny=written.get("deny")), exchange) in ("denied", "failed")
        assert before != "allowed" or after == "allowed"


@given(written=SPECS, exchange=REQUESTS)
@settings(max_examples=150, deadline=None)
def test_explain_never_raises_and_agrees_with_the_decision(written: dict[str, Any], exchange: Exchange) -> None:
    policy = Authz.shorthand(written).bind(clock=ManualClock())
    first, *lines = policy.explain(exchange)
    reply = decide(policy, exchange)
    if not first.startswith("somebody outside"):
        assert first.startswith("allowed" if reply is None else "refused")
        assert (exchange.facts["authz.rule"] in first) or first == "refused by default: no rule allows it"
    assert len(lines) == len(written.get("allow", [])) + len(written.get("deny", []))


# -- the tables of the three answers

ANSWERS = st.sampled_from([TRUE, FALSE, UNTOLD])


def nothing(error: Exception | None) -> None:
    """Takes nothing down."""


def part(says: Any, *, later: bool = False) -> Part:
    one = Says(says, later=later)
    return Part(one.decide, "it is said", asks=later)


def settled(found: Verdict | Asking) -> Verdict:
    async def asked(asking: Callable[[], Awaitable[Verdict]]) -> Verdict:
        return await asking()

    return step(asked(found), "a rule") if callable(found) else found


@pytest.mark.parametrize("later", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("second", [TRUE, FALSE, UNTOLD, "raises", "junk"])
@pytest.mark.parametrize("first", [TRUE, FALSE, UNTOLD, "raises", "junk"])
def test_az2_all_any_and_not_of_three_answers(first: Any, second: Any, later: tuple[bool, bool]) -> None:
    values: list[Verdict] = [value if value in (True, False) else None for value in (first, second)]
    exchange = request()
    parts = [part(first, later=later[0]), part(second, later=later[1])]
    assert settled(all_of(parts, nothing).decide(exchange)) is all_kleene(values)
    assert settled(any_of(parts, nothing).decide(exchange)) is any_kleene(values)
    for joined, value in ((all_of(parts, nothing), all_kleene(values)), (any_of(parts, nothing), any_kleene(values))):
        turned = negated(joined, nothing).decide(exchange)
        assert settled(turned) is (None if value is None else not value)


@pytest.mark.parametrize(("says", "turned"), [(TRUE, FALSE), (FALSE, TRUE), (UNTOLD, UNTOLD), ("junk", UNTOLD)])
@pytest.mark.parametrize("later", [False, True])
def test_not_turns_what_is_told(says: Any, turned: Verdict, later: bool) -> None:
    assert settled(negated(part(says, later=later), nothing).decide(request())) is turned


@pytest.mark.parametrize("joint", [all_of, any_of])
def test_one_part_stands_for_itself(joint: Callable[..., Part]) -> None:
    alone = part(True)
    assert joint([alone], nothing) is alone


def test_what_raises_within_a_not_is_taken_down() -> None:
    noted: list[Exception | None] = []
    for asks in (False, True):
        one = Part(Says("raises").decide, "it is said", asks=asks)
        assert negated(one, noted.append).decide(request()) is None
    assert [type(error) for error in noted] == [RuntimeError, RuntimeError]


# -- who is asked, and when


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        (lambda one: {"allow": [{"holds": one}]}, 1),
        (lambda one: {"allow": [{"holds": one, "roles": ["a"]}]}, 0),
        (lambda one: {"allow": [{"roles": ["a"], "holds": one}]}, 0),
        (lambda one: {"allow": [{"holds": one}, {"methods": "GET"}]}, 0),
        (lambda one: {"allow": [{"any": [{"holds": one}, {"methods": "GET"}]}]}, 0),
        (lambda one: {"allow": [{"holds": one}], "deny": [{"methods": "GET"}]}, 0),
        (lambda one: {"allow": [{"holds": one}], "deny": [{"holds": Says(None)}]}, 0),
        (lambda one: {"public": True, "deny": [{"holds": one}]}, 1),
        (lambda one: {"allow": [{"roles": ["a"]}], "deny": [{"holds": one}]}, 0),
        (lambda one: {"public": True, "deny": [{"not": {"holds": one}}]}, 1),
        (lambda one: {"public": True, "deny": [{"holds": one}, {"holds": Says(None)}]}, 0),
    ],
)
def test_nobody_is_asked_where_the_answer_would_change_nothing(spec: Callable[[Says], Any], asked: int) -> None:
    one = Says(True, later=True)
    policy = Authz.shorthand(spec(one)).bind(clock=ManualClock())
    found = policy.decide(request(identity=ANONYMOUS))
    assert (found is None or isinstance(found, Reply)) is (asked == 0)
    if asked:
        step(found, "authz")
    assert one.calls == asked


def test_what_knows_its_answer_is_looked_at_first() -> None:
    one = Says(True, later=True)
    for rule in ({"all": [{"holds": one}, {"methods": "PUT"}]}, {"holds": one, "headers": {"x-a": "b"}}):
        decide(Authz.shorthand({"allow": [rule]}).bind(clock=ManualClock()), request())
    assert decide(Authz(any=[{"holds": one}, {"methods": "GET"}]).bind(clock=ManualClock()), request()) is None
    assert one.looked == 0


def test_each_is_asked_once_and_no_more_than_needed() -> None:
    yes, no, spare = (Says(value, later=True) for value in (True, False, True))
    spec = Authz(allow=[{"holds": no}, {"holds": yes}, {"holds": spare}], deny=[{"holds": no}])
    assert decide(spec.bind(clock=ManualClock()), request()) is None
    assert (no.calls, yes.calls, spare.calls) == (2, 1, 0)


@pytest.mark.parametrize(
    ("spec", "rule", "reason"),
    [
        ({"public": True, "deny": [{"holds": Says(None, later=True)}, {"holds": Says(True, later=True)}]}, "deny[1]",
         "authz.denied"),
        ({"public": True, "deny": [{"holds": Says(None, later=True)}, {"holds": Says(False, later=True)}]}, "deny[0]",
         "authz.rule_failed"),
        ({"allow": [{"holds": Says("raises", later=True)}, {"holds": Says(False, later=True)}]}, "allow[0]",
         "authz.rule_failed"),
        ({"allow": [{"holds": Says(None)}, {"holds": Says(None, later=True)}]}, "allow[0]", "authz.rule_failed"),
        ({"allow": [{"holds": Says(None)}, {"holds": Says(False, later=True)}]}, "allow[0]", "authz.rule_failed"),
        ({"allow": [{"holds": Says(True, later=True, asks=False)}]}, "allow[0]", "authz.rule_failed"),
    ],
)  # fmt: skip
def test_what_those_who_are_asked_say_decides(spec: dict[str, Any], rule: str, reason: str) -> None:
    exchange = request(identity=Identity("ann", scheme="jwt"))
    reply = decide(Authz.shorthand(spec).bind(clock=ManualClock()), exchange)
    assert reply is not None
    assert (exchange.facts["authz.rule"], reply.reason) == (rule, reason)


def test_a_condition_of_ones_own_is_a_protocol() -> None:
    assert isinstance(Says(True), Outside)
    assert isinstance(Says(True), Decider)
