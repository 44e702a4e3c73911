"""What `explain` tells: the deciding rule, and for each other the first thing that spoke against it, without a value."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gatekit.core.certificate import Certificate
from gatekit.core.identity import Identity
from gatekit.policies.authz import Authz
from gatekit.testing import ManualClock, request

OWNER = Identity("ann", scopes=frozenset({"orders:read"}), claims={"tenant": "acme"}, scheme="jwt")


def test_az5_explain_tells_the_rule_and_what_spoke_against_the_others() -> None:
    policy = Authz(
        allow=[
            {"id": "owners", "scopes": "a", "claims": {"tenant": {"param": "tenant"}}},
            {"any": [{"roles": "admin"}, {"headers": {"x-secret-door": "s3cret"}}]},
            {"not": {"networks": "10.0.0.0/8"}},
            {"all": [{"not": {"roles": "clerk"}}, {"methods": "PUT"}]},
            {"methods": "GET"},
            {"holds": lambda exchange: 1 / 0},
            {"roles": "clerk", "claims": {"gone": "s3cret"}},
            {"not": {"not": {"methods": "PUT"}}},
            {"not": {"clients": "x"}},
            {"params": {"who": "x"}},
        ],
        deny=[{"methods": "DELETE"}],
    ).bind(clock=ManualClock())  # fmt: skip
    exchange = request(
        client="10.1.1.1",
        identity=Identity("ann", roles=frozenset({"clerk"}), scopes=frozenset({"a"}), claims={"tenant": "s3cret"}, scheme="jwt"),
        headers={"x-secret-door": "s3cret-2"},
        params={"tenant": "acme"},
    )  # fmt: skip
    logging.disable(logging.CRITICAL)
    try:
        lines = policy.explain(exchange)
    finally:
        logging.disable(logging.NOTSET)
    assert lines == [
        "allowed by allow[4]",
        "deny deny[0]: does not hold: it is not so that the method is DELETE",
        "allow owners: does not hold: it is not so that the claim tenant is what it has to be",
        "allow allow[1]: does not hold: it is not so that the caller is admin, and it is not so that the header "
        "x-secret-door is what it has to be",
        "allow allow[2]: does not hold: it is so that the client's address is in 10.0.0.0/8",
        "allow allow[3]: does not hold: it is so that the caller is clerk",
        "allow allow[4]: holds",
        "allow allow[5]: could not be evaluated: it could not be told whether "
        "test_az5_explain_tells_the_rule_and_what_spoke_against_the_others.<locals>.<lambda> holds",
        "allow allow[6]: does not hold: there is no claim gone",
        "allow allow[7]: does not hold: it is so that not (the method is PUT)",
        "allow allow[8]: does not hold: the caller has no client",
        "allow allow[9]: does not hold: the path has no parameter who",
    ]
    assert "s3cret" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("condition", "given", "why"),
    [
        ({"scopes": ["a", "b"]}, {}, "nobody is authenticated"),
        ({"any_scope": ["a", "b"]}, {"identity": OWNER}, "it is not so that the caller has one of the scopes a b"),
        ({"all_roles": ["a", "b"]}, {"identity": OWNER}, "it is not so that the caller is a and b"),
        ({"tenants": "x"}, {}, "nobody is authenticated"),
        ({"tenants": ["x", {"param": "t"}]}, {"identity": OWNER}, "the caller has no tenant"),
        ({"subjects": {"param": "t"}}, {"identity": OWNER}, "the path has no parameter t"),
        ({"subjects": ["x", {"param": "t"}]}, {"identity": OWNER, "params": {"t": "y"}},
         "it is not so that the subject is x or the path parameter t"),
        ({"claims": {"a": "x"}}, {}, "nobody is authenticated"),
        ({"claims": {"a": {"absent": True}}}, {}, "nobody is authenticated"),
        ({"claims": {"tenant": {"absent": True}}}, {"identity": OWNER}, "it is not so that the claim tenant is absent"),
        ({"claims": {"tenant": {"param": "t"}}}, {"identity": OWNER}, "the path has no parameter t"),
        ({"claims": {"tenant": {"contains": {"param": "t"}}}}, {"identity": OWNER}, "the path has no parameter t"),
        ({"authenticated": True}, {}, "it is not so that the caller is authenticated"),
        ({"authenticated": False}, {"identity": OWNER}, "it is not so that the caller is not authenticated"),
        ({"paths": ["/a", "/b/*"]}, {}, "it is not so that the path is /a or /b/*"),
        ({"headers": {"X-A": "b"}}, {}, "there is no header X-A"),
        ({"headers": {"X-A": {"present": True}}}, {}, "it is not so that the header X-A is present"),
        ({"headers": {"X-A": {"param": "t"}}}, {"headers": {"x-a": "b"}}, "the path has no parameter t"),
        ({"networks": "10.0.0.0/8"}, {"client": None}, "the client has no address"),
        ({"networks": [f"10.{n}.0.0/16" for n in range(9)]}, {},
         "it is not so that the client's address is in 10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 6 more"),
        ({"hours": "00:00-00:01"}, {}, "it is not so that the time is 00:00-00:01"),
        ({"since": "2099-01-01"}, {}, "it is not so that the time is 2099-01-01 or later"),
        ({"until": "1999-01-01"}, {}, "it is not so that the time is not after 1999-01-01"),
        ({"until": "1999-01-01 08:00"}, {}, "it is not so that the time is before 1999-01-01 08:00"),
        ({"certificate": {"dns": "x"}}, {}, "there is no client certificate"),
        ({"certificate": {"present": True}}, {}, "it is not so that there is a client certificate"),
    ],
)  # fmt: skip
def test_explain_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, condition: dict[str, Any], given: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr("gatekit.core.certificate.certificate_of", lambda exchange: None)
    policy = Authz.shorthand({"allow": [condition]}).bind(clock=ManualClock())
    assert policy.explain(request(**given)) == [
        "refused by default: no rule allows it", f"allow allow[0]: does not hold: {why}",
    ]  # fmt: skip


def test_explain_tells_of_a_certificate_without_such_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Certificate(b"", "", "web", (), ("spiffe://x",), (), None, None)
    monkeypatch.setattr("gatekit.core.certificate.certificate_of", lambda exchange: found)
    policy = Authz(certificate={"uris": "spiffe://y", "dns": "x"}).bind(clock=ManualClock())
    assert policy.explain(request())[1].endswith("the client certificate has no DNS name")
    policy = Authz(certificate={"uris": "spiffe://y"}).bind(clock=ManualClock())
    assert policy.explain(request())[1].endswith("a client certificate and its URI name is one that is wanted")


def test_explain_tells_of_a_rule_that_failed() -> None:
    policy = Authz(public=True, deny=[{"id": "d", "holds": lambda exchange: 1 / 0}]).bind(clock=ManualClock())
    logging.disable(logging.CRITICAL)
    try:
        assert policy.explain(request())[0] == "refused: the rule d could not be evaluated"
    finally:
        logging.disable(logging.NOTSET)
