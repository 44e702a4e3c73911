"""From claims to an identity: where each attribute comes from, and what is done about claims of the wrong form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.headers import encode_value
from gatekit.core.identity import Identity
from gatekit.policies.authn.claims import DEFAULT_PATHS, ClaimMap, ClaimRefused, look_up, marks, parse_claim_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sub", ("sub",)),
        ("org.id", ("org", "id")),
        ("a.b.c.d.e.f.g.h", tuple("abcdefgh")),
        ('"a.b"', ("a.b",)),
        ('resource_access."my.app".roles', ("resource_access", "my.app", "roles")),
        ("https://example.com/roles", ("https://example.com/roles",)),
        ('"https://example.com/a".roles', ("https://example.com/a", "roles")),
        ("urn:zitadel:iam:org:project:roles", ("urn:zitadel:iam:org:project:roles",)),
        ("cognito:groups", ("cognito:groups",)),
        ("a b", ("a b",)),
        ("0", ("0",)),
        ("é.ü", ("é", "ü")),
    ],
)
def test_a_path_is_names_with_dots_between(text: str, path: tuple[str, ...]) -> None:
    assert parse_claim_path(text) == path


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", '"a', 'a"', '""', 'a""', '"a"b', '"a""b"', "a\n", "\0", " a", "a ", "x" * 257, "a.b.c.d.e.f.g.h.i"],
)  # fmt: skip
def test_anything_else_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="path to a claim"):
        parse_claim_path(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [("a", 1), ("b.c", 2), ("b", {"c": 2, "d": None}), ("b.d", None), ("b.c.d", None), ("a.c", None), ("x", None), ("l.0", None)],
)  # fmt: skip
def test_a_path_leads_through_objects_only(path: str, value: Any) -> None:
    assert look_up({"a": 1, "b": {"c": 2, "d": None}, "l": [{"0": 1}]}, parse_claim_path(path)) == value


def identity(claims: dict[str, Any], **paths: Any) -> Identity:
    chosen: Any = paths
    return ClaimMap(chosen).identity(claims, issuer="i", scheme="jwt", expires=5.0)


KEYCLOAK = {
    "sub": "f:1:ann", "azp": "web", "scope": "openid  orders:read ", "realm_access": {"roles": ["admin", "user"]},
    "resource_access": {"my.app": {"roles": ["owner"]}}, "tenant_id": "acme",
}  # fmt: skip


def test_the_default_paths() -> None:
    found = identity(KEYCLOAK)
    assert found == Identity(
        "f:1:ann", "i", "acme", "web", frozenset({"openid", "orders:read"}), frozenset({"admin", "user"}), KEYCLOAK, "jwt", 5.0
    )  # fmt: skip
    assert identity({"sub": "a"}) == Identity("a", "i", claims={"sub": "a"}, scheme="jwt", expires=5.0)
    assert set(DEFAULT_PATHS) == {"subject", "tenant", "client", "scopes", "roles"}


def test_the_first_path_that_leads_anywhere_counts() -> None:
    paths = {"subject": ("email", "sub"), "tenant": ("org.id", "tid"), "roles": ("none", "groups"), "client": ()}
    claims = {
        "sub": "s",
        "email": None,
        "org": {"id": "o"},
        "tid": "t",
        "groups": ["g"],
        "client_id": "c",
        "roles": ["r"],
    }
    found = identity(claims, **paths)
    assert (found.subject, found.tenant, found.client, found.roles) == ("s", "o", None, frozenset("g"))
    assert identity({**claims, "email": "e@x", "org": 5}, **paths).tenant == "t"


def test_a_member_with_dots_in_its_name() -> None:
    paths = {"roles": ('resource_access."my.app".roles',), "scopes": ("https://example.com/scopes",)}
    found = identity({**KEYCLOAK, "https://example.com/scopes": ["a", "b"]}, **paths)
    assert (found.roles, found.scopes) == (frozenset({"owner"}), frozenset("ab"))


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("a b", {"a", "b"}),
        ("", set()),
        ("  ", set()),
        (["a", "b"], {"a", "b"}),
        (["a b", "c"], {"a", "b", "c"}),
        ([], set()),
        (None, set()),
        ("a,b", {"a,b"}),
        ("x" * 256, {"x" * 256}),
        ("é", {"é"}),
    ],
    ids=lambda value: None if isinstance(value, set) else repr(value)[:12],
)
def test_scopes_are_parted_by_spaces_or_in_a_list(value: Any, scopes: set[str]) -> None:
    assert identity({"sub": "a", "scope": value}).scopes == scopes


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        (["a", "b"], {"a", "b"}),
        ("admin", {"admin"}),
        ("not two", {"not two"}),
        ([], set()),
        (None, set()),
        (["a", "a,admin", ",", "cn=x,ou=y"], {"a"}),
        ("a,admin", set()),
    ],
    ids=lambda value: None if isinstance(value, set) else repr(value)[:12],
)
def test_roles_are_in_a_list_and_none_is_read_as_two(value: Any, roles: set[str]) -> None:
    assert identity({"sub": "a", "roles": value}).roles == roles


WRONG: list[Any] = [1, 0, 1.5, True, False, {}, {"a": 1}]
NO_TEXT: list[Any] = ["", " a", "a ", "a\n", "a\r\nx: y", "a\0", "\x7f", "\t", "x" * 257]


@pytest.mark.parametrize("value", [*WRONG, *NO_TEXT, ["a"], []], ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(("claim", "attribute"), [("sub", "subject"), ("tenant_id", "tenant"), ("azp", "client")])
def test_a_text_of_the_wrong_form_refuses_the_token(claim: str, attribute: str, value: Any) -> None:
    with pytest.raises(ClaimRefused) as caught:
        identity({"sub": "a", claim: value})
    assert (caught.value.attribute, caught.value.missing, str(caught.value)) == (attribute, False, attribute)


@pytest.mark.parametrize("value", [*WRONG, [1], ["a", None], [["a"]], ["a\n"], ["a\0b"], "a\tb", ["x" * 257]], ids=lambda value: repr(value)[:12])  # fmt: skip
@pytest.mark.parametrize(("claim", "attribute"), [("scope", "scopes"), ("scp", "scopes"), ("roles", "roles")])
def test_scopes_and_roles_of_the_wrong_form_refuse_the_token(claim: str, attribute: str, value: Any) -> None:
    with pytest.raises(ClaimRefused) as caught:
        identity({"sub": "a", claim: value})
    assert (caught.value.attribute, caught.value.missing) == (attribute, False)


@pytest.mark.parametrize("value", [[""], [" a"], ["a "]], ids=repr)
def test_a_role_is_not_called_otherwise_once_it_is_in_a_header(value: list[str]) -> None:
    with pytest.raises(ClaimRefused):
        identity({"sub": "a", "roles": value})


def test_a_caller_without_a_subject_is_nobody() -> None:
    for claims in ({}, {"sub": None}, {"email": "a"}):
        with pytest.raises(ClaimRefused) as caught:
            identity(claims)
        assert (caught.value.attribute, caught.value.missing) == ("subject", True)
    with pytest.raises(ValueError, match="at least one path"):
        ClaimMap({"subject": ()})
    with pytest.raises(ValueError, match="not a path"):
        ClaimMap({"roles": ("a..b",)})


def test_claims_are_there_to_be_read() -> None:
    found = identity(KEYCLOAK)
    assert found.claims == KEYCLOAK
    with pytest.raises(TypeError):
        found.claims["sub"] = "root"  # type: ignore[index]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    TEXTS, st.lists(TEXTS, max_size=3), st.integers(), st.booleans(), st.none(), st.dictionaries(TEXTS, TEXTS)
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["sub", "tenant_id", "client_id", "scope", "roles", "jti"]), VALUES))
def test_whatever_an_identity_holds_can_be_told_in_a_header_as_it_is(claims: dict[str, Any]) -> None:
    try:
        found = identity(claims)
        marks(claims, found)
    except ClaimRefused:
        return
    for text in (found.subject, found.tenant or "", found.client or ""):
        assert encode_value(text.encode()).decode() == text
    for texts, mark in ((found.scopes, " "), (found.roles, ",")):
        told = encode_value(mark.join(sorted(texts)).encode()).decode()
        assert frozenset(told.split(mark) if told else ()) == texts


def test_marks_are_what_can_be_revoked() -> None:
    claims = {"jti": "1", "sub": "ann", "sid": "s", "iat": 5, "client_id": "c", "org": "acme", "iss": "i", "exp": 9}
    found = marks(claims, identity(claims, subject=("client_id",), tenant=("org",)))
    assert found == {"jti": "1", "sub": "ann", "sid": "s", "client_id": "c", "tenant": "acme", "iss": "i", "iat": 5}
    with pytest.raises(TypeError):
        found["jti"] = "2"  # type: ignore[index]
    assert marks({"sub": "a", "iat": 1.5}, identity({"sub": "a"})) == {"sub": "a", "iss": "i", "iat": 1.5}
    nobody = ClaimMap({}).identity({"sub": "a"}, issuer="", scheme="jwt", expires=None)
    assert marks({"jti": None, "iat": True}, nobody) == {}
    assert marks({"iat": "5"}, nobody) == {}


@pytest.mark.parametrize("name", ["jti", "sub", "sid"])
@pytest.mark.parametrize("value", [1, True, ["a"], {}], ids=repr)
def test_what_nobody_could_revoke_is_not_taken(name: str, value: Any) -> None:
    with pytest.raises(ClaimRefused) as caught:
        marks({name: value}, identity({"sub": "a"}))
    assert (caught.value.attribute, caught.value.missing) == (name, False)
