"""Unit files of systemd as far as these need it: sections, repeated settings, lines that go on, commands.

Source: systemd.syntax(7), systemd.service(5) "COMMAND LINES".
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path


class Unit:
    """One unit file. Every setting has all its values in order; an empty one takes those before it away."""

    def __init__(self, path: Path) -> None:
        self._values: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and line[0] not in "#;":
                name, _, value = line.partition("=")
                self._values.setdefault((section, name), []).append(" ".join(value.split()))

    def all(self, section: str, name: str) -> Sequence[str]:
        return self._values.get((section, name), [])

    def one(self, section: str, name: str) -> str:
        (value,) = self.all(section, name)
        return value

    def commands(self, name: str, words: Mapping[str, Sequence[str]]) -> list[list[str]]:
        """The commands of that setting, in order. A word that is in `words` is replaced by those that stand there."""
        return [
            [new for word in shlex.split(line) for new in words.get(word, [word])] for line in self.all("Service", name)
        ]
