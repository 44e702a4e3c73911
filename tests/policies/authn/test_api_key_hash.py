"""Keys that are made here: their form, what is kept of them, and that the time a wrong one takes says nothing."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.policy import ValidationError
from gatekit.core.verdict import Reply
from gatekit.policies.authn import ApiKey, Authn, api_keys, key_hash, keys
from gatekit.policies.authn.key_hash import ALPHABET, KeyHash, NewApiKey, hash_of, new_api_key, prefix_of, read_hash
from gatekit.policies.authn.method import Verified
from gatekit.testing import ManualClock, SeededRandom, request, test_ports

RANDOM = SeededRandom(1)
ONE, TWO, STRANGER = (new_api_key(RANDOM.token) for _ in range(3))


def answer(spec: Authn, key: str, **ports: Any) -> Identity | tuple[int, str]:
    exchange = request(headers={"X-Api-Key": key})
    reply = spec.bind(test_ports(**ports)).decide(exchange)
    if isinstance(reply, Reply):
        return reply.status, reply.reason
    assert exchange.identity is not None
    return exchange.identity


# -- the form


@given(st.binary(min_size=43, max_size=43))
def test_a_new_key_is_found_by_its_prefix_and_fits_its_hash(entropy: bytes) -> None:
    parts = iter((entropy[:7], entropy[7:27], entropy[27:]))
    made = new_api_key(lambda size: next(parts))
    head, prefix, rest = made.text.split("_")
    assert (head, prefix, len(rest)) == ("gk", made.prefix, 39)
    assert len(prefix) == 10
    assert set(prefix + rest) <= set(ALPHABET)
    assert prefix_of(made.text.encode()) == made.prefix
    kept = read_hash(made.hash)
    assert kept is not None
    assert kept.prefix == made.prefix
    assert kept.fits(made.text.encode())


def test_what_is_kept_is_the_salted_digest_of_the_whole_text() -> None:
    version, prefix, salt, digest = ONE.hash.split(":")
    raw = base64.urlsafe_b64decode(salt + "==")
    assert (version, prefix, len(raw)) == ("v1", ONE.prefix, 16)
    assert base64.urlsafe_b64decode(digest + "=") == sha256(raw + ONE.text.encode()).digest()
    # Every random byte that was asked for is in it.
    asked: list[int] = []

    def random(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    new_api_key(random)
    assert asked == [7, 20, 16]


def test_the_end_of_a_key_is_the_crc_of_what_is_before_it() -> None:
    number = 0
    for digit in ONE.text[-7:]:
        number = number * 32 + ALPHABET.index(digit)
    assert number == crc32(ONE.text[:-7].encode())


@given(st.integers(0, len(ONE.text) - 1), st.sampled_from(ALPHABET))
def test_a_mistyped_key_is_told_from_a_wrong_one(place: int, digit: str) -> None:
    typed = ONE.text[:place] + digit + ONE.text[place + 1 :]
    found = prefix_of(typed.encode())
    if typed == ONE.text:
        assert found == ONE.prefix
    elif place in (0, 1, 2, 13):
        assert found is None
    else:
        assert found == ""


@given(st.integers(3, len(ONE.text) - 2))
def test_two_characters_that_change_places_are_noticed(place: int) -> None:
    typed = ONE.text[:place] + ONE.text[place + 1] + ONE.text[place] + ONE.text[place + 2 :]
    assert typed == ONE.text or not prefix_of(typed.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gk_",
        ONE.text[:-1],
        ONE.text + "0",
        ONE.text.upper(),
        " " + ONE.text,
        ONE.text + "\n",
        "gk_live_" + "0" * 32,
    ],
)
def test_another_form_is_no_key_that_was_made_here(text: str) -> None:
    assert prefix_of(text.encode()) is None
    with pytest.raises(ValueError, match="no key that was made here"):
        hash_of(text, bytes(16))


def test_a_key_whose_checksum_does_not_fit_is_not_hashed() -> None:
    with pytest.raises(ValueError, match="checksum") as caught:
        hash_of(ONE.text[:-1] + ("0" if ONE.text[-1] != "0" else "1"), bytes(16))
    assert ONE.text[:-1] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        ONE.hash + "=",
        ONE.hash[:-1],
        ONE.hash.replace("v1", "v2"),
        "v1:" + ONE.hash[3:].upper(),
        ONE.hash.replace(ONE.prefix, ONE.prefix[:-1]),
        ONE.hash.replace(ONE.prefix, ONE.prefix[:-1] + "u"),
        ONE.hash.replace(":", " ", 1),
    ],
)
def test_another_text_is_no_hash(text: str) -> None:
    assert read_hash(text) is None


def test_one_hash_has_one_spelling() -> None:
    # The last of the 22 characters of a salt stands for two bits, that of the 43 of a digest for four.
    version, prefix, salt, digest = ONE.hash.split(":")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [one for one in letters if read_hash(f"{version}:{prefix}:{salt[:-1]}{one}:{digest}") is not None]
    assert len(same) == 4
    same = [one for one in letters if read_hash(f"{version}:{prefix}:{salt}:{digest[:-1]}{one}") is not None]
    assert len(same) == 16


def test_ob8_neither_key_nor_digest_is_in_a_repr() -> None:
    kept = read_hash(ONE.hash)
    shown = repr(ONE) + repr(kept) + repr(ApiKey(ONE.hash)) + repr(api_keys({"a": ONE.hash})) + str(ONE)
    assert ONE.text not in shown
    assert ONE.hash[14:] not in shown
    assert ONE.prefix in repr(kept)
    assert isinstance(kept, KeyHash)
    assert isinstance(ONE, NewApiKey)


# -- in the configuration


def test_a_salted_key_gives_its_identity() -> None:
    spec = Authn(
        api_keys({
            "reports": ApiKey(hash=ONE.hash, subject="svc-reports", tenant="acme", scopes=["a"], roles=["r"]),
            "other": TWO.hash,
        })
    )  # fmt: skip
    assert answer(spec, ONE.text) == Identity(
        "svc-reports", tenant="acme", client="reports", scopes=frozenset("a"), roles=frozenset("r"), scheme="api_key"
    )
    assert answer(spec, TWO.text) == Identity("other", client="other", scheme="api_key")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (STRANGER.text, "authn.invalid_key"),
        (ONE.text[:-1] + ("0" if ONE.text[-1] != "0" else "1"), "authn.malformed_key"),
        (ONE.text.replace(ONE.prefix, TWO.prefix), "authn.malformed_key"),
        (ONE.text[:-1], "authn.invalid_key"),
        (ONE.hash, "authn.invalid_key"),
        ("wrong", "authn.invalid_key"),
        ("", "authn.invalid_key"),
    ],
)
def test_any_other_key_is_401(key: str, reason: str) -> None:
    assert answer(Authn(api_keys({"a": ONE.hash, "b": TWO.hash})), key) == (401, reason)


def test_a_secret_of_somebody_else_under_the_same_prefix_is_wrong() -> None:
    body = f"gk_{ONE.prefix}_" + "0" * 32
    forged = body + key_hash.checksum(body.encode())
    assert prefix_of(forged.encode()) == ONE.prefix
    assert answer(Authn(api_keys({"a": ONE.hash})), forged) == (401, "authn.invalid_key")


def test_plain_hashes_and_salted_ones_stand_side_by_side() -> None:
    plain = "sha256:" + sha256(TWO.text.encode()).hexdigest()
    spec = Authn(
        api_keys({"salted": ONE.hash, "plain": plain, "secret": ApiKey(secret="any-other-text-of-enough-length")})
    )
    for key, client in ((ONE.text, "salted"), (TWO.text, "plain"), ("any-other-text-of-enough-length", "secret")):
        found = answer(spec, key)
        assert isinstance(found, Identity)
        assert found.client == client


@pytest.mark.parametrize(
    ("ends", "offset", "good"),
    [
        (1_700_000_100, 0, True),
        (1_700_000_100, 99.9, True),
        (1_700_000_100, 100, False),
        (1_700_000_100.5, 100.25, True),
        ("1700000100", 99, True),
        ("1700000100", 100, False),
        ("2023-11-14T22:15:00Z", 99.9, True),
        ("2023-11-14T22:15:00Z", 100, False),
        ("2023-11-15T00:15:00+02:00", 99.9, True),
        ("2023-11-15T00:15:00+02:00", 100, False),
        ("2023-11-14T22:14:00.500Z", 40.4, True),
        ("2023-11-14T22:14:00.500Z", 40.5, False),
        (None, 1e9, True),
    ],
)
@pytest.mark.parametrize("hash", [ONE.hash, "sha256:" + sha256(ONE.text.encode()).hexdigest()], ids=["salted", "plain"])
def test_a_key_ends_when_it_says(hash: str, ends: object, offset: float, good: bool) -> None:
    clock = ManualClock()
    clock.advance(offset)
    spec = Authn(api_keys({"a": ApiKey(hash, expires=ends)}))
    found = answer(spec, ONE.text, clock=clock)
    if good:
        assert isinstance(found, Identity)
        assert found.expires == (None if ends is None else pytest.approx(1_700_000_100, abs=60))
    else:
        assert found == (401, "authn.expired_key")


def test_a_disabled_key_is_refused_and_only_its_holder_is_told_so() -> None:
    body = f"gk_{ONE.prefix}_" + "0" * 32
    forged = body + key_hash.checksum(body.encode())
    for ends in (None, 0):
        spec = Authn(api_keys({"a": ApiKey(ONE.hash, disabled=True, expires=ends)}))
        assert answer(spec, ONE.text) == (401, "authn.disabled_key")
        assert answer(spec, forged) == (401, "authn.invalid_key")


def test_an12_every_refusal_has_its_challenge() -> None:
    spec = Authn(
        api_keys(
            {"a": ApiKey(ONE.hash, expires=0), "b": ApiKey(TWO.hash, disabled=True)},
            header="Authorization",
            scheme="Bearer",
        )
    )
    for key, reason in (
        (ONE.text, "authn.expired_key"),
        (TWO.text, "authn.disabled_key"),
        (ONE.text[:-1] + "u", "authn.invalid_key"),
        (ONE.text[:-2] + "00", "authn.malformed_key"),
    ):
        reply = spec.bind(test_ports()).decide(request(headers={"Authorization": f"Bearer {key}"}))
        assert (reply.status, reply.reason) == (401, reason)
        assert reply.headers == [(b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"')]
        assert key not in reply.detail


def test_a_revocation_finds_a_key_by_its_marks() -> None:
    method = api_keys({"reports": ApiKey(ONE.hash, subject="svc", tenant="acme", expires=2e9), "b": TWO.hash})
    bound = method.bind_to(test_ports(), "gateway", lambda identity: [])
    for key, marks, until in (
        (ONE, {"sub": "svc", "client_id": "reports", "tenant": "acme"}, 2e9),
        (TWO, {"sub": "b", "client_id": "b"}, float("inf")),
    ):
        found = bound.identify(request(headers={"X-Api-Key": key.text}))
        assert isinstance(found, Verified)
        assert (found.marks, found.until) == (marks, until)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ApiKey(hash=ONE.text), "what `gatekit key` prints"),
        (lambda: ApiKey(hash=ONE.hash + "="), "what `gatekit key` prints"),
        (lambda: ApiKey(ONE.hash, expires="2030-01-01"), "expires"),
        (lambda: ApiKey(ONE.hash, expires="2030-01-01T00:00:00"), "expires"),
        (lambda: ApiKey(ONE.hash, expires=float("nan")), "expires"),
        (lambda: ApiKey(ONE.hash, disabled="perhaps"), "disabled"),
        (lambda: api_keys({"a": ONE.hash, "b": hash_of(ONE.text, b"another salt of 16")}), "the hash"),
        (
            lambda: api_keys({"a": ONE.hash, "b": hash_of(ONE.text, b"another salt 16b")}),
            "'a' and 'b' are the same key",
        ),
        (lambda: api_keys(), "give keys, or a source"),
        (lambda: api_keys({}), "give keys, or a source"),
        (lambda: api_keys(source=""), "source"),
        (lambda: api_keys(source="redis://user:hunter2@host/0"), "as env:NAME"),
        (lambda: api_keys(source="redis://host", stale=-1), "stale"),
    ],
)
def test_ob8_a_mistake_is_refused_without_showing_the_secret(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    if why != "the hash":
        assert why in str(caught.value)
    for secret in (ONE.text, ONE.hash[14:], "hunter2"):
        assert secret not in str(caught.value)


def test_a_spec_survives_being_written_and_read() -> None:
    spec = Authn(
        api_keys(
            {"a": ApiKey(ONE.hash, expires="2030-01-01T00:00:00Z"), "b": ApiKey(TWO.hash, expires=1.5, disabled=True)}
        )
    )
    assert Authn.model_validate(spec.model_dump()) == spec
    assert Authn.model_validate_json(spec.model_dump_json()) == spec


# -- the time it takes


class Work:
    """Counts what is done with a key: digests, and comparisons of digests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashed: list[int] = []
        self.compared: list[tuple[int, int]] = []
        monkeypatch.setattr(key_hash, "sha256", self._sha256)
        monkeypatch.setattr(key_hash, "compare_digest", self._compare)

    def _sha256(self, data: bytes) -> Any:
        self.hashed.append(len(data))
        return sha256(data)

    def _compare(self, one: bytes, other: bytes) -> bool:
        self.compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)


def near(right: int) -> str:
    """A well formed key of the right prefix in which so many characters of the secret are right."""
    secret = ONE.text[14:46]
    wrong = "".join("0" if one != "0" else "1" for one in secret[right:])
    body = f"gk_{ONE.prefix}_{secret[:right]}{wrong}"
    return body + key_hash.checksum(body.encode())


def test_as_much_is_done_whatever_of_a_key_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Authn(api_keys({"a": ONE.hash, "b": ApiKey(TWO.hash, disabled=True), "c": "sha256:" + "0" * 64})).bind()
    work = Work(monkeypatch)
    for key in (ONE.text, TWO.text, STRANGER.text, *map(near, (0, 1, 16, 31))):
        work.hashed.clear()
        work.compared.clear()
        policy.decide(request(headers={"X-Api-Key": key}))
        assert work.hashed == [16 + len(key)]
        assert work.compared == [(32, 32)]


def test_digests_are_compared_in_constant_time() -> None:
    assert vars(key_hash)["compare_digest"] is hmac.compare_digest


def test_the_prefix_nobody_has_is_compared_with_what_no_key_fits(request_to: Callable[..., Exchange]) -> None:
    assert not keys._NOBODY.fits(STRANGER.text.encode())
    assert (len(keys._NOBODY.salt), len(keys._NOBODY.digest)) == (16, 32)
