"""Providers: where configuration documents come from. Reading lives here, so that `gatekit.config` does no I/O.

A source is a path, or `NAME://…` where NAME is a provider: one that ships, one line in `PROVIDERS`, or one of an
installed distribution by an entry point of the group `gatekit.providers`. A provider is a function from the whole
source to a `Document`; it raises ConfigRefused with what is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType

from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused, Problem

PROVIDERS: Mapping[str, str] = MappingProxyType({"file": "gatekit.providers.file:read_url"})
"""What ships: name → `module:function`."""

GROUP = "gatekit.providers"

Provider = Callable[[str], Document]

_NAMED = re.compile(r"([a-z][a-z0-9+.-]*)://")


def read(source: str | os.PathLike[str]) -> Document:
    """The document that `source` names. Raises ConfigRefused, also for a provider that there is not."""
    named = _NAMED.match(source) if isinstance(source, str) else None
    if named is None:
        from gatekit.providers.file import read_document

        return read_document(source)
    return provider(named[1])(str(source))


def provider(name: str) -> Provider:
    """The provider of that name. Raises ConfigRefused when there is none, or when it cannot be loaded."""
    home = PROVIDERS.get(name)
    if home is not None:
        module, _, function = home.partition(":")
        found: Provider = getattr(import_module(module), function)
        return found
    from importlib.metadata import entry_points

    offers = tuple(entry_points(group=GROUP, name=name))
    if len(offers) != 1:
        said = "there is no provider" if not offers else "more than one installed distribution offers a provider"
        raise ConfigRefused([Problem("", f"{said} {name!r}; {', '.join(PROVIDERS)} ships", source=f"{name}://")])
    try:
        loaded: Provider = offers[0].load()
    except Exception as error:
        raise ConfigRefused([Problem("", f"the provider {offers[0].value} cannot be loaded: {error!r}")]) from error
    return loaded


__all__ = ["GROUP", "PROVIDERS", "Provider", "provider", "read"]
