"""The provider itself: a drill says nothing about the gateway where the provider does not do what it is taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from . import packages
from .packages import HERE, NotInstalled, node_modules
from .provider import (
    BILLING,
    GATEWAY,
    LEDGER,
    ORDERS,
    SERVICE,
    SERVICE_KEY,
    SERVICE_POST,
    Client,
    Denied,
    Provider,
    claims_of,
    header_of,
)

pytestmark = pytest.mark.servers


def verified(provider: Provider, token: str, audience: str) -> dict[str, Any]:
    """What a JWT says, by the keys that are published now."""
    keys = jwt.PyJWKSet.from_dict(httpx.get(f"{provider.issuer}/jwks", trust_env=False).json())
    found: dict[str, Any] = jwt.decode(
        token, keys[header_of(token)["kid"]], audience=audience, issuer=provider.issuer, algorithms=["RS256", "ES256"]
    )
    return found


@pytest.mark.parametrize("client", [SERVICE, SERVICE_POST, SERVICE_KEY], ids=lambda client: client.method)
def test_a_client_gets_a_jwt_for_one_resource_however_it_authenticates(provider: Provider, client: Client) -> None:
    token = provider.client_credentials(ORDERS, "orders:read", client)
    found = verified(provider, token, "orders")
    assert (found["sub"], found["client_id"], found["scope"]) == (client.id, client.id, "orders:read")
    assert header_of(token)["typ"] == "at+jwt"
    assert claims_of(provider.client_credentials(BILLING))["aud"] == "billing"


def test_an_opaque_token_is_known_until_it_is_revoked(provider: Provider) -> None:
    token = provider.client_credentials(LEDGER)
    assert "." not in token
    found = provider.introspect(token)
    assert (found["active"], found["aud"], found["scope"]) == (True, "ledger", "ledger:read ledger:write")
    provider.revoke(token)
    assert provider.introspect(token) == {"active": False}
    assert provider.introspect("nobody-issued-this") == {"active": False}
    assert provider.count("/token/introspection") == 3


def test_it_takes_back_no_jwt(provider: Provider) -> None:
    """What it cannot do itself is what lists of revocations are for."""
    with pytest.raises(Denied, match="unsupported_token_type"):
        provider.revoke(provider.client_credentials())


@pytest.mark.parametrize("resource", [ORDERS, LEDGER])
def test_a_login_gives_tokens_that_can_be_had_anew_until_the_session_ends(provider: Provider, resource: str) -> None:
    first = provider.login("ann", resource)
    second = provider.refresh(first.refresh, resource)
    assert len({*first, *second}) == 4
    if resource == ORDERS:
        found, again = (verified(provider, one.access, "orders") for one in (first, second))
        assert (found["sub"], found["client_id"], found["sid"]) == ("ann", "shop", again["sid"])
        assert found["jti"] != again["jti"]
        assert provider.revoke_session(second.access) == found["sid"]
    else:
        found = provider.introspect(second.access)
        assert (found["sub"], found["client_id"], found["active"]) == ("ann", "shop", True)
        provider.revoke(second.refresh, Client("shop", logs_in=True))
        assert provider.introspect(second.access) == {"active": False}
    with pytest.raises(Denied, match="invalid_grant"):
        provider.refresh(second.refresh, resource)


def test_a_refresh_token_is_good_once(provider: Provider) -> None:
    first = provider.login("ann")
    second = provider.refresh(first.refresh)
    with pytest.raises(Denied, match="invalid_grant"):
        provider.refresh(first.refresh)
    with pytest.raises(Denied, match="invalid_grant"):
        provider.refresh(second.refresh)


def test_lifetimes_are_what_they_are_set_to(provider: Provider) -> None:
    provider.let_live(access=2)
    found = claims_of(provider.client_credentials())
    assert found["exp"] - found["iat"] == 2
    assert provider.introspect(provider.client_credentials(LEDGER))["active"] is True


def test_keys_are_replaced_in_three_steps(own_provider: Provider) -> None:
    def signs() -> str:
        return str(header_of(own_provider.client_credentials())["kid"])

    assert (own_provider.keys("publish"), signs()) == (["key-1", "key-2"], "key-1")
    assert (own_provider.keys("sign"), signs()) == (["key-1", "key-2"], "key-2")
    assert (own_provider.keys("drop"), signs()) == (["key-2"], "key-2")
    assert (own_provider.keys("sudden", "ES256"), signs()) == (["key-2", "key-3"], "key-3")
    token = own_provider.client_credentials()
    assert header_of(token)["alg"] == "ES256"
    assert verified(own_provider, token, "orders")["sub"] == "service"


def test_after_a_kill_it_has_its_keys_and_its_port_and_nothing_else(own_provider: Provider) -> None:
    own_provider.keys("publish")
    signed, opaque, session = (
        own_provider.client_credentials(),
        own_provider.client_credentials(LEDGER),
        own_provider.login("ann"),
    )
    own_provider.kill()
    with pytest.raises(httpx.ConnectError):
        own_provider.client_credentials()
    own_provider.start()
    assert verified(own_provider, signed, "orders")["sub"] == "service"
    assert own_provider.introspect(opaque) == {"active": False}
    with pytest.raises(Denied, match="invalid_grant"):
        own_provider.refresh(session.refresh)
    assert own_provider.keys("sign") == ["key-1", "key-2"]


def test_only_clients_it_knows_get_anything(provider: Provider) -> None:
    with pytest.raises(Denied, match="invalid_client"):
        provider.client_credentials(client=Client("stranger"))
    with pytest.raises(Denied, match="invalid_target"):
        provider.client_credentials("urn:elsewhere", "orders:read")
    with pytest.raises(Denied, match="invalid_client"):
        provider.introspect("anything", Client(GATEWAY.id, "private_key_jwt"))


def test_the_lock_file_says_what_every_package_hashes_to_and_names_no_registry() -> None:
    text = (HERE / "package-lock.json").read_text()
    assert "resolved" not in text
    assert text.count('"integrity": "sha512-') == text.count('"node_modules/')


def test_npm_that_fails_says_with_which_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in HERE.glob("package*.json"):
        (tmp_path / file.name).write_text(file.read_text().replace("6.2.18", "6.2.17", 1))
    monkeypatch.setattr(packages, "HERE", tmp_path)
    with pytest.raises(NotInstalled, match=r"(?s)npm-cli\.js ci --ignore-scripts .*ended with 1:.*"):
        node_modules(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("identity-provider-*[!k]")) == []
