"""Who is calling and may they, told once and played under ASGI and under WSGI: good callers, and those who pretend."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.authn.jwt_scene import CLAIMS, ISSUER, KEYS, NOW, made
from tests.stories.conftest import Stage

from gatekit import ApiKey, Authn, Authz, api_keys, introspection, jwt
from gatekit.core.headers import fold
from gatekit.core.policy import Spec
from gatekit.testing import FakeFetch, FakeRevocations, FakeStores, ManualClock, call, call_wsgi, test_ports

KEY = "a-key-of-at-least-sixteen-characters"
TOKENS = jwt(issuer=ISSUER, audience="shop", jwks=KEYS)
OPAQUE = introspection(
    url="https://as.test/introspect", audience="shop", client_id="gw", client_secret="a-secret-of-the-gateway"
)
TOLD = {"X-User-Id": "subject", "X-Tenant": "tenant", "X-Scopes": "scopes"}


def guarded(*methods: Any, **authz: Any) -> Any:
    """Authn with these methods, and Authz behind it."""
    specs: list[Spec] = [Authn(*methods, identity_headers=TOLD, revocations="memory:"), Authz(**authz)]
    return lambda log: specs


def ports(stage: Stage, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "clock": ManualClock(wall=NOW), "fetch": FakeFetch().answer(
            "https://as.test/introspect", json={"active": True, "sub": "bob", "aud": "shop", "scope": "orders:read"}
        ),
        "stores": FakeStores(), **more,
    }  # fmt: skip
    return {"ports": test_ports(**given)}


def bearer(token: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.decode()}"}


async def test_a_caller_with_a_token_is_known_to_the_app(stage: Stage) -> None:
    played = await stage.play(
        guarded(TOKENS, scopes=["orders:read"]), options=ports(stage), target="/orders", headers=bearer(made())
    )
    assert played.response.status == 200
    (seen,) = played.seen
    assert (seen["user"].subject, seen["user"].user_id, seen["auth"].scopes) == ("ann", "ann", {"orders:read"})
    assert seen["user"].is_authenticated
    assert seen["exchange"].identity is seen["user"]
    assert seen["exchange"].facts["authz.rule"]
    headers = dict(seen["headers"])
    assert headers[b"x-user-id"] == b"ann"
    assert headers[b"x-scopes"] == b"orders:read"
    assert b"authorization" not in headers


async def test_an_opaque_token_is_asked_about(stage: Stage) -> None:
    played = await stage.play(
        guarded(TOKENS, OPAQUE, scopes=["orders:read"]), options=ports(stage), headers=bearer(b"an-opaque-token")
    )
    assert played.response.status == 200
    assert played.seen[0]["user"].subject == "bob"


@pytest.mark.parametrize(
    ("headers", "status", "reason", "challenge"),
    [
        ({}, 401, "authn.missing_token", 'Bearer realm="gateway"'),
        (bearer(made(exp=NOW - 61)), 401, "authn.expired", 'Bearer realm="gateway", error="invalid_token"'),
        (bearer(made(scope="")), 403, "authz.denied", 'Bearer error="insufficient_scope", scope="orders:read"'),
        (bearer(made(jti="gone")), 401, "authn.revoked", 'Bearer realm="gateway", error="invalid_token"'),
    ],
    ids=["nobody", "over", "not enough", "revoked"],
)
async def test_an12_a_refusal_says_why_and_shows_no_token(
    stage: Stage, headers: dict[str, str], status: int, reason: str, challenge: str
) -> None:
    options = ports(stage, stores=FakeStores(FakeRevocations().revoke(jti="gone")))
    played = await stage.play(guarded(TOKENS, scopes=["orders:read"]), options=options, headers=headers)
    response = played.response
    assert (response.status, response.json()["code"]) == (status, reason)
    assert response.header("www-authenticate") == challenge
    assert played.seen == []
    token = headers.get("Authorization", "Bearer canary").partition(" ")[2]
    assert token.encode() not in response.body
    assert not any(token.encode() in value for _, value in response.headers.raw)


async def test_az1_who_is_known_is_still_refused_where_nothing_allows(stage: Stage) -> None:
    played = await stage.play(guarded(TOKENS), options=ports(stage), headers=bearer(made()))
    assert (played.response.status, played.response.json()["code"]) == (403, "authz.denied")


@pytest.mark.parametrize(
    "value",
    [
        "Bearer {token}, Bearer {token}",
        "Bearer {token},Bearer x",
        "Basic x, Bearer {token}",
        "Bearer\u00a0{token}",
        "Bearer  {token}",
        "Bearer {token} ",
        "Bearer {token}\t",
        'Bearer "{token}"',
        "Bearer token={token}",
        "\u212bearer {token}".encode().decode("latin-1"),
        "Bearer {token}\u00ad".encode().decode("latin-1"),
        "{token}",
    ],
)
async def test_a_header_with_two_readings_lets_nobody_in(stage: Stage, value: str) -> None:
    sent = value.format(token=made().decode())
    played = await stage.play(
        guarded(TOKENS, authenticated=True), options=ports(stage), headers=[("Authorization", sent)]
    )
    # White space around a value is no part of it (RFC 9110 section 5.5); a server cuts it, or it comes to us.
    if sent.strip() == f"Bearer {made().decode()}":
        assert played.response.status in (200, 401)
    else:
        assert played.response.status == 401
        assert played.seen == []


async def test_two_headers_are_one_too_many(stage: Stage) -> None:
    token = made().decode()
    sent = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    played = await stage.play(guarded(TOKENS, authenticated=True), options=ports(stage), headers=sent)
    assert played.response.status == 401
    assert played.seen == []


async def test_a_token_in_the_query_is_none_unless_it_is_asked_for(stage: Stage) -> None:
    target = f"/orders?access_token={made().decode()}&a=1"
    refused = await stage.play(guarded(TOKENS, authenticated=True), options=ports(stage), target=target)
    assert refused.response.json()["code"] == "authn.missing_token"
    asking = jwt(issuer=ISSUER, audience="shop", jwks=KEYS, query="access_token")
    passed = await stage.play(guarded(asking, authenticated=True), options=ports(stage), target=target)
    assert passed.response.status == 200
    assert passed.seen[0]["query"] == b"a=1"


SPELLINGS = [
    "X-User-Id", "x-user-id", "X_User_Id", "x_user-id", "X.User.Id", "x~user~id", "X-User_Id", "x!user|id", "X+User+Id",
]  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("anonymous", [False, True], ids=["known", "anonymous"])
async def test_an11_az6_no_spelling_of_an_identity_header_gets_through(
    stage: Stage, name: str, anonymous: bool
) -> None:
    policies: Any = lambda log: [  # noqa: E731
        Authn(TOKENS, identity_headers=TOLD, optional=True), Authz(public=True),
    ]  # fmt: skip
    sent = [(name, "root"), *([] if anonymous else bearer(made()).items())]
    played = await stage.play(policies, options=ports(stage), headers=sent)
    (seen,) = played.seen
    told = [value for one, value in seen["headers"] if fold(one) == b"x-user-id"]
    assert told == ([] if anonymous else [b"ann"])
    assert seen["user"].subject == ("" if anonymous else "ann")


@given(
    name=st.text("abcdefghijklmnopqrstuvwxyzABCXYZ-_.~!#$%&'*+^`|0123456789", min_size=1, max_size=20),
    value=st.text("abc:{}\"'= ,root", max_size=20),
)
@settings(max_examples=150)
def test_az6_no_header_at_all_makes_a_principal(name: str, value: str) -> None:
    """Whatever a client sends but a good credential, the app sees nobody."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((environ.get("gatekit.identity"), environ.get("REMOTE_USER")))
        start_response("200 OK", [])
        return [b""]

    import gatekit.wsgi

    stack = gatekit.wsgi.Policies(
        app, Authn(TOKENS, api_keys({"k": ApiKey(secret=KEY)}), optional=True), Authz(public=True),
        ports=test_ports(clock=ManualClock(wall=NOW)),
    )  # fmt: skip
    call_wsgi(stack, headers=[(name, value.strip())])
    for identity, user in seen:
        assert identity is None or not identity.is_authenticated
        assert user is None


async def test_az6_nor_does_what_a_middleware_further_out_left_in_the_scope() -> None:
    """`user` in the scope is somebody else's business: it is left alone and never believed."""
    import gatekit.asgi

    users: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        users.append(scope["user"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    stack = gatekit.asgi.Policies(
        app, Authn(TOKENS, optional=True), Authz(authenticated=True), ports=test_ports(clock=ManualClock(wall=NOW))
    )

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await stack({**scope, "user": "root"}, receive, send)

    assert (await call(outer)).status == 401
    assert (await call(outer, headers=bearer(made()))).status == 200
    assert users == ["root"]


async def test_a_key_and_a_token_are_asked_for_in_order(stage: Stage) -> None:
    both = guarded(api_keys({"reports": ApiKey(secret=KEY, scopes=["orders:read"])}), TOKENS, scopes=["orders:read"])
    by_key = await stage.play(both, options=ports(stage), headers={"X-Api-Key": KEY})
    by_token = await stage.play(both, options=ports(stage), headers=bearer(made()))
    nobody = await stage.play(both, options=ports(stage))
    assert [one.seen[0]["user"].subject for one in (by_key, by_token)] == ["reports", "ann"]
    assert nobody.response.status == 401


async def test_authz_without_authn_fails_closed(stage: Stage) -> None:
    played = await stage.play(lambda log: [Authz(authenticated=True)], options=ports(stage), headers=bearer(made()))
    assert played.response.status == 500
    assert played.seen == []
    assert CLAIMS["sub"] == "ann"
