"""Tokens that are written in another way than RFC 7515 says, or say what nobody may believe. Each has a good signature
over what it is, where that can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.policies.authn.jose_vectors import (
    EVERY,
    PAYLOAD,
    Vector,
    compact,
    encode,
    jwk,
    keys_of,
    signer,
    token,
)

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def signed(head: bytes, body: bytes, algorithm: str = "HS256") -> bytes:
    """A token of these two parts as they are, with a signature over just that text."""
    front = head + b"." + body
    return front + b"." + encode(signer(algorithm)(front))


def spelled() -> Iterator[Vector]:
    """base64url that is not canonical."""
    for name in ("HS256", "ES256"):
        good = token(name)
        head, body, tail = good.split(b".")
        front, last = head + b"." + body + b".", _ALPHABET.index(tail[-1:])
        texts: dict[str, bytes] = {}
        for what, stray in {
            "space": b" ",
            "line break": b"\n",
            "CRLF": b"\r\n",
            "tab": b"\t",
            "zero": b"\0",
            "question mark": b"?",
            "hash": b"#",
            "percent": b"%",
            "percent 3d": b"%3D",
            "equals sign": b"=",
            "two equals signs": b"==",
            "plus": b"+",
            "slash": b"/",
            "dot above": "ė".encode(),
            "byte 255": b"\xff",
            "comma": b",",
            "tilde": b"~",
            "quote": b'"',
        }.items():
            texts[f"{what} behind the header"] = signed(head + stray, body, name)
            texts[f"{what} before the payload"] = signed(head, stray + body, name)
            texts[f"{what} within the payload"] = signed(head, body[:8] + stray + body[8:], name)
            texts[f"{what} behind the payload"] = signed(head, body + stray, name)
            texts[f"{what} before the signature"] = front + stray + tail
            texts[f"{what} within the signature"] = front + tail[:8] + stray + tail[8:]
            texts[f"{what} behind the signature"] = good + stray
            texts[f"{what} for a character of the signature"] = front + stray + tail[1:]
        for more in range(1, 4 if len(tail) % 4 == 3 else 16):
            texts[f"last bits of the signature {more}"] = front + tail[:-1] + _ALPHABET[last + more : last + more + 1]
        texts["one character left over in the header"] = signed(head + b"A", body, name)
        texts["one character left over in the payload"] = signed(head, encode(b"123") + b"A", name)
        texts["no payload, signed"] = signed(head, b"", name)
        texts["last bits of the payload"] = signed(head, b"AB", name)
        texts["last bits of the header"] = signed(
            encode(json.dumps({"alg": name, "kid": "k"}).encode() + b" ")[:-1] + b"h", body
        )
        texts["space before"] = b" " + good
        texts["scheme before"] = b"Bearer " + good
        texts["quotes around"] = b'"' + good + b'"'
        texts["nothing"] = b""
        texts["dots"] = b".."
        texts["not encoded"] = b'{"alg":"%s","kid":"k"}.%s.%s' % (name.encode(), PAYLOAD, tail)
        general = {"payload": body.decode(), "protected": head.decode(), "signature": tail.decode()}
        texts["JSON, flattened"] = json.dumps(general).encode()
        texts["JSON, general"] = json.dumps({"payload": body.decode(), "signatures": [general]}).encode()
        texts["five parts"] = b".".join([head, body, body, body, tail])
        for what, text in texts.items():
            yield Vector(f"{name}: {what}", text, keys_of(name), EVERY)


def headed() -> Iterator[Vector]:
    """Headers that cannot be read, can be read in two ways, or ask for what is not done here."""
    attacker = {"kty": "RSA", **jwk("RS256", "other")}
    texts: dict[str, bytes] = {
        "no object": b'["HS256","k"]',
        "a text": b'"HS256"',
        "null": b"null",
        "a number": b"1",
        "nothing": b" ",
        "cut": b'{"alg":"HS256"',
        "two objects": b'{"alg":"HS256","kid":"k"}{}',
        "a comment": b'{"alg":"HS256","kid":"k"}//',
        "a comma at the end": b'{"alg":"HS256","kid":"k",}',
        "single quotes": b"{'alg':'HS256','kid':'k'}",
        "no quotes": b'{alg:"HS256","kid":"k"}',
        "byte order mark": b'\xef\xbb\xbf{"alg":"HS256","kid":"k"}',
        "UTF-16": '{"alg":"HS256","kid":"k"}'.encode("utf-16"),
        "UTF-16, no mark": '{"alg":"HS256","kid":"k"}'.encode("utf-16-le"),
        "UTF-32": '{"alg":"HS256","kid":"k"}'.encode("utf-32-be"),
        "Latin-1": '{"alg":"HS256","kid":"k","é":1}'.encode("latin-1"),
        "overlong UTF-8": b'{"alg":"HS256","kid":"k","\xc0\xaf":1}',
        "surrogate in UTF-8": b'{"alg":"HS256","kid":"k","a":"\xed\xa0\x80"}',
        "lone surrogate": b'{"alg":"HS256","kid":"k","a":"\\ud800"}',
        "lone surrogate as a name": b'{"alg":"HS256","kid":"k","\\udfff":1}',
        "surrogates in the wrong order": b'{"alg":"HS256","kid":"k","a":"\\udc00\\ud800"}',
        "line break in a text": b'{"alg":"HS256","kid":"k","a":"\n"}',
        "zero byte": b'{"alg":"HS256","kid":"k"}\0',
        "unknown escape": b'{"alg":"HS256","kid":"k","a":"\\x41"}',
        "vertical tab": b'{\x0b"alg":"HS256","kid":"k"}',
        "no-break space": '{\u00a0"alg":"HS256","kid":"k"}'.encode(),
        "alg twice": b'{"alg":"HS256","kid":"k","alg":"HS256"}',
        "alg twice, none first": b'{"alg":"none","kid":"k","alg":"HS256"}',
        "alg twice, once escaped": b'{"alg":"HS256","kid":"k","\\u0061lg":"HS256"}',
        "kid twice": b'{"alg":"HS256","kid":"a","kid":"k"}',
        "a member twice, deeper": b'{"alg":"HS256","kid":"k","a":[{"b":1,"b":1}]}',
        "an empty name twice": b'{"alg":"HS256","kid":"k","":1,"":1}',
        "NaN": b'{"alg":"HS256","kid":"k","a":NaN}',
        "Infinity": b'{"alg":"HS256","kid":"k","a":Infinity}',
        "-Infinity": b'{"alg":"HS256","kid":"k","a":-Infinity}',
        "1e999": b'{"alg":"HS256","kid":"k","a":1e999}',
        "-1e999": b'{"alg":"HS256","kid":"k","a":-1e999}',
        "4000 digits": b'{"alg":"HS256","kid":"k","a":%s}' % (b"9" * 4000),
        "5000 digits": b'{"alg":"HS256","kid":"k","a":%s}' % (b"9" * 5000),
        "5000 decimals": b'{"alg":"HS256","kid":"k","a":0.%s}' % (b"1" * 5000),
        "leading zero": b'{"alg":"HS256","kid":"k","a":01}',
        "plus sign": b'{"alg":"HS256","kid":"k","a":+1}',
        "hexadecimal": b'{"alg":"HS256","kid":"k","a":0x1}',
        "deep lists": b'{"alg":"HS256","kid":"k","a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "deep objects": b'{"alg":"HS256","kid":"k","a":' + b'{"a":' * 8_000 + b"1" + b"}" * 8_001,
        "deep, and no end": b'{"alg":"HS256","kid":"k","a":' + b"[" * 20_000,
        "17 deep": b'{"alg":"HS256","kid":"k","a":' + b"[" * 16 + b"]" * 16 + b"}",
        "many parts": b'{"alg":"HS256","kid":"k","a":[' + b"1," * 10_000 + b"1]}",
    }
    for what, text in texts.items():
        yield Vector(what, compact(text, PAYLOAD, signer("HS256")), keys_of("HS256"), EVERY)
    members: dict[str, dict[str, Any]] = {
        "no alg": {"alg": ...},
        "crit unknown": {"crit": ["exp"], "exp": 1},
        "crit empty": {"crit": []},
        "crit no list": {"crit": "exp"},
        "crit names a known one": {"crit": ["alg"]},
        "crit null": {"crit": None},
        "b64": {"b64": False, "crit": ["b64"]},
        "b64 true": {"b64": True},
        "b64 not critical": {"b64": False},
        "jwk": {"jwk": attacker},
        "jwk null": {"jwk": None},
        "jwk of the issuer": {"jwk": jwk("HS256")},
        "typ a number": {"typ": 1},
        "typ null": {"typ": None},
        "typ a list": {"typ": ["JWT"]},
    }
    for value in (
        None,
        1,
        True,
        ["HS256"],
        {"alg": "HS256"},
        "",
        "HS-256",
        "hs256",
        "Hs256",
        "HS256\0",
        " HS256",
        "HS256 ",
        "HS25",
        "HS2566",
        "*",
    ):
        members[f"alg {value!r}"] = {"alg": value}
    for value in (
        None,
        1,
        True,
        [],
        ["k"],
        {"kid": "k"},
        "",
        "k" * 257,
        "k\0",
        "k\n",
        "\x7f",
        "k\u2028",
        "\u202ek",
        "\u200b",
    ):
        members[f"kid {str(value)[:9]!r}"] = {"kid": value}
    for kid in (
        "../../../../dev/null",
        "k' UNION SELECT 'secret",
        "k|id",
        "/proc/self/environ",
        "K",
        "k ",
        "%6b",
        "k\u0301",
    ):
        members[f"kid {kid}"] = {"kid": kid}
    for what, more in members.items():
        header = {name: one for name, one in {"alg": "HS256", "kid": "k", **more}.items() if one is not ...}
        yield Vector(what, compact(header, PAYLOAD, signer("HS256")), keys_of("HS256"), EVERY)


def brought() -> Iterator[Vector]:
    """Keys that a token brings along, or says where they are, and that it was signed with (RFC 8725 section 3.10)."""
    for name in ("RS256", "ES256", "EdDSA", "HS256"):
        own = jwk(name, "other")
        certificate = ["MIIB" + "A" * 100]
        keys: dict[str, dict[str, Any]] = {
            "jwk": {"jwk": own},
            "jwk under its own kid": {"jwk": {**own, "kid": "o"}, "kid": "o"},
            "jku": {"jku": "https://attacker.test/jwks"},
            "jku at the issuer": {"jku": "https://issuer.test@attacker.test/jwks"},
            "x5u": {"x5u": "https://attacker.test/crt"},
            "x5c": {"x5c": certificate},
            "x5t": {"x5t": "AAAA"},
            "x5t#S256": {"x5t#S256": "AAAA"},
            "keys": {"keys": [own]},
            "k": {"k": own.get("k")},
        }
        for what, more in keys.items():
            text = token(name, owner="other", **more)
            yield Vector(f"{name} {what}", text, keys_of(name), EVERY)
    for spelling in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "noNe",
        "nonE",
        "none ",
        "none\0",
        "n\u043ene",
        "null",
        "unsecured",
    ):
        head = encode(json.dumps({"alg": spelling, "kid": "k"}).encode())
        bare = head + b"." + encode(PAYLOAD)
        for name in ("RS256", "HS256"):
            yield Vector(f"{name} {spelling}, empty", bare + b".", keys_of(name), EVERY)
            yield Vector(f"{name} {spelling}, no dot", bare, keys_of(name), EVERY)
            yield Vector(f"{name} {spelling}, zeros", bare + b"." + encode(bytes(32)), keys_of(name), EVERY)
            yield Vector(f"{name} {spelling}, signed", bare + b"." + encode(signer(name)(bare)), keys_of(name), EVERY)
