"""Client certificates: whom the server, or the proxy in front of it, saw proof of a private key from.

Which certificates are genuine is settled in the TLS handshake, by whoever holds the list of authorities; here it is
settled who they stand for. A name is taken from the subject's alternative names (URI, as SPIFFE has it, DNS, email), or
from the common name where that is asked for: what stands there is free text, and an authority that vouches for host names
need not vouch for it.

There is no HTTP authentication scheme for certificates: RFC 8120's `Mutual` is one for passwords. RFC 9110 wants a
challenge in a 401 all the same, so it is `ClientCertificate`, which is registered nowhere; a client cannot answer it
within the connection anyhow. (nginx answers 400, others 403; to a caller with several ways in, 401 says more.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatekit.core.certificate import Certificate, certificate_of
from gatekit.core.exchange import Exchange
from gatekit.core.identity import Identity
from gatekit.core.ports import Ports
from gatekit.mechanisms.recent import RecentCache
from gatekit.policies.authn.keys import Plain, Role, Scope
from gatekit.policies.authn.method import Answer, IdentityHeaders, Verified, refusal

EARLY: Final = 60.0
"""For so many seconds before its time a certificate is taken already: the clock of its authority may be ahead of ours."""
MAX_KNOWN: Final = 4096
"""How many certificates' callers are remembered."""

MAX_NAME: Final = 2048
"""The longest name that stands for anybody, in characters (as long as SPIFFE has them)."""

_KINDS: Final = ("uri", "dns", "email", "cn")
"""Where a name may come from, in the order in which they are looked at."""
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[!-)+-~]+")
_DOTS: Final = frozenset({".", ".."})
_DNS = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_EMAIL = re.compile(r"[^@*\s]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*")


class CertificateCaller(BaseModel):
    """What is known of the callers whose certificate has a certain name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    subject: Plain | None = None
    """Who it is; the name in the certificate unless it is given. For a pattern of several names it may not be given."""
    tenant: Plain | None = None
    """The tenant the caller belongs to."""
    scopes: frozenset[Scope] = frozenset()
    """What the caller may do (RFC 6749 section 3.3)."""
    roles: frozenset[Role] = frozenset()
    """What the caller is."""

    # Here so that type checkers take any collection for scopes and roles.
    def __init__(self, /, **fields: Any) -> None:
        super().__init__(**fields)


class Mtls(BaseModel):
    """Authentication by client certificates, which the server or a trusted proxy has verified.

    A pattern is a kind and a name: `uri:spiffe://acme.example/ns/shop/orders`, `dns:orders.acme.example`,
    `email:ann@acme.example`, `cn:orders`. One star stands for the rest: `uri:spiffe://acme.example/ns/shop/*` for
    everything below that path, `dns:*.acme.example` for one label, `email:*@acme.example` for any mailbox there,
    `uri:*`, `dns:*`, `email:*` and `cn:*` for every name of the kind.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    method: Literal["mtls"] = "mtls"
    callers: dict[Plain, CertificateCaller] = Field(default_factory=dict)
    """Pattern → what is known of those callers. The pattern without a star goes before the one with one, the longer one
    with a star before the shorter."""
    allow: tuple[Plain, ...] = ()
    """Further patterns whose callers are let in, without anything known of them."""

    @field_validator("allow", mode="before")
    @classmethod
    def _one_is_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _are_patterns(self) -> Mtls:
        if not self.callers and not self.allow:
            raise ValueError(
                "say whom to let in: callers or allow with a pattern, `uri:*` for every certificate with a URI"
            )
        seen: set[tuple[str, str, str]] = set()
        for text in (*self.callers, *self.allow):
            pattern = _pattern(text)
            if pattern in seen:
                raise ValueError(f"the pattern {text!r} is there twice")
            seen.add(pattern)
        for text, caller in self.callers.items():
            if caller.subject is not None and _pattern(text)[2]:
                raise ValueError(f"all whom {text!r} fits would be {caller.subject!r}: give them no subject")
        return self

    def bind_to(self, ports: Ports, realm: str, headers: IdentityHeaders) -> BoundMtls:
        return BoundMtls(self, ports, realm, headers)


def mtls(callers: Mapping[str, CertificateCaller] | None = None, *, allow: str | Iterable[str] = ()) -> Mtls:
    """Authentication by client certificates, for `Authn(mtls({...}))`. The fields are those of `Mtls`."""
    return Mtls(
        callers={} if callers is None else dict(callers), allow=(allow,) if isinstance(allow, str) else tuple(allow)
    )


def _pattern(text: str) -> tuple[str, str, str]:
    """Kind, name, and what the star stands for: "" where there is none, `all`, `below`, `label` or `mailbox`.

    Raises ValueError on anything that is no pattern, or one that fits more than it seems to.
    """
    kind, colon, name = text.partition(":")
    if not colon or kind not in _KINDS or not name:
        raise ValueError(
            f"{text!r} is no pattern: it begins with {', '.join(one + ':' for one in _KINDS)} and has a name"
        )
    star = ""
    rest = name
    if name == "*":
        return kind, "", "all"
    if kind == "uri" and name.endswith("/*"):
        star, rest = "below", name[:-1]
    elif kind == "dns" and name.startswith("*."):
        star, rest = "label", name[2:]
    elif kind == "email" and name.startswith("*@"):
        star, rest = "mailbox", name[2:]
    told = _canonical(kind, "x@" + rest if star == "mailbox" else rest)
    if told is None:
        raise ValueError(
            f"{text!r} is no pattern: a star stands at the end of a URI after a slash, for the first label of a DNS name, "
            "for the mailbox of an address, or alone"
        )
    if star == "below" and told.count("/") < 3:
        raise ValueError(
            f"{text!r} would fit names of anybody's domain: name the host, as in uri:spiffe://acme.example/*"
        )
    if star == "label" and "." not in told:
        raise ValueError(f"{text!r} would fit all of a top-level domain")
    return kind, told[2:] if star == "mailbox" else told, star


def _canonical(kind: str, name: str) -> str | None:
    """The name as it is compared; None for one that stands for nobody in particular, or is not of that kind.

    Host names are alike in either case, so they are in small letters. A star is no name: a certificate for a whole
    domain is not one caller's.
    """
    if len(name) > MAX_NAME:
        return None
    if kind == "cn":
        return name if name and "*" not in name else None
    if kind == "dns":
        name = name.lower()
        return name if _DNS.fullmatch(name) else None
    if kind == "email":
        mailbox, _, host = name.rpartition("@")
        name = f"{mailbox}@{host.lower()}"
        return name if _EMAIL.fullmatch(name) else None
    scheme, colon, rest = name.partition(":")
    name = scheme.lower() + colon + rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        name = f"{scheme.lower()}://{host.lower()}{slash}{path}"
        if not host:
            return None
    # A name that climbs would seem to be below what it has left.
    climbs = not _DOTS.isdisjoint(name.split("/"))
    return name if _URI.fullmatch(name) and not climbs else None


class _Callers:
    """Patterns of one kind, to be asked by name."""

    __slots__ = ("all", "below", "exact", "wide")

    def __init__(self) -> None:
        self.exact: dict[str, CertificateCaller] = {}
        self.wide: dict[str, CertificateCaller] = {}
        self.below: list[tuple[str, CertificateCaller]] = []
        self.all: CertificateCaller | None = None

    def add(self, name: str, star: str, caller: CertificateCaller) -> None:
        if star == "all":
            self.all = caller
        elif star == "below":
            self.below.append((name, caller))
            self.below.sort(key=lambda one: -len(one[0]))
        elif star:
            self.wide[name] = caller
        else:
            self.exact[name] = caller

    def find(self, kind: str, name: str) -> CertificateCaller | None:
        found = self.exact.get(name)
        if found is None and self.wide:
            found = self.wide.get(name.partition("." if kind == "dns" else "@")[2])
        if found is None:
            for prefix, caller in self.below:
                if name.startswith(prefix) and len(name) > len(prefix):
                    return caller
        return self.all if found is None else found


class BoundMtls:
    """Client certificates at work."""

    __slots__ = (
        "_callers", "_clock", "_expired", "_headers", "_known", "_unknown", "missing", "stripped",
    )  # fmt: skip

    def __init__(self, spec: Mtls, ports: Ports, realm: str, headers: IdentityHeaders) -> None:
        self._clock = ports.clock
        self._headers = headers
        self._known: RecentCache[Certificate, Verified] = RecentCache(MAX_KNOWN)
        self._callers: dict[str, _Callers] = {}
        nothing = CertificateCaller()
        for text, caller in (*spec.callers.items(), *((one, nothing) for one in spec.allow)):
            kind, name, star = _pattern(text)
            self._callers.setdefault(kind, _Callers()).add(name, star, caller)
        # What tells of a certificate is no secret, and the door sees to it that nobody else tells of one.
        self.stripped: frozenset[bytes] = frozenset()
        challenge = f'ClientCertificate realm="{realm}"'
        self.missing = refusal("authn.missing_certificate", "This request needs a client certificate.", challenge)
        self._unknown = refusal(
            "authn.unknown_certificate", "Nobody here is known by the names in the client certificate.", challenge
        )
        self._expired = refusal(
            "authn.expired_certificate", "The client certificate is not valid at this time.", challenge
        )

    def identify(self, exchange: Exchange) -> Answer | None:
        certificate = certificate_of(exchange)
        if certificate is None:
            return None
        # The handshake may be long ago, and the proxy's clock another.
        wall = self._clock.wall()
        if certificate.not_after is not None and wall >= certificate.not_after:
            return self._expired
        if certificate.not_before is not None and wall < certificate.not_before - EARLY:
            return self._expired
        now = self._clock.monotonic()
        known = self._known.get(certificate, now)
        if known is None:
            known = self._named(certificate)
            if known is None:
                return self._unknown
            self._known.put(certificate, known, now, inf)
        return known

    def strip(self, exchange: Exchange) -> None:
        pass

    def _named(self, certificate: Certificate) -> Verified | None:
        """The first name that a pattern fits, in the order of the kinds and then of the certificate."""
        names: dict[str, tuple[str | None, ...]] = {
            "uri": certificate.uris,
            "dns": certificate.dns,
            "email": certificate.emails,
            "cn": (certificate.common_name,),
        }
        for kind in _KINDS:
            callers = self._callers.get(kind)
            for one in names[kind] if callers is not None else ():
                name = None if one is None else _canonical(kind, one)
                caller = None if name is None or callers is None else callers.find(kind, name)
                if name is not None and caller is not None:
                    return self._verified(certificate, kind, name, caller)
        return None

    def _verified(self, certificate: Certificate, kind: str, name: str, caller: CertificateCaller) -> Verified:
        subject = caller.subject or name
        identity = Identity(
            subject,
            tenant=caller.tenant,
            scopes=caller.scopes,
            roles=caller.roles,
            claims={"certificate_name": f"{kind}:{name}"},
            scheme="mtls",
            expires=certificate.not_after,
        )
        marks: dict[str, Any] = {"sub": subject}
        if caller.tenant is not None:
            marks["tenant"] = caller.tenant
        if certificate.sha256:
            # So that one certificate can be revoked, and not all that its holder has.
            marks["jti"] = certificate.sha256.hex()
        until = inf if certificate.not_after is None else certificate.not_after
        return Verified(identity, self._headers(identity), marks, until)
