"""Who said what: from the place of an entry in the whole configuration to the document and line that has it.

Several documents make one configuration; its third route may be the first of the second document. Findings speak of
the whole, `Places` turns them into what an operator can open in an editor.
"""

from __future__ import annotations

from typing import Literal

from gatekit.core.plan import Document
from gatekit.errors import Problem


class Places:
    """Entries of the whole (`routes[3]`, `clusters.orders`, `max_headers`) and where each was written."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Document, str]] = {}

    def note(self, entry: str, document: Document, path: str) -> None:
        """`entry` of the whole is what `document` has at `path`. Of several documents the first is kept."""
        self._entries.setdefault(entry, (document, path))

    def where(self, entry: str) -> str:
        """In words, for a message: `routes[2] in gw.yaml:15`."""
        document, path = self._entries.get(entry, (None, entry))
        if document is None or not document.origin:
            return path
        line = document.lines.get(path)
        return f"{path} in {document.origin}" + ("" if line is None else f":{line}")

    def parts(self) -> list[object]:
        """What it is made of, piece by piece, for `let_go`."""
        documents = {id(document): document for document, _ in self._entries.values()}
        return [*(path for one in documents.values() for path in one.lines), *self._entries.values()]

    def locate(self, problem: Problem) -> Problem:
        """The same finding with document, line, and path within that document, as far as they are known."""
        entry = problem.path
        while entry not in self._entries:
            entry = shorter(entry)
            if not entry:
                return problem
        document, local = self._entries[entry]
        return found_in(document, local + problem.path[len(entry) :], problem.message, problem.severity)


def found_in(document: Document, path: str, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
    """A finding in `document`, with the line of the nearest place around `path` that has one."""
    place = path
    while place and place not in document.lines:
        place = shorter(place)
    line = document.lines.get(place)
    return Problem(path, message, source=document.origin or None, line=line, severity=severity)


def shorter(path: str) -> str:
    """The path of what holds that which is at `path`; "" for the document itself."""
    return path[: max(path.rfind("."), path.rfind("["), 0)]


__all__ = ["Places", "found_in", "shorter"]
