"""`gatekit explain`: which route takes this request, why not the others, and would its policies let this caller pass?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from gatekit.cli import say
from gatekit.core.identity import ANONYMOUS, Identity
from gatekit.gateway.gateway import Gateway


def explain(
    path: str, method: str, url: str, headers: Sequence[str], client: str | None, caller: str | None = None
) -> int:
    """Ask the live matcher and the route's policies. Raises ConfigRefused, ValueError on a header without a colon and on
    a caller that is none."""
    pairs: list[tuple[str, str]] = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ValueError(f"a header is given as 'Name: value', not {header!r}")
        pairs.append((name.strip(), value.strip()))
    identity = ANONYMOUS if caller is None else identity_from(caller)
    explanation = Gateway.from_config(path).explain(method, url, headers=pairs, client=client, identity=identity)
    say(str(explanation))
    return 0 if explanation.winner is not None else 1


def identity_from(text: str) -> Identity:
    """The caller that a JSON object describes: `{"subject": "ann", "scopes": ["orders:read"]}`. Raises ValueError."""
    try:
        given: Any = json.loads(text)
    except ValueError:
        raise ValueError('a caller is given as a JSON object, such as \'{"subject": "ann"}\'') from None
    if not isinstance(given, dict) or not isinstance(given.get("subject"), str):
        raise ValueError("a caller is a JSON object with a subject")
    known = [one.name for one in fields(Identity)]
    strange = sorted(set(given) - set(known))
    if strange:
        raise ValueError(f"a caller has no {', '.join(strange)}: there is {', '.join(known)}")
    for name in ("scopes", "roles"):
        many = given.get(name, [])
        if not isinstance(many, list) or not all(isinstance(one, str) for one in many):
            raise ValueError(f"{name} are a list of texts")
        given[name] = frozenset(many)
    return Identity(**{"scheme": "bearer", **given})
