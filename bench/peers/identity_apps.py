"""The same small app behind each of those who say who may call it. No network, keys parsed once, one line of JSON back.

Every peer is written as its own documentation has it, and checks what gatekit checks: RS256 by the key that `kid` names,
`iss`, `aud`, `exp`, `nbf` and `iat` with the same leeway, and that the scope is there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import jwt as pyjwt
from bench.peers.identity_scene import AUDIENCE, ISSUER, LEEWAY, SCOPE, policies
from bench.peers.programs import Module
from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
    requires,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Route

from gatekit.asgi import Policies

JWKS_VARIABLE = "GATEKIT_BENCH_JWKS"
APP_VARIABLE = "GATEKIT_BENCH_APP"
BODY = b'{"id":42,"status":"paid"}'

App = Callable[..., Any]
Jwks = Mapping[str, Any]


def answered() -> Response:
    return Response(BODY, media_type="application/json")


async def endpoint(request: Request) -> Response:
    return answered()


def starlette_app(handler: Callable[..., Any] = endpoint, *middleware: Middleware) -> Starlette:
    return Starlette(routes=[Route("/v1/orders/{id}", handler)], middleware=list(middleware))


def fastapi_app(*dependencies: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.get("/v1/orders/{id}", dependencies=list(dependencies))
    async def order(id: str) -> Response:
        return answered()

    return app


class Decoded:
    """Tokens read by PyJWT, by the key that they name."""

    def __init__(self, jwks: Jwks) -> None:
        self._keys = {key["kid"]: pyjwt.PyJWK(key) for key in jwks["keys"] if key["alg"] == "RS256"}

    def claims(self, token: str) -> dict[str, Any]:
        """Raises PyJWTError, and KeyError for a key that there is not."""
        key = self._keys[pyjwt.get_unverified_header(token)["kid"]]
        options: Any = {"require": ["exp", "iss", "aud", "sub"]}
        return pyjwt.decode(
            token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY, options=options
        )


class Remembered(Decoded):
    """The same with what a careful user would add: what was verified is kept until it ends, 10,000 at most."""

    def __init__(self, jwks: Jwks) -> None:
        super().__init__(jwks)
        self._kept: dict[str, dict[str, Any]] = {}

    def claims(self, token: str) -> dict[str, Any]:
        found = self._kept.get(token)
        if found is None or found["exp"] + LEEWAY <= time.time():
            found = super().claims(token)
            if len(self._kept) >= 10_000:
                self._kept.clear()
            self._kept[token] = found
        return found


class Backend(AuthenticationBackend):
    """Who calls, for Starlette's own middleware."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            claims = self._decoded.claims(token)
        except (pyjwt.PyJWTError, KeyError):
            raise AuthenticationError("invalid token") from None
        return AuthCredentials(claims["scp"].split()), SimpleUser(claims["sub"])


def starlette_peer(decoded: Decoded) -> App:
    return starlette_app(requires(SCOPE)(endpoint), Middleware(AuthenticationMiddleware, backend=Backend(decoded)))


_bearer = HTTPBearer()


def depending(claims_of: Callable[[str], Mapping[str, Any]], errors: tuple[type[Exception], ...]) -> App:
    """A FastAPI app whose route depends on a token with the scope."""

    async def caller(scopes: SecurityScopes, sent: Any = Depends(_bearer)) -> Mapping[str, Any]:  # noqa: B008
        try:
            claims = claims_of(sent.credentials)
        except errors:
            raise HTTPException(401, "invalid token", {"WWW-Authenticate": "Bearer"}) from None
        held = claims["scp"].split()
        if not all(scope in held for scope in scopes.scopes):
            raise HTTPException(403, "not enough scopes")
        return claims

    return fastapi_app(Security(caller, scopes=[SCOPE]))


def joserfc_peer(jwks: Jwks) -> App:
    from joserfc import jwt  # type: ignore[import-not-found, unused-ignore]
    from joserfc.errors import JoseError  # type: ignore[import-not-found, unused-ignore]
    from joserfc.jwk import KeySet  # type: ignore[import-not-found, unused-ignore]

    keys = KeySet.import_key_set({"keys": [key for key in jwks["keys"] if key["alg"] == "RS256"]})
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
        sub={"essential": True},
    )

    def claims_of(token: str) -> Mapping[str, Any]:
        found = jwt.decode(token, keys, algorithms=["RS256"])
        registry.validate(found.claims)
        claims: Mapping[str, Any] = found.claims
        return claims

    return depending(claims_of, (JoseError, ValueError))


def azure_peer(jwks: Jwks) -> App:
    """fastapi-azure-auth, told by hand what it would fetch from Microsoft once a day."""
    from fastapi_azure_auth import (  # type: ignore[import-not-found, unused-ignore]
        SingleTenantAzureAuthorizationCodeBearer,
    )

    scheme = SingleTenantAzureAuthorizationCodeBearer(AUDIENCE, tenant_id="acme", leeway=LEEWAY)
    config = scheme.openid_config
    config.issuer = ISSUER
    config.signing_keys = {key["kid"]: pyjwt.PyJWK(key).key for key in jwks["keys"] if key["alg"] == "RS256"}
    config._config_timestamp = datetime.now()  # noqa: DTZ005 - it compares with a time without a zone
    return fastapi_app(Security(scheme, scopes=[SCOPE]))


def _gatekit(app: App, jwks: Jwks, **fields: Any) -> App:
    return Policies(app, *policies(jwks, algorithms="RS256", **fields))


APPS: dict[str, Callable[[Jwks], App]] = {
    "starlette, open": lambda jwks: starlette_app(),
    "starlette, gatekit without policies": lambda jwks: Policies(starlette_app()),
    "starlette, gatekit": lambda jwks: _gatekit(starlette_app(), jwks),
    "starlette, gatekit cache=0": lambda jwks: _gatekit(starlette_app(), jwks, cache=0),
    "starlette, its own + PyJWT": lambda jwks: starlette_peer(Decoded(jwks)),
    "starlette, its own + PyJWT, kept": lambda jwks: starlette_peer(Remembered(jwks)),
    "fastapi, open": lambda jwks: fastapi_app(),
    "fastapi, gatekit": lambda jwks: _gatekit(fastapi_app(), jwks),
    "fastapi, dependency + PyJWT": lambda jwks: depending(Decoded(jwks).claims, (pyjwt.PyJWTError, KeyError)),
    "fastapi, dependency + joserfc": joserfc_peer,
    "fastapi, fastapi-azure-auth": azure_peer,
}
"""Name → the app, made of the issuer's keys. What stands before the comma is the app that all of a kind share."""
NEEDS = {
    "fastapi, dependency + joserfc": Module("joserfc", "joserfc"),
    "fastapi, fastapi-azure-auth": Module("fastapi_azure_auth", "fastapi-azure-auth"),
}


def missing() -> dict[str, str]:
    """The apps that cannot be made here, and what to do about it."""
    return {name: told for name, module in NEEDS.items() if (told := module.missing()) is not None}


def served() -> App:
    """The app for a server process, by the environment."""
    return APPS[os.environ[APP_VARIABLE]](json.loads(os.environ[JWKS_VARIABLE]))
