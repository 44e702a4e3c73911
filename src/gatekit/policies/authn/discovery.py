"""Where an issuer keeps its keys, by its own metadata: OpenID Connect Discovery 1.0 and RFC 8414.

The metadata is believed in one thing only, the URL of the key set, and only where it names the very issuer that was
configured: whoever could put another document there would else hand out keys for every issuer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gatekit.core.ports import Fetched
from gatekit.errors import StoreUnavailable
from gatekit.policies.authn.jose import JsonRefused, read_json

MAX_URL: Final = 2_048
"""Characters in a URL of an issuer or of a key set."""

_URL: Final = re.compile(r"(https?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?")
_ABSENT: Final = frozenset({200, 400, 401, 403, 404, 405, 406, 410})
"""What is answered where no metadata is; with 200 it is a page that some sites show everywhere."""


class DiscoveryFailed(ValueError):
    """What an issuer's metadata says cannot be taken. The text is for operators and repeats nothing of it."""


def checked_url(url: str, *, http: bool, what: str) -> str:
    """That URL, if it is one a key set may have. Raises ValueError, with what to do, in words that name no query.

    `http` is whether anything but https may be.
    """
    parts = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if parts is None or "#" in url or "\\" in url:
        raise ValueError(
            f"{what} is an absolute https URL of at most {MAX_URL} characters, without user information and fragment"
        )
    if parts[1] != "https" and not http:
        raise ValueError(
            f"{what} is https: keys that come over http are whoever's on the way wants them to be. For an issuer in a "
            "private network name its networks"
        )
    return url


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where the metadata of an issuer is: as OpenID Connect Discovery 1.0 (section 4) puts it, then as RFC 8414
    (section 3.1) does."""
    whole = issuer.rstrip("/")
    start = whole.find("/", whole.index("://") + 3)
    origin, path = (whole, "") if start < 0 else (whole[:start], whole[start:])
    return f"{whole}/.well-known/openid-configuration", f"{origin}/.well-known/oauth-authorization-server{path}"


async def discover(issuer: str, fetch: Callable[[str], Awaitable[Fetched]], *, http: bool) -> str:
    """The URL of the issuer's key set. Raises StoreUnavailable where there is no metadata, DiscoveryFailed where it is
    not to be taken, and whatever `fetch` raises.

    Only where nothing is at the first place, or no JSON object, is the second one looked at. `http` is whether the
    operator lets keys come over http; where the metadata came over https its keys must all the same.
    """
    for url in metadata_urls(issuer):
        answer = await fetch(url)
        metadata = _object(answer.body) if answer.status == 200 else None
        if metadata is not None:
            return _jwks_uri(metadata, issuer, http and issuer.startswith("http://"))
        if answer.status not in _ABSENT:
            break
    what = "is no JSON object" if answer.status == 200 else f"was answered with status {answer.status}"
    raise StoreUnavailable(f"the metadata of the issuer {what}")


def _jwks_uri(metadata: dict[str, Any], issuer: str, http: bool) -> str:
    if metadata.get("issuer") != issuer:
        raise DiscoveryFailed("the metadata names another issuer than the one that is configured, to the letter")
    uri = metadata.get("jwks_uri")
    if not isinstance(uri, str):
        raise DiscoveryFailed("the metadata of the issuer has no jwks_uri")
    try:
        return checked_url(uri, http=http, what="the jwks_uri of the issuer")
    except ValueError as error:
        raise DiscoveryFailed(str(error)) from None


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = read_json(body)
    except JsonRefused:
        return None
    return found if isinstance(found, dict) else None
