"""Client certificates: whom a name stands for, which patterns there are, and when a certificate counts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.certificates import NOW, ORDERS, Made, made

from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.core.policy import ValidationError
from gatekit.core.verdict import Reply
from gatekit.policies.authn import Authn, CertificateCaller, Mtls, api_keys, mtls
from gatekit.policies.authn.method import Verified
from gatekit.policies.authn.mtls import EARLY
from gatekit.testing import ManualClock, request, test_ports

MODULE = sys.modules[Mtls.__module__]
"""The module itself: the package has a function of its name."""

EVERYBODY = mtls(allow=["uri:*", "dns:*", "email:*", "cn:*"])
FULL = made(uris=(ORDERS,), dns=("Orders.Acme.Example",), emails=("Ann@ACME.example",), cn=("Orders & more",))

Found = Identity | str | None


class World:
    """A policy, the clock, and requests that come with certificates."""

    def __init__(self, method: Mtls) -> None:
        self.clock = ManualClock()
        self.built = 0
        self.bound = method.bind_to(test_ports(clock=self.clock), "gateway", self._headers)

    def _headers(self, identity: Identity) -> list[tuple[bytes, bytes]]:
        self.built += 1
        return [(b"x-user", identity.subject.encode())]

    def verified(self, certificate: Made | None) -> Verified | Reply | None:
        exchange = request(scheme="https")
        if certificate is not None:
            exchange.scope["extensions"] = {"tls": {"client_cert_chain": [certificate.pem]}}
        return self.bound.identify(exchange)

    def ask(self, certificate: Made | None) -> Found:
        found = self.verified(certificate)
        if isinstance(found, Reply):
            assert found.status == 401
            assert found.headers == [(b"www-authenticate", b'ClientCertificate realm="gateway"')]
            return found.reason
        return None if found is None else found.identity


def subject(method: Mtls, certificate: Made) -> str:
    found = World(method).ask(certificate)
    return found.subject if isinstance(found, Identity) else str(found)


UNKNOWN = "authn.unknown_certificate"


def test_a_name_in_the_certificate_is_the_subject() -> None:
    caller = CertificateCaller(tenant="acme", scopes=["a"], roles=["r"])
    world = World(mtls({f"uri:{ORDERS}": caller}))
    found = world.verified(FULL)
    assert isinstance(found, Verified)
    assert found.identity == Identity(
        ORDERS,
        tenant="acme",
        scopes=frozenset("a"),
        roles=frozenset("r"),
        claims={"certificate_name": f"uri:{ORDERS}"},
        scheme="mtls",
        expires=NOW + 3600,
    )
    assert found.headers == [(b"x-user", ORDERS.encode())]
    assert found.marks == {"sub": ORDERS, "tenant": "acme", "jti": FULL.digest.hex()}
    assert found.until == NOW + 3600


def test_the_subject_may_be_another_than_the_name() -> None:
    world = World(mtls({"dns:orders.acme.example": CertificateCaller(subject="svc-orders")}))
    found = world.ask(FULL)
    assert isinstance(found, Identity)
    assert (found.subject, found.claims) == ("svc-orders", {"certificate_name": "dns:orders.acme.example"})


def test_without_a_certificate_there_is_nobody_and_the_next_method_is_asked() -> None:
    assert World(EVERYBODY).ask(None) is None
    missing = World(EVERYBODY).bound.missing
    assert (missing.status, missing.reason) == (401, "authn.missing_certificate")
    assert missing.headers == [(b"www-authenticate", b'ClientCertificate realm="gateway"')]


@pytest.mark.parametrize(
    ("allow", "wanted"),
    [
        (["uri:*", "dns:*", "email:*", "cn:*"], ORDERS),
        (["cn:*", "email:*", "dns:*"], "orders.acme.example"),
        (["cn:*", "email:*"], "Ann@acme.example"),
        (["cn:*"], "Orders & more"),
        (["uri:spiffe://other/*", "cn:*"], "Orders & more"),
    ],
    ids=range(5),
)
def test_names_are_looked_at_kind_by_kind(allow: list[str], wanted: str) -> None:
    assert subject(mtls(allow=allow), FULL) == wanted


def test_the_common_name_counts_only_where_that_is_asked_for() -> None:
    only_cn = made(cn=("orders.acme.example",))
    for allow in ("uri:*", "dns:*", "email:*", "dns:orders.acme.example"):
        assert subject(mtls(allow=allow), only_cn) == UNKNOWN
    assert subject(mtls(allow="cn:orders.acme.example"), only_cn) == "orders.acme.example"
    assert subject(mtls(allow="cn:*"), made(cn=("a", "b"))) == UNKNOWN


def test_a_name_of_one_kind_is_no_name_of_another() -> None:
    posing = made(dns=("spiffe://acme.example/admin",), uris=("urn:orders.acme.example",), cn=("ann@acme.example",))
    allow = ["uri:spiffe://acme.example/admin", "dns:orders.acme.example", "email:ann@acme.example"]
    assert subject(mtls(allow=allow), posing) == UNKNOWN


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        (
            "uri:spiffe://acme.example/ns/shop/orders",
            ["spiffe://acme.example/ns/shop/orders", "SPIFFE://ACME.example/ns/shop/orders"],
            [
                "spiffe://acme.example/ns/shop/orders/",
                "spiffe://acme.example/ns/shop/orders/x",
                "spiffe://acme.example/ns/shop/Orders",
                "spiffe://acme.example/ns/shop/orders?a",
                "spiffe://acme.example.evil/ns/shop/orders",
                "https://acme.example/ns/shop/orders",
            ],
        ),
        (
            "uri:spiffe://acme.example/ns/shop/*",
            ["spiffe://acme.example/ns/shop/a", "spiffe://Acme.example/ns/shop/a/b"],
            [
                "spiffe://acme.example/ns/shop/",
                "spiffe://acme.example/ns/shop",
                "spiffe://acme.example/ns/shopping",
                "spiffe://acme.example/ns/Shop/a",
                "spiffe://acme.example/ns/shop/../admin",
                "spiffe://acme.example/ns/shop/./a",
                "spiffe://acme.example/ns/shop/*",
                "spiffe://evil/acme.example/ns/shop/a",
            ],
        ),
        (
            "uri:spiffe://acme.example/*",
            ["spiffe://acme.example/a"],
            [
                "spiffe://acme.example",
                "spiffe://acme.example/",
                "spiffe://acme.example.evil/a",
                "spiffe://acme.example:1/a",
            ],
        ),
        (
            "uri:urn:uuid:f81d4fae",
            ["urn:uuid:f81d4fae", "URN:uuid:f81d4fae"],
            ["urn:uuid:F81D4FAE", "urn:uuid:f81d4fae1"],
        ),
        ("uri:*", ["urn:a:b", "https://a.example"], ["no-uri", "a b:c", "spiffe:///a", "x:*"]),
        (
            "dns:orders.acme.example",
            ["orders.acme.example", "ORDERS.acme.example"],
            [
                "acme.example",
                "a.orders.acme.example",
                "orders.acme.example.evil",
                "*.acme.example",
                "ordersXacme.example",
            ],
        ),
        (
            "dns:*.acme.example",
            ["orders.acme.example", "X.ACME.example"],
            [
                "acme.example",
                "a.b.acme.example",
                "*.acme.example",
                ".acme.example",
                "evilacme.example",
                "a.acme.example.evil",
            ],
        ),
        ("dns:*", ["a", "a_b.example"], ["*.example", "a..b", "a b", "-*"]),
        (
            "email:ann@acme.example",
            ["ann@acme.example", "ann@ACME.example"],
            ["Ann@acme.example", "ann@acme.example.evil", "bob@acme.example"],
        ),
        (
            "email:*@acme.example",
            ["ann@acme.example", "b.o-b+x@Acme.example"],
            ["ann@x.acme.example", "ann@evilacme.example", "*@acme.example"],
        ),
        ("email:*", ["a@b"], ["*@b"]),
    ],
    ids=range(11),
)
def test_what_a_pattern_fits(pattern: str, fits: list[str], others: list[str]) -> None:
    kind = pattern.partition(":")[0]
    method = mtls(allow=pattern)
    for names, wanted in ((fits, True), (others, False)):
        for name in names:
            found = subject(method, made(**{{"uri": "uris", "dns": "dns", "email": "emails"}[kind]: (name,)}))
            assert (found != UNKNOWN) is wanted, name


def test_of_several_names_the_first_that_fits_is_the_subject() -> None:
    several = made(uris=("spiffe://a.example/x", "spiffe://b.example/y", "spiffe://b.example/z"))
    assert subject(mtls(allow="uri:spiffe://b.example/*"), several) == "spiffe://b.example/y"
    assert subject(mtls(allow=["uri:spiffe://b.example/z"]), several) == "spiffe://b.example/z"


def test_the_nearest_pattern_says_what_is_known_of_a_caller() -> None:
    callers = {
        "uri:*": CertificateCaller(roles=["any"]),
        "uri:spiffe://acme.example/*": CertificateCaller(roles=["acme"]),
        "uri:spiffe://acme.example/ns/shop/*": CertificateCaller(roles=["shop"]),
        "uri:spiffe://acme.example/ns/shop/orders": CertificateCaller(roles=["orders"]),
        "dns:*.acme.example": CertificateCaller(roles=["host"]),
        "dns:a.acme.example": CertificateCaller(roles=["a"]),
    }
    for order in (callers, dict(reversed(callers.items()))):
        world = World(mtls(order))
        for names, role in (
            ({"uris": (ORDERS,)}, "orders"),
            ({"uris": (ORDERS + "/x",)}, "shop"),
            ({"uris": ("spiffe://acme.example/ns",)}, "acme"),
            ({"uris": ("spiffe://elsewhere/ns",)}, "any"),
            ({"dns": ("a.acme.example",)}, "a"),
            ({"dns": ("b.acme.example",)}, "host"),
        ):
            found = world.ask(made(**names))
            assert isinstance(found, Identity)
            assert found.roles == {role}


@given(st.permutations(["uri:*", "uri:spiffe://acme.example/*", f"uri:{ORDERS}", "dns:*", "cn:*", "email:*"]))
def test_the_order_of_patterns_decides_nothing(allow: list[str]) -> None:
    assert subject(mtls(allow=allow), FULL) == ORDERS


def test_a_name_that_is_too_long_stands_for_nobody() -> None:
    longest = "urn:" + "a" * 2044
    assert subject(mtls(allow="uri:*"), made(uris=(longest,))) == longest
    assert subject(mtls(allow="uri:*"), made(uris=(longest + "a",))) == UNKNOWN


# -- when


@pytest.mark.parametrize(
    ("offset", "good"),
    [(0.0, True), (3599.9, True), (3600.0, False), (1e6, False), (-3600.0, True), (-3660.0, True), (-3660.1, False)],
)
def test_a_certificate_counts_in_its_time_by_our_clock(offset: float, good: bool) -> None:
    assert EARLY == 60.0
    world = World(EVERYBODY)
    world.clock.set_wall(NOW + offset)
    found = world.ask(FULL)
    assert (found == "authn.expired_certificate") is not good
    # Also when it was known before.
    world.clock.set_wall(NOW)
    assert isinstance(world.ask(FULL), Identity)
    world.clock.set_wall(NOW + offset)
    assert world.ask(FULL) == found


def test_a_caller_is_built_once_for_a_certificate_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "MAX_KNOWN", 4)
    world = World(EVERYBODY)
    first = world.ask(FULL)
    world.clock.advance(1800)
    assert world.ask(FULL) is first
    assert world.built == 1
    for number in range(9):
        world.ask(made(uris=(f"urn:x:{number}",), not_after=NOW + 9e6))
    assert len(world.bound._known) <= 4


def test_a_certificate_that_nobody_is_known_by_is_not_kept() -> None:
    world = World(mtls(allow="cn:nobody"))
    assert world.ask(FULL) == UNKNOWN
    assert len(world.bound._known) == 0


def test_two_certificates_of_one_name_are_told_apart_by_their_marks() -> None:
    world = World(EVERYBODY)
    marks = []
    for end in (3600.0, 7200.0):
        found = world.verified(made(uris=(ORDERS,), not_after=NOW + end))
        assert isinstance(found, Verified)
        marks.append(found.marks["jti"])
    assert len(set(marks)) == 2


# -- as a method


def test_a_refused_certificate_is_refused_where_a_caller_is_optional() -> None:
    policy = Authn(mtls(allow="cn:nobody"), optional=True).bind(test_ports())
    exchange = request(scheme="https")
    assert policy.decide(exchange) is None
    assert exchange.identity is ANONYMOUS
    exchange = request(scheme="https")
    exchange.scope["extensions"] = {"tls": {"client_cert_chain": [FULL.pem]}}
    reply = policy.decide(exchange)
    assert (reply.status, reply.reason) == (401, UNKNOWN)
    assert exchange.identity is None


def test_ob8_no_name_of_a_certificate_is_in_a_refusal() -> None:
    world = World(mtls(allow="cn:nobody"))
    for wall in (NOW, NOW + 1e6):
        world.clock.set_wall(wall)
        reply = world.verified(FULL)
        assert isinstance(reply, Reply)
        assert "acme" not in str(reply.detail)


def test_several_ways_in_are_named_in_one_refusal() -> None:
    policy = Authn(EVERYBODY, api_keys({"k": "an-example-of-a-key-of-enough-length"})).bind(test_ports())
    reply = policy.decide(request())
    assert reply.reason == "authn.missing_certificate"
    assert [value for _, value in reply.headers] == [b'ClientCertificate realm="gateway"', b'ApiKey realm="gateway"']


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: mtls(), "say whom to let in"),
        (lambda: mtls({}), "say whom to let in"),
        (lambda: mtls(allow=ORDERS), "begins with uri:, dns:, email:, cn:"),
        (lambda: mtls(allow="ip:10.0.0.1"), "begins with uri:, dns:, email:, cn:"),
        (lambda: mtls(allow="orders.acme.example"), "begins with"),
        (lambda: mtls(allow="dns:"), "has a name"),
        (lambda: mtls(allow="*"), "begins with"),
        (lambda: mtls(allow="uri:spiffe://acme.example/*/orders"), "a star stands at the end"),
        (lambda: mtls(allow="uri:spiffe://acme.example/ns*"), "a star stands at the end"),
        (lambda: mtls(allow="uri:spiffe://acme.example/../*"), "a star stands at the end"),
        (lambda: mtls(allow="uri:spiffe:///*"), "is no pattern"),
        (lambda: mtls(allow="uri:orders"), "is no pattern"),
        (lambda: mtls(allow="uri:spiffe://*"), "is no pattern"),
        (lambda: mtls(allow="uri:urn:a/*"), "anybody's domain"),
        (lambda: mtls(allow="dns:a.*.example"), "for the first label"),
        (lambda: mtls(allow="dns:*x.example"), "for the first label"),
        (lambda: mtls(allow="dns:*.example"), "all of a top-level domain"),
        (lambda: mtls(allow="email:acme.example"), "for the mailbox"),
        (lambda: mtls(allow="email:*@*.example"), "for the mailbox"),
        (lambda: mtls(allow="cn:a*"), "or alone"),
        (lambda: mtls(allow=["dns:a.example", "dns:A.example"]), "is there twice"),
        (lambda: mtls({"dns:a.example": CertificateCaller()}, allow="dns:a.example"), "is there twice"),
        (lambda: mtls({"dns:*.acme.example": CertificateCaller(subject="x")}), "give them no subject"),
        (lambda: mtls({"dns:*": CertificateCaller(subject="x")}), "give them no subject"),
        (lambda: CertificateCaller(scopes=["a b"]), "scopes"),
        (lambda: CertificateCaller(rights=["a"]), "rights"),
        (lambda: Mtls.model_validate({"allow": ["cn:a"], "header": "x"}), "header"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(make: Callable[[], object], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert why in str(caught.value)


def test_a_spec_as_a_file_has_it_and_as_it_is_written_back() -> None:
    document: Mapping[str, Any] = {
        "methods": [
            {"method": "mtls", "callers": {f"uri:{ORDERS}": {"tenant": "acme", "roles": ["r"]}}, "allow": "cn:legacy"}
        ]
    }
    spec = Authn(mtls({f"uri:{ORDERS}": CertificateCaller(tenant="acme", roles=["r"])}, allow=["cn:legacy"]))
    assert Authn.shorthand(document) == spec
    assert Authn.model_validate(spec.model_dump()) == spec
    assert Authn.model_validate_json(spec.model_dump_json()) == spec


def test_nothing_of_the_request_is_changed() -> None:
    exchange = request("GET", "/?a=1", headers={"X-Forwarded-Client-Cert": "URI=a"})
    bound = World(EVERYBODY).bound
    bound.strip(exchange)
    assert (bound.stripped, exchange.rewritten) == (frozenset(), False)
