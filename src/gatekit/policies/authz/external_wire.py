"""What an outside authoriser is told and how its answer is read: two dialects, and nothing of it touches a socket.

`opa` is the REST API of the Open Policy Agent (`POST /v1/data/...` with `{"input": ...}`, answered by
`{"result": ...}`). `envoy` is Envoy's `ext_authz` over HTTP: the request itself without its body, answered by a status.

Both sides are bounded. A question that cannot be asked is not the authoriser's failure but the request's, so that no
client can bring about the one by sending the other. An answer that is not understood to the letter is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

from gatekit.core.exchange import Exchange
from gatekit.core.headers import RawHeaders, encode_name, encode_value, fold
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.ports import Fetched

Part = Literal[
    "method", "scheme", "host", "path", "query", "route", "params", "client_ip", "subject", "issuer", "tenant", "client",
    "scopes", "roles", "authentication",
]  # fmt: skip
"""What may be told of a request and its caller."""

MAX_QUESTION: Final = 65_536
"""Bytes of a question: its body, or its request line and headers."""
MAX_TARGET: Final = 8_000
"""Characters of the URL that is asked."""
MAX_ANSWER: Final = 65_536
"""Bytes of an answer's body."""
MAX_TOLD: Final = 8_192
"""Bytes of the headers that one answer may set."""

OWN_MEANING: Final = frozenset(
    fold(name)
    for name in (
        b"connection", b"content-encoding", b"content-length", b"content-type", b"date", b"expect", b"forwarded", b"host",
        b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    )
)  # fmt: skip
"""Headers that frame a message, belong to one hop, or are the gateway's own to write: never set by an authoriser, and
never passed to one as the client sent them."""

_DOWN: Final = frozenset({502, 503, 504})
"""Statuses of an authoriser that nobody reaches, or that wants to be left alone."""
_IDENTITY: Final = ("subject", "issuer", "tenant", "client", "scopes", "roles", "authentication")
_ATTRIBUTES: Final = {"authentication": "scheme"}
_JSON: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_SENDABLE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_UNSENDABLE_IN_TARGET: Final = re.compile(rb"[^!-~]|[\\#]")


class QuestionRefused(ValueError):
    """This request cannot be put to the authoriser: it is denied, whatever the setting for failures is."""


class AnswerRefused(ValueError):
    """What came back is no answer. The text says why, without a value of it; `down` that the authoriser is not at work."""

    def __init__(self, why: str, *, down: bool = False) -> None:
        self.down = down
        super().__init__(why)


class Question(NamedTuple):
    """One question as it is sent."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def digest(self) -> bytes:
        """The SHA-256 of all that is sent, in a form in which no two questions are alike."""
        # None of these can hold a NUL.
        head = "\0".join((self.method, self.url, *chain.from_iterable(self.headers), ""))
        return sha256(head.encode("latin-1") + self.body).digest()


class Answer(NamedTuple):
    """What the authoriser said. `headers` are for the upstream where it allows, for the client where it denies;
    `status` and `body` are for a client that is refused, None where the usual ones do."""

    allowed: bool
    headers: RawHeaders
    status: int = 403
    body: bytes | None = None


class Told(NamedTuple):
    """What is told of each request, and which headers are taken from an answer."""

    url: str
    parts: frozenset[str]
    claims: tuple[str, ...]
    headers: frozenset[bytes]
    upstream: frozenset[bytes]
    client: frozenset[bytes]
    relay_body: bool


Ask = Callable[[Told, Exchange], Question]
Read = Callable[[Told, Fetched], Answer]


# -- the Open Policy Agent


def ask_opa(told: Told, exchange: Exchange) -> Question:
    """The question as an input document. Raises QuestionRefused."""
    parts = told.parts
    document: dict[str, Any] = {}
    if "method" in parts:
        document["method"] = exchange.method
    if "scheme" in parts:
        document["scheme"] = exchange.scheme
    if "host" in parts:
        document["host"] = exchange.host
    if "path" in parts:
        document["path"] = exchange.raw_path.decode("latin-1")
        document["segments"] = exchange.path.split("/")[1:]
    if "query" in parts:
        document["query"] = exchange.target_query.decode("latin-1")
    if "route" in parts:
        document["route"] = None if exchange.route is None else exchange.route.id
    if "params" in parts:
        document["params"] = dict(exchange.params)
    if "client_ip" in parts:
        document["client_ip"] = exchange.client_ip
    if told.headers:
        document["headers"] = _by_name(_chosen(told, exchange))
    document["identity"] = _identity(told, exchange.identity)
    try:
        body = _JSON.encode({"input": document}).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        raise QuestionRefused("a claim cannot be written as JSON") from None
    if len(body) > MAX_QUESTION:
        raise QuestionRefused(f"the question is longer than {MAX_QUESTION} bytes")
    return Question("POST", told.url, (("content-type", "application/json"), ("accept", "application/json")), body)


def _identity(told: Told, identity: Identity | None) -> dict[str, Any]:
    who = ANONYMOUS if identity is None else identity
    found: dict[str, Any] = {"authenticated": who.is_authenticated}
    for part in _IDENTITY:
        if part in told.parts:
            value = getattr(who, _ATTRIBUTES.get(part, part))
            found[part] = sorted(value) if isinstance(value, frozenset) else value
    if told.claims:
        found["claims"] = {name: who.claims[name] for name in told.claims if name in who.claims}
    return found


def _by_name(headers: RawHeaders) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return found


def read_opa(told: Told, fetched: Fetched) -> Answer:
    """`result` is true or false, or an object whose `allow` is; where there is none, the policy is undefined, and denies.

    Whatever else stands there denies too: a policy that says anything but true has not allowed. Raises AnswerRefused.
    """
    if fetched.status != 200:
        raise _status_refused(fetched.status)
    document = _json(fetched.body)
    if not isinstance(document, dict):
        raise AnswerRefused("the answer is no JSON object")
    result = document.get("result")
    if not isinstance(result, dict):
        return Answer(result is True, [])
    allowed = result.get("allow") is True
    given = result.get("headers", {})
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise AnswerRefused("headers is no object of texts")
    return Answer(allowed, _taken(told.upstream if allowed else told.client, given.items()))


def _json(body: bytes) -> Any:
    """A JSON document that means one thing. Raises AnswerRefused."""
    if len(body) > MAX_ANSWER:
        raise AnswerRefused(f"the answer is longer than {MAX_ANSWER} bytes")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise AnswerRefused("the answer is not JSON, or a member stands there twice") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member stands there twice")
    return found


# -- Envoy's ext_authz


def ask_envoy(told: Told, exchange: Exchange) -> Question:
    """The question as the request itself, without its body. Raises QuestionRefused."""
    parts = told.parts
    path = exchange.raw_path
    target = path if path.startswith(b"/") else b"/" + path
    if "query" in parts and exchange.target_query:
        target += b"?" + exchange.target_query
    if _UNSENDABLE_IN_TARGET.search(target) or len(told.url) + len(target) > MAX_TARGET:
        raise QuestionRefused("the path or query cannot be put into a URL")
    headers: list[tuple[str, str]] = []
    if "host" in parts:
        headers.append(("x-forwarded-host", exchange.authority))
    if "scheme" in parts:
        headers.append(("x-forwarded-proto", exchange.scheme))
    if "client_ip" in parts and exchange.client_ip is not None:
        headers.append(("x-forwarded-for", exchange.client_ip))
    if "route" in parts and exchange.route is not None:
        headers.append(("x-auth-route", _sendable(exchange.route.id.encode("utf-8"))))
    headers += _identity_headers(told, exchange.identity)
    headers += [(name.decode("ascii"), _sendable(value)) for name, value in _chosen(told, exchange)]
    if sum(len(name) + len(value) for name, value in headers) > MAX_QUESTION:
        raise QuestionRefused(f"the question is longer than {MAX_QUESTION} bytes")
    # The empty body is sent as such (Content-Length: 0), as Envoy does. A request with a body follows no redirect.
    return Question(exchange.method, told.url + target.decode("ascii"), tuple(headers), b"")


def own_headers(parts: Iterable[str], claims: Iterable[str]) -> set[bytes]:
    """The names, folded, under which an `envoy` question tells about the request and its caller."""
    names = {"route", *_IDENTITY, *(f"claim-{name}" for name in claims)}
    return {fold(encode_name(f"x-auth-{name}")) for name in names}


def _identity_headers(told: Told, identity: Identity | None) -> list[tuple[str, str]]:
    """Headers about the caller in UTF-8; what he has not is not sent. Scopes are parted by spaces, roles by commas."""
    who = ANONYMOUS if identity is None else identity
    found = []
    for part in _IDENTITY:
        if part not in told.parts:
            continue
        value = getattr(who, _ATTRIBUTES.get(part, part))
        if isinstance(value, frozenset):
            value = _joined(sorted(value), "," if part == "roles" else " ")
        if value:
            found.append((f"x-auth-{part}", _sendable(value.encode("utf-8", "surrogatepass"))))
    found += [(f"x-auth-claim-{name.lower()}", _claim(who.claims[name])) for name in told.claims if name in who.claims]
    return found


def _joined(items: Sequence[str], separator: str) -> str:
    if any(separator in item for item in items):
        # Joined, one would read as two.
        raise QuestionRefused("a scope or role holds what parts them in a header")
    return separator.join(items)


def _claim(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    if isinstance(value, str):
        return _sendable(value.encode("utf-8", "surrogatepass"))
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise QuestionRefused("a claim cannot be written as JSON") from None


def _sendable(value: bytes) -> str:
    """The value as a header has it, to the byte: what a reader would cut or refuse cannot be sent."""
    if not _SENDABLE.fullmatch(value):
        raise QuestionRefused("a value cannot be sent as a header")
    return value.decode("latin-1")


def read_envoy(told: Told, fetched: Fetched) -> Answer:
    """200 allows, 4xx denies with that status. Raises AnswerRefused on any other status.

    A 401 says how to authenticate (RFC 9110 section 11.6.1): one that does not becomes a 403.
    """
    status = fetched.status
    if status == 200:
        return Answer(True, _taken(told.upstream, fetched.headers.items()))
    if not 400 <= status <= 499:
        raise _status_refused(status)
    wanted = told.client | {b"www-authenticate"} if status == 401 else told.client
    headers = _taken(wanted, fetched.headers.items())
    if status == 401 and not any(name == b"www-authenticate" for name, _ in headers):
        status = 403
    if not told.relay_body:
        return Answer(False, headers, status)
    if len(fetched.body) > MAX_ANSWER:
        raise AnswerRefused(f"the answer is longer than {MAX_ANSWER} bytes")
    kind = fetched.headers.get("content-type", "text/plain; charset=utf-8")
    headers += _taken(frozenset({b"content-type"}), [("content-type", kind)])
    return Answer(False, headers, status, fetched.body)


# -- what both share


def _status_refused(status: int) -> AnswerRefused:
    return AnswerRefused(f"the answer has status {status}", down=status in _DOWN)


def _chosen(told: Told, exchange: Exchange) -> RawHeaders:
    """The client's headers that are passed on, in their order."""
    wanted = told.headers
    return [pair for pair in exchange.headers.raw if pair[0] in wanted] if wanted else []


def _taken(wanted: frozenset[bytes], given: Iterable[tuple[str, str]]) -> RawHeaders:
    """The headers of an answer that may be taken from it. Raises AnswerRefused when one of those is not one."""
    found: dict[bytes, bytes] = {}
    size = 0
    for name, value in given:
        try:
            key = encode_name(name)
            if key not in wanted:
                continue
            encoded = encode_value(value)
        except ValueError:
            raise AnswerRefused("a header it sets is not well formed") from None
        if key in found:
            raise AnswerRefused("it sets a header twice")
        found[key] = encoded
        size += len(key) + len(encoded)
    if size > MAX_TOLD:
        raise AnswerRefused(f"the headers it sets are longer than {MAX_TOLD} bytes")
    return list(found.items())


DIALECTS: Final[Mapping[str, tuple[Ask, Read]]] = {"opa": (ask_opa, read_opa), "envoy": (ask_envoy, read_envoy)}
