"""HTTP Basic: whose password is good, over what it may be sent, and which hashes are taken."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.basic_scene import (
    ANN,
    BOB,
    CHALLENGE,
    CHEAP,
    IDENTITY,
    INVALID,
    MODULE,
    OTHER,
    PASSWORD,
    RANDOM,
    USERS,
    World,
    sent,
)

from gatekit.core.door import Door
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.peers import Trust
from gatekit.core.policy import ValidationError
from gatekit.core.verdict import Reply
from gatekit.policies.authn import Authn, api_keys
from gatekit.policies.authn.basic import BasicUser, basic, hash_password
from gatekit.policies.authn.method import Verified
from gatekit.testing import FixedRandom, request, test_ports


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_good_password_gives_the_users_identity(world: World) -> None:
    assert world.ask(sent("ann", PASSWORD)) == IDENTITY
    assert world.ask(sent("bob", OTHER)) == Identity("bob", scheme="basic")
    assert world.ask(sent("ann", PASSWORD).replace("Basic", "bAsIc")) is world.ask(sent("ann", PASSWORD))


def test_marks_are_what_a_revocation_finds_the_user_by(world: World) -> None:
    for name, password, marks in (
        ("ann", PASSWORD, {"sub": "svc-ann", "tenant": "acme"}),
        ("bob", OTHER, {"sub": "bob"}),
    ):
        found = world.bound.identify(request(headers={"Authorization": sent(name, password)}, scheme="https"))
        assert isinstance(found, Verified)
        assert found.marks == marks


@pytest.mark.parametrize(
    "value",
    [
        sent("ann", OTHER),
        sent("bob", PASSWORD),
        sent("ann", ""),
        sent("", PASSWORD),
        sent("", ""),
        sent("Ann", PASSWORD),
        sent("ann ", PASSWORD),
        sent("nobody", PASSWORD),
        sent("ann", PASSWORD + " "),
        sent("ann", PASSWORD + "\0"),
        sent("ann\n", PASSWORD),
        sent("ann", PASSWORD + "\x85"),
        sent("ännä", PASSWORD, "latin-1"),
        "Basic",
        "Basic ",
        "Basic  " + sent("ann", PASSWORD)[6:],
        "Basic\t" + sent("ann", PASSWORD)[6:],
        sent("ann", PASSWORD) + " ",
        sent("ann", PASSWORD) + ",",
        sent("ann", PASSWORD)[:-1],
        sent("ann", PASSWORD) + "=",
        sent("ann", PASSWORD).replace("=", "-"),
        "Basic " + base64.b64encode(b"ann").decode(),
        "Basic " + "A" * 1025,
        "Basic ann:" + PASSWORD,
    ],
)  # fmt: skip
def test_any_other_credential_is_401(world: World, value: str) -> None:
    found = world.ask(value)
    # With a tab after it, the word is another scheme.
    assert found == (None if "\t" in value else INVALID)


def test_another_scheme_is_no_credential_of_this_kind(world: World) -> None:
    for values in ((), ("Bearer abc",), ("Digest username=ann",), ("",), ("BasicX abc",)):
        assert world.ask(*values) is None
    assert world.bound.missing.reason == "authn.missing_credentials"
    assert (world.bound.missing.status, world.bound.missing.headers) == (401, CHALLENGE)


def test_there_is_one_authorization_or_none(world: World) -> None:
    for values in (
        [sent("ann", PASSWORD)] * 2,
        [sent("ann", PASSWORD), "Bearer a"],
        ["Bearer a", sent("ann", PASSWORD)],
    ):
        assert world.ask(*values) == (401, "authn.ambiguous_credentials")
    assert world.tried == []


def test_an12_every_401_has_the_challenge_of_rfc_7617(world: World) -> None:
    for values in ([sent("ann", OTHER)], [sent("ann", OTHER)] * 2):
        reply = world.bound.identify(request(headers=[("Authorization", one) for one in values], scheme="https"))
        assert isinstance(reply, Reply)
        assert (reply.status, reply.headers) == (401, CHALLENGE)
        assert OTHER not in str(reply.detail)


def test_the_longest_credential_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    length = len(sent("ann", PASSWORD)) - 6
    for most, good in ((length, True), (length - 1, False)):
        world = World(monkeypatch, basic(USERS, max_length=most))
        assert isinstance(world.ask(sent("ann", PASSWORD)), Identity) is good
        assert len(world.tried) == good


def test_names_and_passwords_are_compared_as_nfc(monkeypatch: pytest.MonkeyPatch) -> None:
    composed, apart = "Zo\xeb", "Zoe\u0308"
    for configured in (composed, apart):
        users = {configured: hash_password(f"p{configured}", RANDOM.token, **CHEAP)}
        world = World(monkeypatch, basic(users))
        for name in (composed, apart):
            for password in (composed, apart):
                assert world.ask(sent(name, f"p{password}")) == Identity(configured, scheme="basic")


# -- over what it was sent


@pytest.mark.parametrize(
    ("scheme", "peer", "headers", "taken"),
    [
        ("https", "192.0.2.1", [], True),
        ("http", "192.0.2.1", [], False),
        ("http", "192.0.2.1", [("X-Forwarded-Proto", "https")], False),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "https")], True),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "HTTPS ")], True),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "https, http")], True),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "http, https")], False),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")], False),
        ("http", "10.0.0.1", [("X-Forwarded-Proto", "http")], False),
        ("http", "10.0.0.1", [("X_Forwarded_Proto", "https")], False),
        ("http", "10.0.0.1", [], False),
        ("http", None, [("X-Forwarded-Proto", "https")], False),
        ("wss", "192.0.2.1", [], True),
        ("ws", "192.0.2.1", [], False),
    ],
    ids=range(14),
)
def test_a_password_over_plain_http_is_not_even_looked_at(
    monkeypatch: pytest.MonkeyPatch, scheme: str, peer: str | None, headers: list[tuple[str, str]], taken: bool
) -> None:
    door = Door(FixedRandom(), trust=Trust(["10.0.0.0/8"]))
    for insecure in (False, True):
        world = World(monkeypatch, basic(USERS, insecure=insecure))
        exchange = request(
            headers=[*headers, ("Authorization", sent("ann", PASSWORD))], scheme=scheme, client=peer, door=door
        )
        found = world.bound.identify(exchange)
        if taken or insecure:
            assert isinstance(found, Verified)
        else:
            assert isinstance(found, Reply)
            # Without a challenge: a browser would ask for the password and send it once more.
            assert (found.status, found.reason, found.headers) == (403, "authn.insecure_transport", [])
            assert world.tried == []


def test_other_ways_in_are_open_over_plain_http(world: World) -> None:
    assert world.ask(scheme="http") is None
    assert world.ask("Bearer abc", scheme="http") is None


# -- as a method


def test_the_header_does_not_go_on_unless_that_is_asked_for() -> None:
    for forward in (False, True):
        policy = Authn(basic(USERS, forward=forward)).bind(test_ports())
        exchange = request(headers={"Authorization": sent("ann", PASSWORD)}, scheme="https")
        assert policy.decide(exchange) is None
        assert exchange.identity == IDENTITY
        assert ("authorization" in exchange.headers) is forward


def test_several_ways_in_are_named_in_one_refusal() -> None:
    policy = Authn(api_keys({"k": "an-example-of-a-key-of-enough-length"}), basic(USERS)).bind(test_ports())
    reply = policy.decide(request(scheme="https"))
    assert [value for _, value in reply.headers] == [b'ApiKey realm="gateway"', CHALLENGE[0][1]]
    assert policy.decide(request(headers={"Authorization": sent("ann", PASSWORD)}, scheme="https")) is None


# -- hashes and settings


def test_a_hash_is_scrypt_of_the_password_under_a_salt_of_its_own() -> None:
    kind, n, r, p, salt, digest = ANN.split(":")
    assert (kind, n, r, p) == ("scrypt", "1024", "8", "1")
    raw = base64.urlsafe_b64decode(salt + "==")
    made = hashlib.scrypt(PASSWORD.encode(), salt=raw, n=1024, r=8, p=1, dklen=32)
    assert (len(raw), made) == (16, base64.urlsafe_b64decode(digest + "="))
    assert hash_password(PASSWORD, RANDOM.token, **CHEAP) != ANN
    assert hash_password("x", bytes).startswith("scrypt:16384:8:1:")


SALT, DIGEST = "A" * 22, "A" * 43


@pytest.mark.parametrize(
    ("hash", "why"),
    [
        ("", "as hash_password makes it"),
        (PASSWORD, "as hash_password makes it"),
        (f"scrypt:1024:8:{SALT}:{DIGEST}", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT[1:]}:{DIGEST}", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT}:{DIGEST[1:]}", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT}:{DIGEST}=", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT}AAA:{DIGEST}", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT}:{DIGEST}AA", "as hash_password makes it"),
        (f"scrypt:1024:8:1:{SALT}:{'A' * 87}", "as hash_password makes it"),
        ("$2b$12$" + "a" * 53, "as hash_password makes it"),
        (f"scrypt:32768:8:1:{SALT}:{DIGEST}", "n is a power of two from 1024 to 16384"),
        (f"scrypt:512:16:1:{SALT}:{DIGEST}", "n is a power of two"),
        (f"scrypt:1025:8:1:{SALT}:{DIGEST}", "n is a power of two"),
        (f"scrypt:0:8:1:{SALT}:{DIGEST}", "n is a power of two"),
        (f"scrypt:1024:0:8:{SALT}:{DIGEST}", "n is a power of two"),
        (f"scrypt:1024:8:0:{SALT}:{DIGEST}", "n is a power of two"),
        (f"scrypt:1024:4:1:{SALT}:{DIGEST}", "n × r × p from 8192 to 131072"),
        (f"scrypt:16384:9:1:{SALT}:{DIGEST}", "n × r × p from 8192 to 131072"),
        (f"scrypt:16384:8:2:{SALT}:{DIGEST}", "n × r × p from 8192 to 131072"),
        (f"scrypt:1024:129:1:{SALT}:{DIGEST}", "n × r × p from 8192 to 131072"),
    ],
)
def test_a_hash_that_is_none_or_would_let_everybody_wait_is_refused(hash: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        BasicUser(hash)
    assert why in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert DIGEST not in str(caught.value)


@pytest.mark.parametrize(
    "hash",
    [f"scrypt:16384:8:1:{SALT}:{DIGEST}", f"scrypt:1024:128:1:{SALT}:{DIGEST}", f"scrypt:1024:1:8:{SALT}:{DIGEST}"],
)
def test_the_dearest_hashes_and_the_cheapest_can_be_computed(hash: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, basic({"ann": hash}))
    assert world.ask(sent("ann", "x")) == INVALID
    assert len(world.tried) == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: basic({}), "users"),
        (lambda: basic({"a:b": ANN}), "has no colon"),
        (lambda: basic({"Zo\xeb": ANN, "Zoe\u0308": BOB}), "the same, written otherwise"),
        (lambda: basic({"a\n": ANN}), "users"),
        (lambda: basic({"a": BasicUser(ANN, scopes=["a b"])}), "scopes"),
        (lambda: basic({"a": BasicUser(ANN, password="x")}), "password"),
        (lambda: basic({"a": ANN}, checks=0), "checks"),
        (lambda: basic({"a": ANN}, checks=1001), "checks"),
        (lambda: basic({"a": ANN}, cache=61), "cache"),
        (lambda: basic({"a": ANN}, max_length=9000), "max_length"),
        (lambda: Authn(basic({"a": ANN}), identity_headers={"Authorization": "subject"}), "carries the credential"),
        (lambda: hash_password("x\ny", RANDOM.token), "control characters"),
        (lambda: hash_password("x", RANDOM.token, n=2**15), "power of two"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert why in str(caught.value)


def test_ob8_no_hash_is_in_a_repr() -> None:
    spec = Authn(basic(USERS))
    for shown in (repr(spec), str(spec), repr(BasicUser(ANN))):
        assert ANN.split(":")[-1] not in shown


def test_a_spec_survives_being_written_and_read() -> None:
    spec = Authn(basic(USERS, checks=3))
    assert Authn.model_validate(spec.model_dump()) == spec
    assert Authn.model_validate_json(spec.model_dump_json()) == spec
    document = {"methods": [{"method": "basic", "users": {"ann": {"hash": ANN, "roles": ["r"]}, "bob": BOB}}]}
    assert Authn.shorthand(document) == Authn(basic({"ann": BasicUser(ANN, roles=["r"]), "bob": BOB}))


@given(st.binary(max_size=40))
@settings(max_examples=100)
def test_no_credential_makes_the_reader_raise(raw: bytes) -> None:
    for text in (raw, base64.b64encode(raw)):
        found = MODULE._pair(text)
        if found is not None:
            name, password = found
            assert ":" not in name
            assert not MODULE._CONTROL.search(name + password.decode())


def test_an_exchange_is_left_as_it_is_where_nothing_is_cut_from_its_query(request_to: Callable[..., Exchange]) -> None:
    exchange = request_to("/?a=1")
    basic(USERS).bind_to(test_ports(), "gateway", lambda identity: []).strip(exchange)
    assert not exchange.rewritten
