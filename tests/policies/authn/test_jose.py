"""Compact JWS: the corpus of good and bad tokens, what is read and what is not, and that nothing else is ever raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn import (
    jose_vectors_forged,
    jose_vectors_good,
    jose_vectors_keysets,
    jose_vectors_padded,
    jose_vectors_texts,
)
from tests.policies.authn.jose_vectors import (
    ALGORITHMS,
    EVERY,
    PAYLOAD,
    Vector,
    accepts,
    compact,
    ec_key,
    ed_key,
    encode,
    jwk,
    keys_of,
    rsa_key,
    secret,
    signer,
    token,
)

from gatekit.policies.authn.jose import (
    JsonRefused,
    JwsRefused,
    decode_base64url,
    looks_like_jws,
    read_json,
    read_jws,
)
from gatekit.policies.authn.jose_keys import read_key_set

Vectors = Callable[[], Iterator[Vector]]

BAD: list[tuple[Vectors, int]] = [
    (jose_vectors_forged.changed, 602),
    (jose_vectors_forged.elliptic, 99),
    (jose_vectors_forged.edwards, 22),
    (jose_vectors_forged.masked, 48),
    (jose_vectors_forged.confused, 105),
    (jose_vectors_padded.padded_wrong, 135),
    (jose_vectors_padded.small_exponents, 3),
    (jose_vectors_texts.spelled, 334),
    (jose_vectors_texts.headed, 100),
    (jose_vectors_texts.brought, 128),
    (jose_vectors_keysets.weak_rsa, 6),
    (jose_vectors_keysets.broken_keys, 210),
    (jose_vectors_keysets.shortened, 2),
    (jose_vectors_keysets.broken_sets, 36),
]


@pytest.mark.parametrize(("group", "least"), BAD, ids=[group.__name__ for group, _ in BAD])
def test_an1_no_token_that_must_not_be_taken_is(group: Vectors, least: int) -> None:
    vectors = list(group())
    assert len({vector.name for vector in vectors}) == len(vectors) >= least
    assert [vector.name for vector in vectors if accepts(vector)] == []


def test_an1_every_token_that_must_be_taken_is() -> None:
    vectors = list(jose_vectors_good.good())
    assert len({vector.name for vector in vectors}) == len(vectors) >= 234
    assert [vector.name for vector in vectors if not accepts(vector)] == []


PRIVATE: dict[str, Any] = {
    **{name: secret("issuer") for name in ("HS256", "HS384", "HS512")},
    **{name: rsa_key("issuer") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    **{name: ec_key("issuer", name) for name in ("ES256", "ES384", "ES512")},
    "EdDSA": ed_key("issuer"),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_tokens_that_pyjwt_made_are_taken_and_ours_are_by_pyjwt(name: str) -> None:
    made = pyjwt.encode({"sub": "ann"}, PRIVATE[name], name, headers={"kid": "k"}).encode()
    assert accepts(Vector(name, made, keys_of(name), EVERY))
    jws = read_jws(made)
    assert (jws.algorithm, jws.kid, jws.claims) == (name, "k", {"sub": "ann"})
    assert pyjwt.decode_complete(
        token(name, b'{"sub":"ann"}'), pyjwt.PyJWK(jwk(name), name), algorithms=[name]
    )["payload"] == {"sub": "ann"}  # fmt: skip


MUTATED = [(token(name), keys_of(name)) for name in ("HS256", "RS256", "PS256", "ES256", "ES512", "EdDSA")]


@settings(max_examples=400, deadline=None)
@given(
    which=st.sampled_from(MUTATED),
    place=st.integers(0, 10_000),
    cut=st.integers(0, 4),
    put=st.one_of(st.binary(max_size=4), st.text("AQgw-_.=+/ \n", max_size=4).map(str.encode)),
)
def test_a_token_with_other_bytes_in_it_is_refused(which: tuple[bytes, Any], place: int, cut: int, put: bytes) -> None:
    good, keys = which
    place %= len(good) + 1
    changed = good[:place] + put + good[place + cut :]
    assert accepts(Vector("", changed, keys, EVERY)) is (changed == good)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.from_regex(rb"\AeyJ[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\Z"),
        st.builds(
            lambda head, body: encode(head) + b"." + encode(body) + b".AA",
            st.one_of(st.binary(max_size=40), st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                lambda inner: st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "x"]), inner, max_size=3),
            ).map(lambda value: json.dumps(value).encode())),
            st.binary(max_size=20),
        ),
    )
)  # fmt: skip
def test_whatever_is_read_is_read_or_refused(text: bytes) -> None:
    looks_like_jws(text)
    try:
        jws = read_jws(text)
        assert isinstance(jws.algorithm, str)
        assert isinstance(jws.claims, dict)
    except JwsRefused as refused:
        reason = refused.reason
    else:
        reason = "authn.malformed_token"
    assert reason in ("authn.malformed_token", "authn.unsupported_token")


def refused(text: bytes) -> str:
    with pytest.raises(JwsRefused) as caught:
        _ = read_jws(text).claims
    return caught.value.reason


def headed(**header: Any) -> bytes:
    return compact({"alg": "HS256", **header}, PAYLOAD, signer("HS256"))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": True}, {"jwk": {}}], ids=str)
def test_an2_extensions_are_refused_as_such(header: dict[str, Any]) -> None:
    assert refused(headed(**header)) == "authn.unsupported_token"


@pytest.mark.parametrize(
    "text",
    [
        b"a.b.c",
        headed(kid=1),
        headed(typ=1),
        compact({}, PAYLOAD, signer("HS256")),
        compact({"alg": "HS256"}, b"[]", signer("HS256")),
        compact({"alg": "HS256"}, b"\xff", signer("HS256")),
        compact({"alg": "HS256"}, b'{"exp":1,"exp":2}', signer("HS256")),
        headed(a="x" * 65_536),
    ],
    ids=["short", "kid", "typ", "alg", "list", "utf-8", "twice", "long"],
)
def test_what_cannot_be_read_is_refused_as_such(text: bytes) -> None:
    assert refused(text) == "authn.malformed_token"


def test_the_longest_token_is_read_and_one_byte_more_is_not() -> None:
    def padded(length: int) -> bytes:
        front = b'{"alg":"HS256","a":"'
        return compact(front + b"x" * length + b'"}', PAYLOAD, signer("HS256"))

    lengths = {len(padded(length)): padded(length) for length in range(49_000, 49_040)}
    assert max(length for length in lengths if _reads(lengths[length])) == 65_536
    assert min(length for length in lengths if not _reads(lengths[length])) > 65_536


def _reads(text: bytes) -> bool:
    try:
        read_jws(text)
    except JwsRefused:
        return False
    return True


def test_a_token_and_its_refusal_say_nothing_of_what_is_in_it() -> None:
    good = token("HS256", b'{"sub":"ann"}')
    assert repr(read_jws(good)) == "Jws(...)"
    with pytest.raises(JwsRefused) as caught:
        read_jws(b"secret." + good)
    assert "secret" not in str(caught.value)
    assert str(caught.value) == caught.value.detail


def test_claims_are_read_once() -> None:
    jws = read_jws(token("HS256"))
    assert jws.claims is jws.claims


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        (token("RS256"), True),
        (compact(b'{ "alg":"HS256"}', b"x", signer("HS256")), True),
        (compact(b'{"\xc3', b"x", signer("HS256")), True),
        (compact(b'["alg"]', b"x", signer("HS256")), False),
        (compact(b' {"alg":"HS256"}', b"x", signer("HS256")), False),
        (b"eyJ.a", False),
        (b"eyJ..a", False),
        (b"eyJ.a.", False),
        (b".a.a", False),
        (b"eyJ.a.a.a", False),
        (b"eyJ.a.a.a.a", False),
        (b"ey=.a.a", False),
        (b"opaque", False),
        (b"", False),
        (b"e.a.a", False),
    ],
)
def test_what_looks_like_a_jws(text: bytes, looks: bool) -> None:
    assert looks_like_jws(text) is looks


@pytest.mark.parametrize(
    ("text", "data"),
    [(b"", b""), (b"AA", b"\0"), (b"AAA", b"\0\0"), (b"AAAA", b"\0\0\0"), (b"-_-_", b"\xfb\xff\xbf"), (b"_w", b"\xff")],
)
def test_base64url_is_read(text: bytes, data: bytes) -> None:
    assert decode_base64url(text) == data


@pytest.mark.parametrize(
    "text", [b"A", b"AAAAA", b"AB", b"AAB", b"AA==", b"AA=", b"+/+/", b"A A", b"AA\n", b"\xff\xff"]
)
def test_other_spellings_of_it_are_not(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_base64url(text)


@given(st.binary(max_size=64))
def test_base64url_of_anything_comes_back(data: bytes) -> None:
    assert decode_base64url(encode(data)) == data


@given(st.text("ABQgwAEIMUYcgkosw048-_", max_size=9).map(str.encode))
def test_no_two_spellings_stand_for_the_same_bytes(text: bytes) -> None:
    try:
        data = decode_base64url(text)
    except ValueError:
        return
    assert encode(data) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1", 1),
        (b' {"a":[1,-2.5,1e3,"\\ud83d\\ude00",true,null]} ', {"a": [1, -2.5, 1000.0, "😀", True, None]}),
        (b"9" * 40, int("9" * 40)),
        (b"1e308", 1e308),
        (b"[" * 16 + b"]" * 16, ...),
        (b'["' + b"[" * 50 + b'\\"[{,"]', ["[" * 50 + '"[{,']),
        (b'["' + b"," * 20_000 + b'"]', ["," * 20_000]),
        (b"[" + b"[]," * 100 + b"1]", [*([[]] * 100), 1]),
        (b"[" + b"1," * 9_999 + b"1]", [1] * 10_000),
        (b"[" + b"[]," * 4_999 + b"1]", [*([[]] * 4_999), 1]),
    ],
    ids=[
        "number",
        "all kinds",
        "40 digits",
        "largest",
        "16 deep",
        "marks in text",
        "commas in text",
        "wide",
        "10000 parts",
        "10000 parts, brackets among them",
    ],
)
def test_json_is_read(text: bytes, value: Any) -> None:
    found = read_json(text)
    assert value is ... or found == value


@pytest.mark.parametrize(
    "text",
    [
        b"9" * 41,
        b"0." + b"9" * 39,
        b"1e309",
        b"[" * 17 + b"]" * 17,
        b"[" + b"1," * 10_000 + b"1]",
        b"[" + b"[]," * 5_000 + b"1]",
        b'{"a":' * 17 + b"1" + b"}" * 17,
        b"[]" * 500_000,
        b"[" * 16 + b'["' + b'\\"' * 500_000,
        b"[" * 16 + b"\\" * 1_000_000,
        b'{"a":1,"a":1}',
        b"NaN",
        b'["\\ud800"]',
        b'["\xed\xa0\x80"]',
        b"\xef\xbb\xbf1",
        b"[1",
        b"",
    ],
)
def test_json_that_two_readers_might_read_differently_is_not(text: bytes) -> None:
    with pytest.raises(JsonRefused):
        read_json(text)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=12,
    )
)  # fmt: skip
def test_json_comes_back_as_it_was_written(value: Any) -> None:
    depth, left = 0, [value]
    while left:
        depth += 1
        left = [one for part in left if isinstance(part, (list, dict))
                for one in (part.values() if isinstance(part, dict) else part)]  # fmt: skip
    text = json.dumps(value).encode()
    if depth <= 16:
        assert read_json(text) == json.loads(text)


def test_every_algorithm_there_is_has_its_vectors() -> None:
    assert len(ALGORITHMS) == 14
    names = {vector.name.partition(" ")[0] for vector in jose_vectors_good.good()}
    assert names >= set(ALGORITHMS)
    assert len(read_key_set(keys_of("RS256"), EVERY)) == 1
