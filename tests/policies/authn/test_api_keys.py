"""API keys: who gets in, what is answered otherwise, what goes on, and that no secret is ever shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.headers import fold
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.policy import IDENTITY, Stage, ValidationError
from gatekit.core.verdict import Reply, render
from gatekit.errors import MisplacedPolicy
from gatekit.policies.authn import ApiKey, ApiKeys, Authn, api_keys

Requests = Callable[..., Exchange]

SECRET = "gk_live_0123456789abcdef0123456789abcdef"
HASH = "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()
OTHER = "gk_live_another_key_with_enough_entropy"
KEYS = {
    "reports": ApiKey(secret=SECRET, subject="svc-reports", tenant="acme", scopes=["b", "a"], roles=["y", "x"]),
    "other": ApiKey(OTHER),
}


def refused(reply: Reply | None) -> tuple[int, str, list[str]]:
    assert reply is not None
    return reply.status, reply.reason, [value.decode() for name, value in reply.headers if name == b"www-authenticate"]


def passed(policy: Any, exchange: Exchange) -> Identity:
    assert policy.decide(exchange) is None
    assert exchange.identity is not None
    return exchange.identity


def test_a_good_key_gives_its_identity(request_to: Requests) -> None:
    policy = Authn(api_keys(KEYS)).bind()
    identity = passed(policy, request_to(headers={"X-Api-Key": SECRET}))
    assert identity == Identity(
        "svc-reports", tenant="acme", client="reports", scopes=frozenset("ab"), roles=frozenset("xy"), scheme="api_key"
    )
    assert identity.is_authenticated
    again = passed(policy, request_to(headers={"X-Api-Key": SECRET}))
    assert again is identity
    assert passed(policy, request_to(headers={"X-Api-Key": OTHER})).subject == "other"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "authn.missing_key"),
        ([("Authorization", f"Bearer {SECRET}")], "authn.missing_key"),
        ([("X-Api-Key", "wrong")], "authn.invalid_key"),
        ([("X-Api-Key", "")], "authn.invalid_key"),
        ([("X-Api-Key", SECRET.upper())], "authn.invalid_key"),
        ([("X-Api-Key", "reports")], "authn.invalid_key"),
        ([("X-Api-Key", HASH)], "authn.invalid_key"),
        ([("X-Api-Key", SECRET + "x" * 500)], "authn.invalid_key"),
        ([("X-Api-Key", SECRET), ("X-Api-Key", SECRET)], "authn.ambiguous_key"),
        ([("X-Api-Key", SECRET), ("x-api-key", "wrong")], "authn.ambiguous_key"),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_anything_else_is_401(
    request_to: Requests, headers: list[tuple[str, str]], reason: str, optional: bool
) -> None:
    exchange = request_to(headers=headers)
    policy = Authn(api_keys(KEYS), optional=optional).bind()
    if optional and reason == "authn.missing_key":
        assert passed(policy, exchange) is ANONYMOUS
    else:
        assert refused(policy.decide(exchange)) == (401, reason, ['ApiKey realm="gateway"'])
        assert exchange.identity is None


def test_an12_bearer_challenges_carry_the_error_code_of_rfc_6750(request_to: Requests) -> None:
    policy = Authn(api_keys(KEYS, header="Authorization", scheme="Bearer"), realm="shop api").bind()
    assert refused(policy.decide(request_to()))[2] == ['Bearer realm="shop api"']
    one, two = [("Authorization", "Bearer wrong")], [("Authorization", f"Bearer {SECRET}")] * 2
    for headers, reason, error in ((one, "authn.invalid_key", "token"), (two, "authn.ambiguous_key", "request")):
        challenge = f'Bearer realm="shop api", error="invalid_{error}"'
        assert refused(policy.decide(request_to(headers=headers))) == (401, reason, [challenge])


def test_a_key_that_is_too_long_is_wrong_whoever_has_it(request_to: Requests) -> None:
    for length, reason in ((len(SECRET) - 1, "authn.invalid_key"), (len(SECRET), None)):
        reply = Authn(api_keys(KEYS, max_length=length)).bind().decide(request_to(headers={"X-Api-Key": SECRET}))
        assert (None if reply is None else reply.reason) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f"Bearer {SECRET}", None),
        (f"bearer   {SECRET} ", None),
        (f"BEARER {SECRET}", None),
        (f"Basic {SECRET}", "authn.missing_key"),
        (SECRET, "authn.missing_key"),
        ("Bearer", "authn.invalid_key"),
        (f"Bearer {SECRET} more", "authn.invalid_key"),
        (f"Bearer  {SECRET},{SECRET}", "authn.invalid_key"),
    ],
)
def test_a_key_behind_a_scheme(request_to: Requests, value: str, reason: str | None) -> None:
    policy = Authn(api_keys(KEYS, header="Authorization", scheme="Bearer")).bind()
    reply = policy.decide(request_to(headers={"Authorization": value}))
    assert (None if reply is None else reply.reason) == reason


@pytest.mark.parametrize(
    ("query", "headers", "reason", "left"),
    [
        (f"key={SECRET}", {}, None, ""),
        (f"a=1&key={SECRET}&b=%20&a", {}, None, "a=1&b=%20&a"),
        (f"%6bey={SECRET}", {}, None, ""),
        (f"key={SECRET.replace('_', '%5F')}", {}, None, ""),
        ("a=1", {"X-Api-Key": SECRET}, None, "a=1"),
        ("key=", {}, "authn.invalid_key", None),
        ("key", {}, "authn.invalid_key", None),
        (f"key=wrong&key={SECRET}", {}, "authn.ambiguous_key", None),
        (f"key={SECRET}", {"X-Api-Key": SECRET}, "authn.ambiguous_key", None),
        (f"KEY={SECRET}", {}, "authn.missing_key", None),
        ("", {}, "authn.missing_key", None),
    ],
)
def test_a_key_in_the_query(
    request_to: Requests, query: str, headers: dict[str, str], reason: str | None, left: str | None
) -> None:
    exchange = request_to(f"/a?{query}", headers=headers)
    reply = Authn(api_keys(KEYS, query="key")).bind().decide(exchange)
    assert (None if reply is None else reply.reason) == reason
    if left is not None:
        assert exchange.target_query.decode() == left


def test_a_query_that_held_no_key_is_not_rewritten(request_to: Requests) -> None:
    exchange = request_to("/a?b=1", headers={"X-Api-Key": SECRET})
    passed(Authn(api_keys(KEYS, query="key")).bind(), exchange)
    assert not exchange.rewritten


def test_credentials_go_on_only_where_that_is_asked_for(request_to: Requests) -> None:
    spellings = [("X-Api-Key", SECRET), ("X_Api_Key", "b"), ("x.api.key", "c"), ("X-Api-Kez", "kept")]
    exchange = request_to("/?key=", headers=spellings)
    server_list, before = exchange.headers.raw, list(exchange.headers.raw)
    passed(Authn(api_keys(KEYS)).bind(), exchange)
    assert exchange.headers.raw[1:] == [(b"x-api-kez", b"kept")]
    assert server_list == before
    exchange = request_to("/?key=" + SECRET)
    passed(Authn(api_keys(KEYS, query="key", forward=True)).bind(), exchange)
    assert exchange.target_query.decode() == "key=" + SECRET
    exchange = request_to(headers=spellings)
    passed(Authn(api_keys(KEYS, forward=True)).bind(), exchange)
    assert exchange.headers.raw == before


ATTRIBUTES: Any = {
    "X-User-Id": "subject", "X-Tenant": "tenant", "X-Scopes": "scopes", "X-Roles": "roles", "X-Client": "client",
}  # fmt: skip
FORGED = [
    ("X-User-Id", "root"), ("X_User_Id", "root"), ("x.user.id", "root"), ("X-USER_ID", "root"), ("x_tenant", "evil"),
    ("X-Roles", "admin"), ("Accept", "*/*"),
]  # fmt: skip


def test_an11_identity_headers_are_ours_alone(request_to: Requests) -> None:
    exchange = request_to(headers=[*FORGED, ("X-Api-Key", SECRET)])
    passed(Authn(api_keys(KEYS), identity_headers=ATTRIBUTES).bind(), exchange)
    assert exchange.headers.raw[1:] == [
        (b"accept", b"*/*"), (b"x-user-id", b"svc-reports"), (b"x-tenant", b"acme"), (b"x-scopes", b"a b"),
        (b"x-roles", b"x,y"), (b"x-client", b"reports"),
    ]  # fmt: skip


def test_an11_an_anonymous_caller_cannot_bring_them_either(request_to: Requests) -> None:
    exchange = request_to(headers=FORGED)
    passed(Authn(api_keys(KEYS), optional=True, identity_headers=ATTRIBUTES).bind(), exchange)
    assert exchange.headers.raw[1:] == [(b"accept", b"*/*")]


def test_an_identity_found_further_out_stays_where_a_key_is_optional(request_to: Requests) -> None:
    exchange = request_to(headers=FORGED)
    exchange.identity = Identity("ann", scheme="mtls")
    assert passed(Authn(api_keys(KEYS), optional=True, identity_headers=ATTRIBUTES).bind(), exchange).subject == "ann"
    assert exchange.headers.get_all("x-user-id") == ["ann"]


def test_a_subject_beyond_ascii_is_sent_as_utf_8(request_to: Requests) -> None:
    keys = {"k": ApiKey(secret=SECRET, subject="Zoë")}
    exchange = request_to(headers={"X-Api-Key": SECRET})
    passed(Authn(api_keys(keys), identity_headers={"X-User": "subject"}).bind(), exchange)
    assert exchange.headers.get_bytes(b"x-user") == "Zoë".encode()


@given(st.lists(st.sampled_from(["X-User-Id", "x_user-id", "X.USER.ID", "X-User", "Y-User-Id"]), max_size=8))
@settings(max_examples=60)
def test_se5_no_spelling_of_an_identity_header_comes_through(names: list[str]) -> None:
    from gatekit.core.headers import Headers

    policy = Authn(api_keys(KEYS), optional=True, identity_headers={"X-User-Id": "subject"}).bind()
    headers = Headers([(name.lower().encode(), b"root") for name in names], shared=True)
    exchange = Exchange("http", "GET", "http", headers, None, "1.1", {}, None, None, 0.0)  # type: ignore[arg-type]
    assert policy.decide(exchange) is None
    assert not [name for name, _ in exchange.headers if fold(name) == b"x-user-id"]
    assert len(exchange.headers) == sum(len(name) != 9 or name.startswith("Y") for name in names)


def test_two_methods_are_asked_in_order(request_to: Requests) -> None:
    partners = api_keys({"p": OTHER}, header="Authorization", scheme="Partner")
    policy = Authn(api_keys({"k": SECRET}), partners).bind()
    assert passed(policy, request_to(headers={"X-Api-Key": SECRET})).client == "k"
    exchange = request_to(headers={"Authorization": f"Partner {OTHER}"})
    assert passed(policy, exchange).client == "p"
    assert "authorization" not in exchange.headers
    assert refused(policy.decide(request_to())) == (
        401, "authn.missing_key", ['ApiKey realm="gateway"', 'Partner realm="gateway"'],
    )  # fmt: skip


# -- secrets


def canaries(text: str) -> bool:
    return SECRET in text or OTHER in text


def test_ob8_a_secret_is_in_no_repr_dump_schema_or_error_body(request_to: Requests) -> None:
    spec = Authn(api_keys(KEYS, query="key"))
    policy = spec.bind()
    shown = [repr(spec), str(spec), repr(spec.model_dump()), spec.model_dump_json(), repr(KEYS["reports"])]
    assert not any(canaries(text) for text in shown)
    assert HASH not in repr(spec)
    for target in (f"/?key={SECRET}&key=1", f"/?key={OTHER}{OTHER}"):
        exchange = request_to(target)
        _, body = render(policy.decide(exchange), exchange)
        assert not canaries(body.decode())
        assert json.loads(body)["code"].startswith("authn.")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ApiKey(secret=SECRET, hash=HASH), "give hash or secret, not both"),
        (lambda: ApiKey(hash=SECRET), "give the key itself as secret"),
        (lambda: ApiKey(hash="sha256:" + "A" * 64), "64 hex digits in lower case"),
        (lambda: ApiKey("sha256:" + SECRET), "64 hex digits"),
        (lambda: ApiKey(secret=SECRET + "\n"), "visible ASCII"),
        (lambda: ApiKey(secret=SECRET + " "), "visible ASCII"),
        (lambda: ApiKey(secret=SECRET + "ü"), "visible ASCII"),
        (lambda: ApiKey(secret=""), "not empty"),
        (lambda: ApiKey(secret=17), "secret is text"),
        (lambda: ApiKey(), "hash"),
        (lambda: ApiKey(secret=SECRET, sopes=["a"]), "sopes"),
        (lambda: ApiKey(secret=SECRET, subject="a\r\nb"), "subject"),
        (lambda: ApiKey(secret=SECRET, scopes=["a b"]), "scopes"),
        (lambda: ApiKey(secret=SECRET, roles=["a,b"]), "roles"),
        (lambda: ApiKeys.model_validate({"keys": {"a": {"secret": SECRET, "hash": HASH}}}), "not both"),
        (lambda: ApiKeys.model_validate({"keys": {"a": {"sekret": SECRET}}}), "sekret"),
        (lambda: ApiKeys.model_validate({"keys": {"a": [SECRET]}}), "keys.a"),
        (lambda: api_keys({"a": SECRET, "b": SECRET}), "'a' and 'b' are the same key"),
        (lambda: api_keys({"a": SECRET}, header="no name"), "not a header name"),
        (lambda: api_keys({"a": SECRET}, scheme="two words"), "not a header name"),
        (lambda: api_keys({"a": SECRET}, query=""), "has a name"),
        (lambda: api_keys({"a": SECRET}, max_length=1), "max_length"),
        (lambda: Authn(SECRET), "methods"),
        (lambda: Authn(), "methods"),
        (lambda: Authn(methods=[]), "methods"),
        (lambda: Authn({"method": "api_keys", "keys": {"a": {"sekret": SECRET}}}), "sekret"),
        (lambda: Authn(api_keys({"a": SECRET}), realm='a"b'), "a realm is printable ASCII"),
        (lambda: Authn(api_keys({"a": SECRET}), identity_headers={"Host": "subject"}), "meaning of its own"),
        (lambda: Authn(api_keys({"a": SECRET}), identity_headers={"X_Api_Key": "subject"}), "carries the credential"),
        (lambda: Authn(api_keys({"a": SECRET}), identity_headers={"X-U": "subject", "X_U": "tenant"}), "named twice"),
        (lambda: Authn(api_keys({"a": SECRET}), identity_headers={"X-U": "password"}), "identity_headers"),
    ],
)
def test_ob8_a_mistake_is_refused_without_showing_the_secret(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert why in str(caught.value)
    assert not canaries(str(caught.value))


# -- the shapes of a spec


def test_every_way_to_write_a_key_is_the_same_key() -> None:
    assert ApiKey(SECRET) == ApiKey(secret=SECRET) == ApiKey(HASH) == ApiKey(hash=HASH)
    assert api_keys({"a": SECRET}) == api_keys({"a": HASH}) == api_keys({"a": ApiKey(SECRET)})


def test_a_spec_as_a_file_has_it_and_as_it_is_written_back() -> None:
    spec = Authn(api_keys({"reports": ApiKey(HASH, scopes=["a"])}, query="key"), optional=True)
    document = {
        "methods": [{"method": "api_keys", "keys": {"reports": {"hash": HASH, "scopes": ["a"]}}, "query": "key"}],
        "optional": True,
    }
    assert Authn.shorthand(document) == spec
    assert Authn.model_validate(spec.model_dump()) == spec
    assert Authn.model_validate(json.loads(spec.model_dump_json())) == spec
    method = api_keys({"reports": HASH})
    assert Authn(method) == Authn([method]) == Authn(methods=(method,)) == Authn.shorthand([method])


def test_where_it_stands() -> None:
    placement = Authn(api_keys(KEYS)).placement()
    assert placement.stage is Stage.IDENTIFY
    assert placement.provides == {IDENTITY}
    assert placement.requires == frozenset()


def test_an_app_in_its_place_is_told_where_to_go() -> None:
    with pytest.raises(MisplacedPolicy, match=r"gatekit\.asgi\.Authn"):
        Authn(lambda scope: None)
