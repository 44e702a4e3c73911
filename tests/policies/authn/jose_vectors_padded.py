"""RSA signatures whose padding is not what PKCS #1 v1.5 says (RFC 8017 section 9.2), each made with the private key.

Whoever parses the padding, where it ought to be made anew and compared, takes some of these; with a small public
exponent anybody can make such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from tests.policies.authn.jose_vectors import EVERY, PAYLOAD, Vector, encode, keys_of, rsa_jwk, rsa_key

SIZE = 256
_OID = bytes.fromhex("608648016503040201")


def tlv(tag: int, content: bytes, length: bytes | None = None) -> bytes:
    """One value in DER, or with a length of any other form."""
    return bytes([tag]) + (bytes([len(content)]) if length is None else length) + content


def info(
    digest: bytes,
    *,
    oid: bytes = _OID,
    tags: tuple[int, int, int, int, int] = (0x30, 0x30, 0x06, 0x05, 0x04),
    lengths: dict[int, bytes] | None = None,
    null: bytes | None = None,
    inside: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """A DigestInfo, with what was asked for done to it. Places: 0 outer, 1 algorithm, 2 its id, 3 NULL, 4 digest."""
    form = lengths or {}
    third = tlv(tags[3], b"", form.get(3)) if null is None else null
    algorithm = tlv(tags[1], tlv(tags[2], oid, form.get(2)) + third + inside, form.get(1))
    return tlv(tags[0], algorithm + tlv(tags[4], digest, form.get(4)) + behind, form.get(0))


def padded(content: bytes, *, kind: bytes = b"\0\1", fill: int = 0xFF, count: int | None = None) -> bytes:
    size = SIZE - len(kind) - 1 - len(content) if count is None else count
    return kind + bytes([fill]) * size + b"\0" + content


def infos(digest: bytes) -> Iterator[tuple[str, bytes]]:
    """What is not the DigestInfo of SHA-256 with this digest."""
    sound = info(digest)
    yield "no NULL", info(digest, null=b"")
    yield "two NULLs", info(digest, null=b"\5\0\5\0")
    yield "NULL with something in it", info(digest, null=b"\5\1\0")
    yield "NULL of a long form", info(digest, null=b"\5\x81\0")
    for tag in (0x02, 0x04, 0x30, 0x31, 0xA0):
        yield f"tag {tag:#x} for NULL", info(digest, null=bytes([tag, 0]))
    for place, name in enumerate(("outer", "algorithm", "id", "NULL", "digest")):
        right = (0x30, 0x30, 0x06, 0x05, 0x04)
        content = (len(sound) - 2, 13, 9, 0, 32)[place]
        for bits in (0x20, 0x40, 0x80, 0xC0, 0x1F):
            tags = tuple(tag ^ bits if one == place else tag for one, tag in enumerate(right))
            yield f"{name}: tag with {bits:#x}", info(digest, tags=tags)  # type: ignore[arg-type]
        for what, length in {
            "long form": bytes([0x81, content]),
            "long form with a zero": bytes([0x82, 0, content]),
            "one more": bytes([content + 1]),
            "one less": bytes([max(content - 1, 0)]),
            "2^32 more": b"\x85\1\0\0\0" + bytes([content]),
            "2^64 more": b"\x89\1" + bytes(7) + bytes([content]),
            "of no end": b"\x80",
            "huge": b"\x84\x7f\xff\xff\xff",
        }.items():
            if length != bytes([content]):
                yield f"{name}: length {what}", info(digest, lengths={place: length})
    yield "no end, and its mark", info(digest, lengths={0: b"\x80"}, behind=b"\0\0")
    yield "something in the algorithm", info(digest, inside=b"\4\1\0")
    yield "something in the info", info(digest, behind=b"\4\1\0")
    yield "an empty value in the info", info(digest, behind=b"\x30\0")
    for size in (1, 2, 8, 100):
        yield f"{size} bytes behind the info", sound + bytes(size)
    yield "digest cut", info(digest[:-1])
    yield "digest longer", info(digest + b"\0")
    yield "no digest", info(b"")
    yield "digest of something else", info(hashlib.sha256(b"else").digest())
    yield "digest in a constructed string", info(tlv(4, digest), tags=(0x30, 0x30, 0x06, 0x05, 0x24))
    for what, oid in {
        "SHA-1": "2b0e03021a",
        "SHA-384": "608648016503040202",
        "SHA-512": "608648016503040203",
        "a long arc": "60864801650304028001",
        "an arc more": "60864801650304020100",
        "nothing": "",
        "SHA-3": "608648016503040208",
    }.items():
        yield f"id of {what}", info(digest, oid=bytes.fromhex(oid))
    yield "the digest alone", digest
    yield "nothing", b""
    yield "the id alone", tlv(0x30, tlv(6, _OID))


def blocks(digest: bytes) -> Iterator[tuple[str, bytes]]:
    """What is no padded DigestInfo of this digest."""
    sound = info(digest)
    for what, one in infos(digest):
        yield what, padded(one)
    for kind in (b"\0\0", b"\0\2", b"\1\1", b"\0\xff", b"\0", b"\1"):
        yield f"block type {kind.hex()}", padded(sound, kind=kind)
    for fill in (0, 1, 0x7F, 0xFE):
        yield f"filled with {fill:#x}", padded(sound, fill=fill)
    whole = bytearray(padded(sound))
    for place in (2, 9, 10, 100, SIZE - len(sound) - 2):
        for value in (0, 0xFE):
            other = bytearray(whole)
            other[place] = value
            yield f"byte {place} of the fill is {value:#x}", bytes(other)
    other = bytearray(whole)
    other[SIZE - len(sound) - 1] = 0xFF
    yield "no zero before the info", bytes(other)
    for count in (0, 1, 7, 8, 50):
        rest = SIZE - 3 - count - len(sound)
        yield f"{count} bytes of fill, zeros behind", padded(sound, count=count) + bytes(rest)
        yield f"{count} bytes of fill, ones behind", padded(sound, count=count) + b"\xff" * rest
    yield "a shifted block", padded(sound)[1:] + b"\0"


def padded_wrong() -> Iterator[Vector]:
    front = encode(b'{"alg":"RS256","kid":"k"}') + b"." + encode(PAYLOAD)
    digest = hashlib.sha256(front).digest()
    private = rsa_key("issuer").private_numbers()
    p, q, n = private.p, private.q, private.public_numbers.n

    def raised(block: bytes) -> bytes:
        # By the Chinese remainders, as nothing of cryptography's signs what is not padded well.
        value = int.from_bytes(block)
        at_q = pow(value, private.dmq1, q)
        return ((pow(value, private.dmp1, p) - at_q) * private.iqmp % p * q + at_q).to_bytes(SIZE)

    def vector(what: str, signature: bytes) -> Vector:
        return Vector(f"RS256 {what}", front + b"." + encode(signature), keys_of("RS256"), EVERY)

    for what, block in blocks(digest):
        yield vector(what, raised(block))
    good = int.from_bytes(raised(padded(info(digest))))
    yield vector("0", bytes(SIZE))
    yield vector("1", (1).to_bytes(SIZE))
    yield vector("n", n.to_bytes(SIZE))
    yield vector("n - 1", (n - 1).to_bytes(SIZE))
    yield vector("the negative", (n - good).to_bytes(SIZE))
    yield vector("n more", (good + n).to_bytes(SIZE + 1))
    yield vector("little end first", good.to_bytes(SIZE, "little"))


def small_exponents() -> Iterator[Vector]:
    """Signatures that need no private key where the exponent is 3, or 1: the root of a block with room for its rest."""
    front = encode(b'{"alg":"RS256","kid":"k"}') + b"." + encode(PAYLOAD)
    digest = hashlib.sha256(front).digest()
    for count in (0, 8):
        block = int.from_bytes(padded(info(digest), count=count).ljust(SIZE, b"\0"))
        root = _cube_root(block) + 1
        keys = {"keys": [rsa_jwk(rsa_key("issuer", 3), alg="RS256")]}
        yield Vector(f"cube root, {count} bytes of fill", front + b"." + encode(root.to_bytes(SIZE)), keys, EVERY)
    one = {"keys": [{**keys_of("RS256")["keys"][0], "e": "AQ"}]}
    yield Vector("exponent 1", front + b"." + encode(padded(info(digest))), one, EVERY)


def _cube_root(value: int) -> int:
    low, high = 0, 1 << (value.bit_length() // 3 + 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < value else (low, middle)
    return low
