"""Conditions in CEL: what they may use, what is refused when they are loaded, and that nothing but true ever allows."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatekit.core.exchange import Exchange
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.errors import MissingPort
from gatekit.policies.authz import Authz, Rule
from gatekit.policies.authz import cel as module
from gatekit.policies.authz.cel import MAX_DEPTH, MAX_LENGTH, MAX_TEXT, MAX_VALUES, Cel, cel, compiled
from gatekit.policies.authz.cel_tree import MAX_ITEMS
from gatekit.policies.authz.rules import Decider, Outside
from gatekit.testing import ManualClock, decide, request, test_ports

ANN = Identity(
    "ann", issuer="https://id.example", tenant="acme", scopes=frozenset({"orders:read"}), roles=frozenset({"admin", "staff"}),
    claims={"tenant": "acme", "level": 3, "groups": ["a", "b"], "address": {"country": "CH"}, "exp": 1_700_000_000},
    scheme="jwt",
)  # fmt: skip


def asked(**given: Any) -> Exchange:
    told: dict[str, Any] = {
        "identity": ANN, "params": {"tenant": "acme", "id": "7"}, "headers": [("X-Plan", "gold"), ("X-Two", "1"), ("X-Two", "2")],
        **given,
    }  # fmt: skip
    return request("GET", "https://shop.test/v1/orders/7?q=a%20b", **told)


def verdict(expression: str, exchange: Exchange | None = None, **ports: Any) -> bool | None:
    found = Cel(expression=expression).bind_to(test_ports(**ports)).decide(asked() if exchange is None else exchange)
    assert found is None or isinstance(found, bool)
    return found


def refused(expression: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Cel(expression=expression)
    (found,) = caught.value.errors()
    return found["msg"].removeprefix("Value error, ")


# -- what it may use


@pytest.mark.parametrize(
    "expression",
    [
        "claims.tenant == params.tenant && 'admin' in roles",
        "claims.level >= 3 && claims.groups.exists(g, g == 'b')",
        "claims['address']['country'] == 'CH'",
        "'level' in claims && !('other' in claims)",
        "has(claims.level) && !has(claims.other)",
        "!has(claims.address.city)",
        "'orders:read' in scopes && scopes.size() == 1",
        "roles[0] == 'admin' && roles[1] == 'staff'",
        "identity.subject == 'ann' && identity.issuer == 'https://id.example' && identity.tenant == 'acme'",
        "identity.authenticated && identity.scheme == 'jwt' && !has(identity.client)",
        "params.id == '7' && int(params.id) < 8",
        "request.method == 'GET' && request.scheme == 'https' && request.host == 'shop.test'",
        "request.path == '/v1/orders/7' && request.query == 'q=a%20b'",
        "request.path.matches('^/v[0-9]+/') && !request.path.matches('^/admin')",
        "request.headers['x-plan'] == 'gold' && !('x-other' in request.headers)",
        "request.headers['x-two'] == '1, 2'",
        "request.headers.exists(name, name == 'x-plan')",
        "client_ip == '192.0.2.1'",
        "now == timestamp('2023-11-14T22:13:20Z') && timestamp(claims.exp) == now",
        "now.getDayOfWeek() == 2 && now.getHours('Europe/Zurich') == 23",
        "claims[params.tenant == 'acme' ? 'level' : 'x'] == 3",
        "{'a': 'admin'}[params.id == '7' ? 'a' : 'b'] in roles",
        "['x', 'admin'].exists(one, one in roles)",
        "dyn(claims).size() == 5",
        "roles.exists(r, r.matches('^ad[a-z]+$'))",
    ],
)
def test_it_is_true_of(expression: str) -> None:
    assert verdict(expression, clock=ManualClock(wall=1_700_000_000.9)) is True
    assert verdict(f"!({expression})", clock=ManualClock(wall=1_700_000_000.9)) is False


@pytest.mark.parametrize(
    ("expression", "exchange"),
    [
        ("claims.other == 'x'", asked()),
        ("claims.other != 'x'", asked()),
        ("!(claims.other == 'x')", asked()),
        ("claims.address.city == 'x'", asked()),
        ("claims.level.deeper == 'x'", asked()),
        ("claims.level == 3 && claims.other == 1", asked()),
        ("identity.client == 'app'", asked()),
        ("identity.tenant == params.tenant", asked(identity=ANONYMOUS)),
        ("identity.tenant == params.tenant", asked(identity=None)),
        ("params.nothing == ''", asked()),
        ("request.headers['x-other'] == ''", asked()),
        ("client_ip != '192.0.2.1'", asked(client=None)),
        ("roles[2] == 'x'", asked()),
        ("1 / (claims.level - 3) == 0", asked()),
        ("claims.level + 9223372036854775807 > 0", asked()),
        ("int(claims.tenant) == 0", asked()),
        ("claims.level", asked()),
        ("claims.tenant", asked()),
        ("claims.groups", asked()),
        ("claims.level == 3 ? claims.level : true", asked()),
        ("claims.big > 1", asked(identity=Identity("ann", claims={"big": 2**70}, scheme="jwt"))),
        ("claims.odd == claims.odd", asked(identity=Identity("ann", claims={"odd": object()}, scheme="jwt"))),
        ("claims.text == 'x'", asked(identity=Identity("ann", claims={"text": "\ud800"}, scheme="jwt"))),
    ],
)
def test_az5_what_fails_or_is_no_boolean_is_untold(expression: str, exchange: Exchange) -> None:
    assert verdict(expression, exchange) is None


def test_an_error_is_absorbed_where_the_rest_settles_it() -> None:
    assert verdict("claims.other == 1 || claims.level == 3") is True
    assert verdict("claims.level == 3 || claims.other == 1") is True
    assert verdict("claims.other == 1 && claims.level == 4") is False


def test_only_what_it_names_is_handed_over() -> None:
    odd = Identity("ann", claims={"odd": object(), "level": 3}, scheme="jwt")
    assert verdict("claims.level == 3 && claims['level'] == 3 && 'level' in claims", asked(identity=odd)) is True
    assert verdict("claims[params.id == '7' ? 'level' : 'x'] == 3", asked(identity=odd)) is None
    assert compiled("claims.a.b == 1 && has(claims.c)").uses == {"claims": frozenset({"a", "c"})}
    assert compiled("claims.a == 1 || claims == {}").uses == {"claims": None}
    assert compiled("claims == {} || claims.a == 1").uses == {"claims": None}
    assert compiled("[1].exists(x, x == 1)").uses == {}


def test_a_clock_is_asked_for_only_by_what_uses_it() -> None:
    assert Cel(expression="claims.level == 3").bind_to(test_ports(clock=None)).decide(asked()) is True
    with pytest.raises(MissingPort, match="clock"):
        Cel(expression="now > timestamp(0)").bind_to(test_ports(clock=None))


# -- what is refused when it is loaded


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("claims.tenant ==", "line 1, column 17: Syntax error"),
        ("true &&\n  nosuch", "line 2, column 3: undeclared reference to 'nosuch'"),
        ("request.pth == '/'", "column 8: undeclared reference to 'request.pth'"),
        ("1 == 'a'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("roles == 'admin'", "found no matching overload"),
        ("request.path.nosuch()", "undeclared reference to 'nosuch'"),
        ("seconds == 1", "undeclared reference to 'seconds'"),
        ("'a'.format([])", "undeclared reference to 'format'"),
        ("request.path", "true or false, and this one is of type string"),
        ("claims", "of type map<string, dyn>"),
        ("size(roles)", "of type int"),
        (
            "identity.sbject == 'x'",
            "identity has no 'sbject': it has authenticated, client, issuer, scheme, subject, tenant",
        ),
        ("request.headers['X-Plan'] == 'x'", "names of headers are in lower case: write 'x-plan'"),
        ("request.path.matches(claims.pattern)", "the regular expression of matches() is written down"),
        ("matches(request.path, params.id)", "the regular expression of matches() is written down"),
        (r"request.path.matches('(a)\\1')", "RE2 has no look-around and no back-references"),
        ("request.path.matches('(')", "does not compile"),
        (r"request.path.matches(r'\pL{1,200}')", "write smaller repetitions"),
        ("google.protobuf.Struct{} == {}", "there are no protobuf messages here"),
        ("(" * 40 + "true" + ")" * 40, "recursion limit"),
        ("true" + " && (true" * 40 + ")" * 40, "recursion"),
    ],
)
def test_a_bad_expression_is_a_config_error_that_says_where(expression: str, says: str) -> None:
    assert says in refused(expression)


def test_of_many_findings_three_are_told() -> None:
    assert refused("a + b + c + d + e").count("undeclared") == 3


@pytest.mark.parametrize(
    "expression",
    [
        "roles.exists(a, roles.exists(b, a == b))",
        "roles.all(r, r.matches('.{1,100}'))",
        "request.path.matches('.{1,255}') && request.path.matches('.{1,255}') && request.query.matches('[a-z]{1,999}.{1,255}.{1,255}.{1,255}')",
        "roles.map(r, r + r).size() == 1",
        "(roles + roles + roles).exists(r, r.contains('x'))",
        "roles.exists(r, claims.a.contains(r) || claims.b.contains(r) || claims.c.contains(r))",
        "[" + ",".join(f"'{one}'" for one in range(40)) + "].exists(a, roles.exists(b, a == b))",
    ],
)
def test_an_expression_that_could_be_dear_is_refused(expression: str) -> None:
    found = refused(expression)
    assert "loops within loops multiply" in found or "instructions of at most" in found


def test_a_long_expression_is_refused() -> None:
    assert "at most 4096" in refused("true" + " " * MAX_LENGTH)
    assert verdict("true" + " " * (MAX_LENGTH - 4)) is True
    assert refused("") != ""


@pytest.fixture
def without_the_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = (module._package, module._environment, module._instant, module.compiled)
    for one in kept:
        one.cache_clear()
    monkeypatch.setitem(sys.modules, "cel_expr_python.cel", None)
    yield
    for one in kept:
        one.cache_clear()


@pytest.mark.usefixtures("without_the_package")
def test_without_the_package_the_extra_is_named() -> None:
    assert "install gatekit-asgi[cel]" in refused("true")


def test_the_package_is_not_loaded_before_an_expression_is() -> None:
    import subprocess

    told = (
        "import sys, gatekit.policies.authz.cel, gatekit.policies.authz.config; print('cel_expr_python' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == "False"


# -- bounds on what a request brings


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = {"a": found}
    return found


def caller(value: Any) -> Exchange:
    return asked(identity=Identity("ann", claims={"x": value}, scheme="jwt"))


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (list(range(MAX_ITEMS)), True),
        (list(range(MAX_ITEMS + 1)), False),
        ({str(one): one for one in range(MAX_ITEMS + 1)}, False),
        ([[0] * 200] * 9, True),
        ([[0] * 200] * 11, False),
        ("a" * (MAX_TEXT - 1), True),
        ("a" * MAX_TEXT, False),
        ({"a" * MAX_TEXT: 1}, False),
        (b"a" * MAX_TEXT, False),
        (nested(MAX_DEPTH - 2), True),
        (nested(MAX_DEPTH), False),
        (nested(100_000), False),
    ],
    ids=range(12),
)
def test_a_request_with_too_much_is_untold(value: Any, fits: bool) -> None:
    assert MAX_VALUES > 200 * 9
    assert verdict("has(claims.x)", caller(value)) is (True if fits else None)


def test_what_contains_itself_brings_nobody_down() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert verdict("has(claims.x)", caller(ring)) is None


def test_a_catastrophic_regex_is_none() -> None:
    """RE2 is linear: this would take an engine that backtracks longer than anybody waits."""
    exchange = asked(headers={"x-a": "a" * 4000 + "!"})
    assert verdict("request.headers['x-a'].matches('^(a|aa)+$')", exchange) is False


# -- as a condition of rules


def test_it_is_what_rules_take_from_outside() -> None:
    asked_for = cel("claims.level == 3")
    assert (
        asked_for == Cel.model_validate("claims.level == 3") == Cel.model_validate({"expression": "claims.level == 3"})
    )
    assert isinstance(asked_for, Outside)
    assert not asked_for.asks
    decider = asked_for.bind_to(test_ports())
    assert isinstance(decider, Decider)
    assert decider.words == "the expression claims.level == 3 is true"
    assert len(cel(f"claims.level == 3 && claims.other != '{'x' * 200}'").bind_to(test_ports()).words) < 150
    with pytest.raises(ValidationError):
        Cel.model_validate(3)


def test_rules_with_an_expression_decide_by_it() -> None:
    policy = Authz(allow=(Rule(cel=cel("claims.tenant == params.tenant")),)).bind(test_ports())
    assert decide(policy, asked()) is None
    denied = decide(policy, asked(params={"tenant": "other"}))
    assert denied is not None
    assert (denied.status, denied.reason) == (403, "authz.denied")
    untold = decide(policy, asked(params={}))
    assert untold is not None
    assert untold.status == 403
    assert policy.status()["outside"] == [
        {
            "says": "the expression claims.tenant == params.tenant is true", "expression": "claims.tenant == params.tenant",
            "true": 1, "false": 1, "untold": 1,
        }
    ]  # fmt: skip


def test_a_deny_rule_that_is_untold_denies() -> None:
    policy = Authz(allow=(Rule(authenticated=True),), deny=(Rule(cel=cel("claims.suspended == true")),)).bind(
        test_ports()
    )
    assert decide(policy, asked()) is not None
    policy = Authz(
        allow=(Rule(authenticated=True),), deny=(Rule(cel=cel("has(claims.suspended) && claims.suspended")),)
    ).bind(test_ports())
    assert decide(policy, asked()) is None


def test_a_config_error_names_the_place_in_the_rule() -> None:
    with pytest.raises(ValidationError) as caught:
        Authz.model_validate({"allow": [{"cel": "claims.tenant =="}]})
    assert any("line 1, column 17" in one["msg"] and "cel" in one["loc"] for one in caught.value.errors())


# -- properties


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), values))
def test_no_claims_make_it_raise_or_answer_anything_but_a_verdict(claims: Mapping[str, Any]) -> None:
    exchange = asked(identity=Identity("ann", claims=claims, scheme="jwt"))
    for text in (
        "claims.a == claims.b",
        "claims.a.c == 1 || claims.b",
        "claims.a < claims.b",
        "claims.exists(k, claims[k] == 1)",
    ):
        assert verdict(text, exchange) in (True, False, None)


words = st.sampled_from(
    ["claims", ".a", "['a']", "roles", "==", "&&", "||", "!", "(", ")", "1", "'a'", "in", "+", "-", "[", "]", "{", "}", ":", "?",
     ".exists(x,", ".matches(", "x", "true", "null", "has(", ",", "identity", ".tenant", "'", "\\", "\n", "\x00", "é"]
)  # fmt: skip


@given(st.lists(words, max_size=12).map("".join) | st.text(max_size=30))
def test_any_text_compiles_or_is_refused_with_a_sentence(text: str) -> None:
    try:
        found = Cel(expression=text)
    except ValidationError as error:
        told = error.errors()[0]["msg"]
    else:
        told = "nothing"
        assert found.bind_to(test_ports()).decide(asked()) in (True, False, None)
    assert told


@pytest.fixture
def threads() -> Iterator[Callable[[Callable[[], None]], None]]:
    begun: list[threading.Thread] = []

    def start(work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        begun.append(thread)
        thread.start()

    yield start
    for thread in begun:
        thread.join(timeout=30)


def test_threads_may_share_an_expression(threads: Callable[[Callable[[], None]], None]) -> None:
    bound = cel("claims.tenant == params.tenant && roles.exists(r, r == 'admin')").bind_to(test_ports())
    wrong: list[Any] = []

    def work() -> None:
        mine = asked()
        wrong.extend(found for found in (bound.decide(mine) for _ in range(500)) if found is not True)

    for _ in range(4):
        threads(work)
    assert not wrong
