"""Where key sets are: what a URL may be, and what an issuer's metadata may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.policies.authn.keysets_scene import ALGORITHMS, ISSUER, URL, Scene, ask, plain, refresh, status

from gatekit.core.ports import Reach
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.discovery import metadata_urls
from gatekit.policies.authn.keysets import KeySource

OPENID = f"{ISSUER}/.well-known/openid-configuration"
OAUTH = f"{ISSUER}/.well-known/oauth-authorization-server"
INSIDE = Reach(networks=("10.0.0.0/8",))


def metadata(**changed: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": URL, **changed}).encode()


def asked(scene: Scene) -> list[str]:
    """What was asked for since the last time."""
    urls = [url for _, url in scene.idp.asked]
    scene.idp.asked.clear()
    return urls


# -- settings


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "either the URL of its own or an issuer"),
        ({"url": URL, "issuer": ISSUER}, "either the URL of its own or an issuer"),
        ({"url": "http://id.example/keys"}, "the URL of a key set is https"),
        ({"url": "http://id.example/keys", "reach": Reach(ca="/etc/ca.pem")}, "the URL of a key set is https"),
        ({"issuer": "http://id.example"}, "an issuer is https"),
        ({"issuer": "https://id.example?tenant=1"}, "an issuer is a URL without a query"),
        ({"issuer": "id.example"}, "an issuer is an absolute https URL"),
        ({"url": "ftp://id.example/keys"}, "absolute https URL"),
        ({"url": "https://user:secret@id.example/keys"}, "without user information"),
        ({"url": "https://id.example/keys#x"}, "without user information and fragment"),
        ({"url": "https://id.example/a\\b"}, "absolute https URL"),
        ({"url": "https://id.example/a b"}, "absolute https URL"),
        ({"url": "https://id.exämple/"}, "absolute https URL"),
        ({"url": "https:///keys"}, "absolute https URL"),
        ({"url": "https://id.example:port/"}, "absolute https URL"),
        ({"url": "https://id.example/" + "x" * 2_048}, "at most 2048 characters"),
        ({"url": URL, "algorithms": frozenset()}, "name at least one algorithm"),
        ({"url": URL, "ttl": 0.0}, "ttl is a number of seconds above 0"),
        ({"url": URL, "stale": float("inf")}, "stale is a number of seconds above 0"),
        ({"url": URL, "cooldown": -1.0}, "cooldown is a number of seconds above 0"),
        ({"url": URL, "timeout": float("nan")}, "timeout is a number of seconds above 0"),
    ],
    ids=lambda value: str(value)[:70],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        KeySource(**{"algorithms": ALGORITHMS, **settings})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://id.example"},
        {"url": "https://id.example:8443/keys?tenant=1"},
        {"url": "https://[2001:db8::1]/keys"},
        {"issuer": "https://id.example/realms/shop/"},
        {"url": "http://10.0.0.1:8080/keys", "reach": INSIDE},
        {"issuer": "http://id.internal", "reach": INSIDE},
    ],
    ids=str,
)
def test_settings_that_are_taken(settings: dict[str, Any]) -> None:
    source = KeySource(algorithms=ALGORITHMS, **settings)
    assert source.name == (settings.get("url") or settings.get("issuer"))
    assert "tenant" not in source.shown
    assert "tenant" not in repr(source)


def test_the_name_on_disk_is_one_and_the_same_for_the_same_keys() -> None:
    source = KeySource(url=URL, algorithms=frozenset({"EdDSA", "RS256"}))
    same = KeySource(url=URL, algorithms=frozenset({"RS256", "EdDSA"}), ttl=60.0)
    others = [
        KeySource(url=URL, algorithms=frozenset({"RS256"})),
        KeySource(url=URL + "/", algorithms=source.algorithms),
        KeySource(issuer=URL, algorithms=source.algorithms),
    ]
    assert source.file == same.file
    assert source.file.startswith("jwks-")
    assert len({source.file, *(other.file for other in others)}) == 4


# -- where the metadata is


@pytest.mark.parametrize(
    ("issuer", "openid", "oauth"),
    [
        (
            "https://id.example",
            "https://id.example/.well-known/openid-configuration",
            "https://id.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example/",
            "https://id.example/.well-known/openid-configuration",
            "https://id.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://id.example:8443/realms/shop",
            "https://id.example:8443/realms/shop/.well-known/openid-configuration",
            "https://id.example:8443/.well-known/oauth-authorization-server/realms/shop",
        ),
        (
            "https://id.example/tenant/",
            "https://id.example/tenant/.well-known/openid-configuration",
            "https://id.example/.well-known/oauth-authorization-server/tenant",
        ),
    ],
)
def test_metadata_is_where_the_standards_put_it(issuer: str, openid: str, oauth: str) -> None:
    assert metadata_urls(issuer) == (openid, oauth)


def test_discovery_finds_the_keys() -> None:
    scene = Scene("a")
    scene.idp.pages[OPENID] = metadata()
    keys = scene.keys(issuer=ISSUER, reach=Reach(ca="/etc/ca.pem"), timeout=3.0)
    assert ask(keys, "a") is not None
    assert asked(scene) == [OPENID, URL]
    assert [(timeout, reach) for _, timeout, reach in scene.idp.told] == [(3.0, Reach(ca="/etc/ca.pem"))] * 2
    assert plain(keys, "a") is not None
    assert status(keys)["url"] == ISSUER


@pytest.mark.parametrize("nothing", [404, 401, 410, b"<html>", b"[1]"], ids=str)
def test_discovery_looks_in_the_second_place_where_nothing_is_in_the_first(nothing: int | bytes) -> None:
    scene = Scene("a")
    scene.idp.pages |= {OPENID: nothing, OAUTH: metadata()}
    assert ask(scene.keys(issuer=ISSUER), "a") is not None
    assert asked(scene) == [OPENID, OAUTH, URL]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (404, 404, "the metadata of the issuer was answered with status 404"),
        (404, b"{", "the metadata of the issuer is no JSON object"),
        (500, None, "the metadata of the issuer was answered with status 500"),
        (429, None, "the metadata of the issuer was answered with status 429"),
        (302, None, "the metadata of the issuer was answered with status 302"),
        (StoreUnavailable("no answer"), None, "no answer"),
        (metadata(issuer=ISSUER + "/"), None, "the metadata names another issuer than the one that is configured"),
        (metadata(issuer="https://evil.example"), None, "the metadata names another issuer"),
        (metadata(issuer=None), None, "the metadata names another issuer"),
        (b'{"jwks_uri": "https://id.example/keys"}', None, "the metadata names another issuer"),
        (metadata(jwks_uri=None), None, "the metadata of the issuer has no jwks_uri"),
        (metadata(jwks_uri="/keys"), None, "the jwks_uri of the issuer is an absolute https URL"),
        (metadata(jwks_uri="http://id.example/keys"), None, "the jwks_uri of the issuer is https"),
        (metadata(jwks_uri="file:///etc/passwd"), None, "the jwks_uri of the issuer is an absolute https URL"),
        (metadata(jwks_uri="https://u:p@id.example/"), None, "without user information"),
        (b'{"issuer": "https://id.example", "issuer": "x", "jwks_uri": "y"}', 404, "answered with status 404"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_metadata_that_cannot_be_taken_is_a_failure(
    first: int | bytes | Exception, second: int | bytes | None, why: str
) -> None:
    scene = Scene("a")
    scene.idp.pages[OPENID] = first
    if second is not None:
        scene.idp.pages[OAUTH] = second
    keys = scene.keys(issuer=ISSUER)
    with pytest.raises(StoreUnavailable):
        ask(keys, "a")
    assert why in str(status(keys)["last_error"])
    assert asked(scene) == ([OPENID] if second is None else [OPENID, OAUTH])


def test_keys_come_over_http_only_where_networks_are_named_and_the_metadata_did_too() -> None:
    issuer, uri = "http://id.internal", "http://id.internal/keys"
    scene = Scene("a")
    scene.idp.pages[issuer + "/.well-known/openid-configuration"] = metadata(issuer=issuer, jwks_uri=uri)
    assert ask(scene.keys(issuer=issuer, reach=INSIDE), "a") is not None
    scene.idp.pages[OPENID] = metadata(jwks_uri=uri)
    keys = scene.keys(issuer=ISSUER, reach=INSIDE)
    with pytest.raises(StoreUnavailable, match="the jwks_uri of the issuer is https"):
        ask(keys, "a")


# -- an issuer whose keys move


def test_the_metadata_is_read_again_after_the_ttl() -> None:
    scene = Scene("a")
    scene.idp.pages[OPENID] = metadata()
    keys = scene.keys(issuer=ISSUER)
    refresh(keys)
    asked(scene)
    scene.clock.advance(270)
    refresh(keys)
    assert asked(scene) == [URL]
    moved = "https://elsewhere.example/keys"
    scene.idp.pages[OPENID] = metadata(jwks_uri=moved)
    scene.clock.advance(270)
    refresh(keys)
    assert asked(scene) == [OPENID, moved]


@pytest.mark.parametrize("gone", [404, b"gone", StoreUnavailable("no answer")], ids=str)
def test_where_the_keys_are_gone_the_metadata_is_read_at_the_next_attempt(gone: int | bytes | Exception) -> None:
    scene = Scene("a")
    scene.idp.pages |= {OPENID: metadata()}
    keys = scene.keys(issuer=ISSUER)
    ask(keys, "a")
    moved = "https://elsewhere.example/keys"
    scene.idp.pages |= {OPENID: metadata(jwks_uri=moved), URL: gone}
    asked(scene)
    with pytest.raises(StoreUnavailable):
        ask(keys, "b")
    assert asked(scene) == [URL]
    scene.idp.kids = ["a", "b"]
    scene.clock.advance(30)
    assert ask(keys, "b") is not None
    assert asked(scene) == [OPENID, moved]


def test_while_the_metadata_cannot_be_had_the_keys_are_where_they_were() -> None:
    scene = Scene("a")
    scene.idp.pages[OPENID] = metadata()
    keys = scene.keys(issuer=ISSUER)
    refresh(keys)
    scene.clock.advance(540)
    scene.idp.pages[OPENID] = 503
    asked(scene)
    refresh(keys)
    assert asked(scene) == [OPENID, URL]
    assert status(keys)["failures"] == 0


def test_metadata_of_somebody_else_stops_the_refresh_and_not_the_keys() -> None:
    scene = Scene("a")
    scene.idp.pages[OPENID] = metadata()
    keys = scene.keys(issuer=ISSUER)
    refresh(keys)
    scene.clock.advance(540)
    scene.idp.pages[OPENID] = metadata(issuer="https://evil.example", jwks_uri="https://evil.example/keys")
    asked(scene)
    refresh(keys)
    assert asked(scene) == [OPENID]
    assert plain(keys, "a") is not None
    assert status(keys)["failures"] == 1


def test_the_timeout_is_for_discovery_and_keys_together() -> None:
    scene = Scene("a")

    scene.idp.pages[OPENID] = metadata()
    fetch = scene.idp.__call__

    async def slow(*args: Any, **kwargs: Any) -> Any:
        found = await fetch(*args, **kwargs)
        scene.clock.advance(2.0)
        return found

    slowed = Scene(clock=scene.clock, fetch=slow)
    keys = slowed.keys(issuer=ISSUER, timeout=3.0)
    assert ask(keys, "a") is not None
    assert [timeout for _, timeout, _ in scene.idp.told] == [3.0, 1.0]
    asked(scene)
    scene.idp.pages |= {OPENID: 404, OAUTH: 404}
    hasty = Scene(clock=scene.clock, fetch=slow).keys(issuer=ISSUER, timeout=2.0)
    with pytest.raises(StoreUnavailable, match=r"no key set within 2\.0 s"):
        ask(hasty, "a")
    assert asked(scene) == [OPENID]
