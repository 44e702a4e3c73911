"""Methods together: any of them, all of them, on the gateway and on one of its routes; and what was revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.core.certificates import made as certificate
from tests.policies.authn.jwt_scene import ISSUER, KEYS, NOW, made

from gatekit import (
    ApiKey,
    Authn,
    CertificateCaller,
    Cluster,
    ConfigRefused,
    Gateway,
    Route,
    all_of,
    api_keys,
    jwt,
    mtls,
)
from gatekit.core.exchange import Exchange
from gatekit.core.outcome import Fault
from gatekit.core.policy import Job, ValidationError
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn import introspection
from gatekit.testing import FakeFetch, FakeRevocations, FakeStores, ManualClock, call, decide, request, test_ports
from gatekit.testing.policies import step

KEY = "a-key-of-at-least-sixteen-characters"
KEYED = api_keys({"reports": ApiKey(secret=KEY, tenant="acme")})
TOKENS = jwt(issuer=ISSUER, audience="shop", jwks=KEYS)
OPAQUE = introspection(
    url="https://as.test/introspect", audience="shop", client_id="gw", client_secret="a-secret-of-the-gateway"
)
CERTIFICATE = certificate(dns=("orders.example",))
HOLDERS = mtls({"dns:orders.example": CertificateCaller(tenant="acme")})


def exchange_of(
    token: str | bytes | None = None, key: str | None = None, cert: str | None = None, **headers: str
) -> Exchange:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["Authorization"] = f"Bearer {token if isinstance(token, str) else token.decode()}"
    if key is not None:
        sent["X-Api-Key"] = key
    exchange = request("GET", "/?key=abc", headers=sent)
    if cert is not None:
        exchange.scope["extensions"] = {"tls": {"client_cert_chain": [cert], "client_cert_error": None}}
    return exchange


def ports(**more: Any) -> Ports:
    return test_ports(clock=ManualClock(wall=NOW), **more)


def asked(policy: Any, exchange: Exchange) -> str:
    reply = decide(policy, exchange)
    if reply is not None:
        assert exchange.identity is None
        return reply.reason
    assert exchange.identity is not None
    return exchange.identity.subject


# -- any of them


def test_any_method_does_and_the_first_credential_found_decides() -> None:
    policy = Authn(KEYED, TOKENS).bind(ports())
    assert asked(policy, exchange_of(key=KEY)) == "reports"
    assert asked(policy, exchange_of(token=made())) == "ann"
    assert asked(policy, exchange_of(token=made(), key="wrong-key-wrong-key")) == "authn.invalid_key"
    missing = decide(policy, exchange_of())
    assert missing is not None
    challenges = [value for name, value in missing.headers if name == b"www-authenticate"]
    assert challenges == [b'ApiKey realm="gateway"', b'Bearer realm="gateway"']


def test_a_challenge_is_given_once() -> None:
    policy = Authn(TOKENS, jwt(issuer="https://b.test", audience="b", jwks=KEYS, header="x-other")).bind(ports())
    missing = decide(policy, exchange_of())
    assert missing is not None
    assert missing.headers == [(b"www-authenticate", b'Bearer realm="gateway"')]


def test_every_credential_is_taken_out_whichever_was_used() -> None:
    policy = Authn(KEYED, TOKENS, identity_headers={"X-User": "subject"}).bind(ports())
    exchange = exchange_of(token=made(), key=KEY, X_User="root", x_user="root")
    assert asked(policy, exchange) == "reports"
    names = [name for name, _ in exchange.headers.raw]
    assert b"authorization" not in names
    assert b"x-api-key" not in names
    assert exchange.headers.get_all("x-user") == ["reports"]


@pytest.mark.parametrize("later", [False, True], ids=["known at once", "after asking"])
def test_where_nobody_can_tell_it_is_503_and_not_the_callers_fault(later: bool) -> None:
    fetch = FakeFetch().answer("https://as.test/introspect", error=StoreUnavailable("down"))
    policy = Authn(OPAQUE).bind(ports(fetch=fetch))
    for _ in range(1 if later else 6):
        exchange = exchange_of(token="opaque")
        reply = decide(policy, exchange)
    assert reply is not None
    assert (reply.status, exchange.fault) == (503, Fault.GATEWAY)
    assert exchange.identity is None
    assert [name for name, _ in reply.headers] == [b"retry-after"]


def test_what_takes_any_issuer_takes_what_nobody_else_did() -> None:
    anybody = jwt(unchecked_issuer=True, unchecked_audience=True, jwks=KEYS)
    policy = Authn(anybody, TOKENS).bind(ports())
    assert asked(policy, exchange_of(token=made(aud="other"))) == "authn.wrong_audience"
    assert asked(policy, exchange_of(token=made(iss="https://other.test", aud="other"))) == "ann"


# -- all of them


def test_all_of_them_must_be_good_and_the_last_tells_who_it_is() -> None:
    policy = Authn(all_of(HOLDERS, TOKENS)).bind(ports())
    assert asked(policy, exchange_of(token=made(), cert=CERTIFICATE.pem)) == "ann"
    assert asked(policy, exchange_of(token=made(exp=NOW - 100), cert=CERTIFICATE.pem)) == "authn.expired"
    other = certificate(dns=("eve.example",))
    assert asked(policy, exchange_of(token=made(), cert=other.pem)) == "authn.unknown_certificate"
    assert asked(policy, exchange_of(cert=CERTIFICATE.pem)) == "authn.missing_certificate"
    assert asked(policy, exchange_of(token=made())) == "authn.missing_certificate"


def test_where_its_first_finds_nothing_the_next_way_in_is_tried() -> None:
    policy = Authn(all_of(HOLDERS, TOKENS), KEYED).bind(ports())
    assert asked(policy, exchange_of(key=KEY)) == "reports"
    assert asked(policy, exchange_of(key=KEY, cert=CERTIFICATE.pem)) == "authn.missing_certificate"


@pytest.mark.parametrize("last", [False, True], ids=["asked first", "asked last"])
def test_all_of_them_where_one_has_to_be_asked_about(last: bool) -> None:
    fetch = FakeFetch().answer("https://as.test/introspect", json={"active": True, "sub": "bob", "aud": "shop"})
    methods = (KEYED, OPAQUE) if last else (OPAQUE, KEYED)
    policy = Authn(all_of(*methods)).bind(ports(fetch=fetch))
    assert asked(policy, exchange_of(token="opaque", key=KEY)) == ("bob" if last else "reports")
    assert asked(policy, exchange_of(token="opaque2")) == ("authn.missing_key" if last else "authn.missing_token")


def test_what_works_in_the_background_of_each_works_for_all() -> None:
    remote = jwt(issuer=ISSUER, audience="shop", jwks_url="https://id.test/keys")
    policy = Authn(all_of(KEYED, remote)).bind(ports())
    assert len(policy.jobs()) == 1
    assert f"jwt {ISSUER}" in policy.status()


def test_two_that_look_in_one_place_cannot_both_hold() -> None:
    with pytest.raises(ValidationError, match="same place"):
        all_of(TOKENS, jwt(issuer="https://b.test", audience="b", jwks=KEYS))
    with pytest.raises(ValidationError, match="at least 2"):
        all_of(TOKENS)


# -- revoked


def revoking(*methods: Any, revoked: FakeRevocations) -> Any:
    return Authn(*methods, revocations="memory:").bind(ports(stores=FakeStores(revoked)))


def test_an10_what_is_revoked_is_refused_although_it_was_verified_a_moment_ago() -> None:
    revoked = FakeRevocations()
    policy = revoking(TOKENS, KEYED, revoked=revoked)
    token = made(jti="1")
    assert asked(policy, exchange_of(token=token)) == "ann"
    revoked.revoke(jti="1")
    reply = decide(policy, exchange_of(token=token))
    assert reply is not None
    assert (reply.status, reply.reason) == (401, "authn.revoked")
    assert (b"www-authenticate", b'Bearer realm="gateway", error="invalid_token"') in reply.headers
    assert (b"www-authenticate", b'ApiKey realm="gateway"') in reply.headers
    assert asked(policy, exchange_of(token=made(jti="2"))) == "ann"


@pytest.mark.parametrize(
    ("claims", "token", "key"),
    [
        ({"sub": "ann"}, True, False),
        ({"client_id": "reports"}, False, True),
        ({"tenant": "acme"}, False, True),
    ],
    ids=["a subject", "a key by its id", "a tenant"],
)
def test_an10_credentials_of_any_kind_are_revoked(claims: Mapping[str, str], token: bool, key: bool) -> None:
    revoked = FakeRevocations()
    policy = revoking(TOKENS, KEYED, revoked=revoked)
    exchange = {"token": made() if token else None, "key": KEY if key else None}
    assert asked(policy, exchange_of(**exchange)) != "authn.revoked"  # type: ignore[arg-type]
    revoked.revoke(**claims)
    assert asked(policy, exchange_of(**exchange)) == "authn.revoked"  # type: ignore[arg-type]


def test_of_several_credentials_each_may_be_revoked() -> None:
    revoked = FakeRevocations()
    policy = revoking(all_of(HOLDERS, KEYED, TOKENS), revoked=revoked)

    def ask() -> str:
        return asked(policy, exchange_of(token=made(), key=KEY, cert=CERTIFICATE.pem))

    assert ask() == "ann"
    revoked.revoke(client_id="reports")
    assert ask() == "authn.revoked"


class Slow(FakeRevocations):
    """A list that has to be read first."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.waits = 0

    def loaded(self) -> Any:
        if not self.reading:
            return None
        return self._read()

    async def _read(self) -> None:
        self.waits += 1
        self.reading = False

    def jobs(self) -> list[Job]:
        return [Job(("revocations", "slow"), self._read, lambda: 1.0)]

    def status(self) -> Mapping[str, Any]:
        return {"entries": 1}


def test_the_first_request_waits_until_the_list_is_read_and_no_other_does() -> None:
    revoked = Slow()
    revoked.revoke(sub="ann")
    policy = revoking(TOKENS, KEYED, revoked=revoked)
    assert asked(policy, exchange_of(token=made())) == "authn.revoked"
    assert asked(policy, exchange_of(token=made())) == "authn.revoked"
    assert asked(policy, exchange_of(key=KEY)) == "reports"
    assert revoked.waits == 1
    assert [job.key for job in policy.jobs()] == [("revocations", "slow")]
    assert policy.status()["revocations"] == {"entries": 1}


def test_a_list_that_was_read_meanwhile_is_not_waited_for() -> None:
    revoked = Slow()
    policy = revoking(KEYED, revoked=revoked)
    revoked.reading = False
    assert asked(policy, exchange_of(key=KEY)) == "reports"
    assert revoked.waits == 0


def test_a_caller_who_is_good_also_waits_once() -> None:
    policy = revoking(KEYED, revoked=Slow())
    exchange = exchange_of(key=KEY)
    pending = policy.decide(exchange)
    assert not isinstance(pending, Reply)
    assert step(pending, "decide") is None
    assert exchange.identity is not None
    assert policy.decide(exchange_of(key=KEY)) is None


def test_a_store_that_is_none_is_refused_with_the_configuration() -> None:
    with pytest.raises(ConfigRefused, match="store of what is revoked"):
        Gateway(
            routes=[Route("/", to="a")],
            clusters={"a": Cluster("http://127.0.0.1:9")},
            policies=[Authn(KEYED, revocations="gopher://host")],
        )


# -- a route's own in place of the gateway's


async def answered(gateway: Gateway, target: str, **headers: str) -> Any:
    return await call(gateway, target=target, headers={n.replace("_", "-"): v for n, v in headers.items()})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = b"\n".join(name + b": " + value for name, value in scope["headers"]) + b"\n?" + scope["query_string"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def gateway(*outer: Authn, own: Authn) -> Gateway:
    return Gateway(
        policies=list(outer),
        routes=[Route("/own", to="app", policies=[own]), Route("/other", to="app")],
        clusters={"app": Cluster(app=echo)},
        ports=ports(stores=FakeStores()),
    )


async def test_a_routes_own_methods_stand_in_place_of_the_gateways() -> None:
    made_gateway = gateway(Authn(TOKENS, identity_headers={"X-User": "subject"}), own=Authn(KEYED))
    token = "Bearer " + made().decode()
    assert (await answered(made_gateway, "/other", authorization=token)).status == 200
    assert (await answered(made_gateway, "/own", authorization=token)).status == 401
    passed = await answered(made_gateway, "/own", x_api_key=KEY, authorization=token, x_user="root")
    assert passed.status == 200
    # What the gateway strips and tells is stripped and told on this route as well.
    assert b"x-user: reports" in passed.body
    assert b"root" not in passed.body
    assert b"authorization" not in passed.body
    assert b"x-api-key" not in passed.body


async def test_a_credential_of_the_gateway_in_the_query_is_cut_out_there_too() -> None:
    outer = Authn(api_keys({"reports": ApiKey(secret=KEY)}, query="key"))
    passed = await answered(gateway(outer, own=Authn(TOKENS, optional=True)), "/own?key=canary&a=1")
    assert passed.status == 200
    assert passed.body.endswith(b"?a=1")


async def test_what_the_gateway_says_of_revocations_and_realm_holds_there() -> None:
    revoked = FakeRevocations().revoke(client_id="reports")
    outer = Authn(TOKENS, realm="shop", revocations="memory:")
    made_gateway = Gateway(
        policies=[outer],
        routes=[Route("/own", to="app", policies=[Authn(KEYED)])],
        clusters={"app": Cluster(app=echo)},
        ports=ports(stores=FakeStores(revoked)),
    )
    refused = await answered(made_gateway, "/own", x_api_key=KEY)
    assert (refused.status, refused.headers.get("www-authenticate")) == (401, 'ApiKey realm="shop"')
    assert b"authn.revoked" in refused.body


def test_over_keeps_what_the_route_says_itself() -> None:
    own = Authn(KEYED, realm="mine", identity_headers={"x_user": "tenant"}, revocations="memory:")
    merged = own.over(Authn(TOKENS, realm="theirs", identity_headers={"X-User": "subject", "X-T": "tenant"}))
    assert merged.realm == "mine"
    assert merged.revocations == "memory:"
    assert dict(merged.identity_headers) == {"x_user": "tenant", "X-T": "tenant"}
    assert merged.also_cleaned == (TOKENS,)


def test_a_contradiction_between_the_two_is_a_finding() -> None:
    with pytest.raises(ConfigRefused, match=r"X-Api-Key carries the credential"):
        gateway(Authn(TOKENS, identity_headers={"X-Api-Key": "subject"}), own=Authn(KEYED))
