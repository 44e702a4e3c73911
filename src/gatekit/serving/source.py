"""The configuration as the supervisor handles it: read once, examined, and handed to every worker alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatekit import providers
from gatekit.config.documents import config_from
from gatekit.config.places import Places
from gatekit.core.plan import Document
from gatekit.errors import ConfigRefused, Problem


class Source:
    """One configuration document that was found good: what workers get, and where each entry of it was written."""

    def __init__(self, document: Document) -> None:
        """Raises ConfigRefused with every finding that can be made without starting anything."""
        self.origin = document.origin
        self.revision = document.revision
        config = config_from(document)
        self._places: Places = config.places
        self.warnings = tuple(str(warning) for warning in config.warnings or ())
        self.fields: Mapping[str, Any] = {
            "origin": document.origin, "data": document.data, "revision": document.revision,
        }  # fmt: skip

    def located(self, problems: Sequence[Mapping[str, Any]]) -> list[Problem]:
        """What a worker found, with the line that it is about."""
        return [self._places.locate(Problem(one["path"], one["message"], severity=one["severity"])) for one in problems]


def read_source(target: str) -> Source:
    """Read and examine. It may take a while: call it in a thread. Raises ConfigRefused."""
    document = providers.read(target)
    try:
        return Source(document)
    except TypeError as error:
        raise ConfigRefused([Problem("", f"cannot be handed to workers: {error}", source=document.origin)]) from None
