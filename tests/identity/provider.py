"""A real OAuth 2 and OpenID provider as a process: oidc-provider, set up by `provider/provider.mjs`.

It issues JWT access tokens for the resources `urn:orders` and `urn:billing` (audiences `orders` and `billing`) and opaque
ones for `urn:ledger`. It keeps its keys in a file and everything else in memory, so one that is killed and started
again has forgotten what it issued, as far as it is asked: sessions, refresh tokens, opaque tokens. JWTs go on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.processes import Process, free_port

from .packages import HERE, node, node_modules

ORDERS = "urn:orders"
BILLING = "urn:billing"
LEDGER = "urn:ledger"
RESOURCES = {
    ORDERS: {"audience": "orders", "format": "jwt", "scope": "orders:read orders:write"},
    BILLING: {"audience": "billing", "format": "jwt", "scope": "billing:read"},
    LEDGER: {"audience": "ledger", "format": "opaque", "scope": "ledger:read ledger:write"},
}
LIFETIMES = {"access": 600, "refresh": 3600, "session": 3600}
"""Seconds."""
LANDING = "http://127.0.0.1:9/landed"
"""Where logins end: nobody listens there, and nobody has to."""

Step = Literal["publish", "sign", "drop", "sudden"]


@dataclass(frozen=True)
class Client:
    """A client that is registered with the provider, and how it authenticates there."""

    id: str
    method: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = "client_secret_basic"
    logs_in: bool = False
    """Whether users log in to it; otherwise it gets tokens for itself."""

    @property
    def secret(self) -> str:
        return f"a secret of {self.id}, known to these tests"

    def metadata(self) -> dict[str, Any]:
        """As it is registered (RFC 7591 section 2)."""
        told: dict[str, Any] = {
            "client_id": self.id,
            "token_endpoint_auth_method": self.method,
            "grant_types": ["authorization_code", "refresh_token"] if self.logs_in else ["client_credentials"],
            "response_types": ["code"] if self.logs_in else [],
            "redirect_uris": [LANDING] if self.logs_in else [],
        }
        if self.method == "private_key_jwt":
            public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(_client_key().public_key()))
            return {
                **told,
                "token_endpoint_auth_signing_alg": "ES256",
                "jwks": {"keys": [{**public, "kid": "client-key", "use": "sig", "alg": "ES256"}]},
            }
        return {**told, "client_secret": self.secret}


SERVICE = Client("service")
SERVICE_POST = Client("service-post", "client_secret_post")
SERVICE_KEY = Client("service-key", "private_key_jwt")
GATEWAY = Client("gateway")
"""Asks what opaque tokens are good for."""
SHOP = Client("shop", logs_in=True)
CLIENTS = (SERVICE, SERVICE_POST, SERVICE_KEY, GATEWAY, SHOP)


class Tokens(NamedTuple):
    """What a login gives: an access token for the resource that was asked for, and what gets the next one."""

    access: str
    refresh: str


class Denied(Exception):
    """The provider did not do it. The text is its error, as in RFC 6749 section 5.2."""


class Provider:
    """The provider in `folder`, on a port that it keeps for life: `start`, `stop`, `kill`, and `start` again.

    It dies with the thread that started it. Raises ExitedEarly, and NotInstalled where npm cannot install it.
    """

    def __init__(self, folder: Path, *, algorithm: str = "RS256", lifetimes: dict[str, int] | None = None) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.lifetimes = {**LIFETIMES, **(lifetimes or {})}
        self._folder = folder
        self._process: Process | None = None
        self._http = httpx.Client(trust_env=False, verify=False, timeout=10)
        shutil.copy(HERE / "provider.mjs", folder)
        # Node looks for packages beside the file that imports them.
        (folder / "node_modules").symlink_to(node_modules())
        settings = {
            "port": self.port,
            "issuer": self.issuer,
            "keys": str(folder / "keys.json"),
            "algorithm": algorithm,
            "clients": [client.metadata() for client in CLIENTS],
            "resources": RESOURCES,
            "lifetimes": self.lifetimes,
        }
        (folder / "settings.json").write_text(json.dumps(settings))

    def start(self) -> Provider:
        """Start it, and wait until it answers."""
        process = Process(
            "the identity provider",
            [node(), "provider.mjs", "settings.json"],
            self._folder / "log.txt",
            cwd=self._folder,
            env=dict(os.environ),
        )
        self._process = process
        process.wait_for(self._ready)
        return self

    def stop(self) -> None:
        """End it, and forget it."""
        if self._process is not None:
            self._process.stop()
        self._http.close()

    def kill(self) -> None:
        """End it without asking, as a machine that loses power does. `start` brings it back, on the same port."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.process.wait()

    def hang(self) -> None:
        """Let it take connections and say nothing, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.process.pid, number)

    def tail(self) -> str:
        """The end of its log."""
        return self._process.tail() if self._process is not None else ""

    # -- tokens

    def client_credentials(self, resource: str = ORDERS, scope: str | None = None, client: Client = SERVICE) -> str:
        """An access token of a client's own (RFC 6749 section 4.4): by default with every scope of the resource."""
        scope = RESOURCES[resource]["scope"] if scope is None else scope
        asked = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        return str(self._asked("/token", asked, client)["access_token"])

    def login(self, account: str, resource: str = ORDERS, client: Client = SHOP) -> Tokens:
        """The tokens of a user who logs in: an authorisation code with PKCE, in a browser that has never been there."""
        verifier = uuid.uuid4().hex + uuid.uuid4().hex
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        question = {
            "client_id": client.id,
            "response_type": "code",
            "redirect_uri": LANDING,
            "scope": f"openid {RESOURCES[resource]['scope']}",
            "resource": resource,
            "login_hint": account,
            # So that the tokens know their session.
            "claims": json.dumps({"id_token": {"sid": {"essential": True}}}),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        at = f"{self.issuer}/auth?{urlencode(question)}"
        with httpx.Client(trust_env=False, verify=False, timeout=10) as browser:
            while not at.startswith(LANDING):
                response = browser.get(at)
                if not response.has_redirect_location:
                    raise Denied(response.text)
                at = str(response.next_request.url) if response.next_request is not None else ""
        landed = parse_qs(urlsplit(at).query)
        if "code" not in landed:
            raise Denied(str(landed))
        return self._tokens(
            {
                "grant_type": "authorization_code", "code": landed["code"][0], "redirect_uri": LANDING,
                "code_verifier": verifier, "resource": resource,
            },
            client,
        )  # fmt: skip

    def refresh(self, refresh: str, resource: str = ORDERS, client: Client = SHOP) -> Tokens:
        """The next tokens of a session (RFC 6749 section 6); the refresh token that was sent is used up."""
        asked = {"grant_type": "refresh_token", "refresh_token": refresh, "resource": resource}
        return self._tokens(asked, client)

    def revoke(self, token: str, client: Client = SERVICE) -> None:
        """Revoke an opaque token or a refresh token (RFC 7009). JWTs it cannot: Denied."""
        self._asked("/token/revocation", {"token": token}, client)

    def introspect(self, token: str, client: Client = GATEWAY) -> dict[str, Any]:
        """What the provider says of an opaque token (RFC 7662)."""
        return self._asked("/token/introspection", {"token": token}, client)

    # -- what only a test may ask

    def revoke_session(self, access: str) -> str:
        """End the session that this JWT was issued in, as its user's logout would; the session's id."""
        sid = str(claims_of(access)["sid"])
        if not self._test("revoke-session", sid=sid)["ended"]:
            raise Denied(f"there is no session {sid}")
        return sid

    def keys(self, step: Step, algorithm: str = "RS256") -> list[str]:
        """Change the keys; the ids of those that are published now.

        `publish` a new key, which does not sign yet; let the newest `sign`; `drop` all others. `sudden`: a new key that
        signs at once.
        """
        found: list[str] = self._test("keys", step=step, alg=algorithm)["published"]
        return found

    def let_live(self, **seconds: int) -> None:
        """For how long what is issued from now on is good: `access`, `refresh`, `session`."""
        self._test("lifetimes", **seconds)

    def counts(self) -> dict[str, int]:
        """How often each path was asked for since it started, or since they were last forgotten."""
        return dict(self._test("counts"))

    def count(self, path: str) -> int:
        """The same for one path: `/jwks`, `/token/introspection`, `/.well-known/openid-configuration`."""
        return self.counts().get(path, 0)

    def forget_counts(self) -> None:
        """Count from 0 again."""
        self._test("counts/reset")

    # -- how it is asked

    def _ready(self) -> bool | None:
        try:
            return self._http.get(f"{self.issuer}/test/ready").status_code == 200 or None
        except httpx.TransportError:
            return None

    def _test(self, name: str, **given: Any) -> Any:
        response = self._http.post(f"{self.issuer}/test/{name}", json=given)
        assert response.status_code == 200, f"{response.text}\n{self.tail()}"
        return response.json()

    def _tokens(self, asked: dict[str, str], client: Client) -> Tokens:
        found = self._asked("/token", asked, client)
        return Tokens(found["access_token"], found["refresh_token"])

    def _asked(self, path: str, form: dict[str, str], client: Client) -> dict[str, Any]:
        response = self._http.post(self.issuer + path, data={**form, **self._in_body(client)}, headers=_in_head(client))
        found: dict[str, Any] = response.json() if response.content else {}
        if response.status_code != 200:
            raise Denied(
                f"{response.status_code} {found.get('error')}: {found.get('error_description')}\n{self.tail()}"
            )
        return found

    def _in_body(self, client: Client) -> dict[str, str]:
        if client.method == "client_secret_post":
            return {"client_id": client.id, "client_secret": client.secret}
        if client.method == "private_key_jwt":
            return {
                "client_id": client.id,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": client_assertion(client, self.issuer),
            }
        return {}


def client_assertion(client: Client, audience: str) -> str:
    """What a client with a key of its own proves itself with (RFC 7523 section 2.2)."""
    at = int(time.time())
    told = {"iss": client.id, "sub": client.id, "aud": audience, "jti": uuid.uuid4().hex, "iat": at, "exp": at + 60}
    return jwt.encode(told, _client_key(), algorithm="ES256", headers={"kid": "client-key"})


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says; nobody looks at its signature."""
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def header_of(token: str) -> dict[str, Any]:
    """What a JWT says of itself."""
    return dict(jwt.get_unverified_header(token))


def _in_head(client: Client) -> dict[str, str]:
    if client.method != "client_secret_basic":
        return {}
    return {"authorization": f"Basic {b64encode(f'{quoted(client.id)}:{quoted(client.secret)}'.encode()).decode()}"}


def quoted(text: str) -> str:
    """As RFC 6749 section 2.3.1 wants it before it goes into a Basic header."""
    return urlencode({"": text})[1:]


def client_key() -> str:
    """The private key of clients that prove themselves with one, as PEM."""
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return _client_key().private_bytes(*form).decode()


@cache
def _client_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
