"""What must hold of the tree itself, quickly; the import contracts as a whole are import-linter's."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

import gatekit

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/gatekit"


def contract(name: str, key: str) -> list[str]:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    return contracts[f"importlinter:contract:{name}"][key].split()


def pure_files() -> list[Path]:
    found: list[Path] = []
    for module in contract("pure", "source_modules"):
        place = SOURCE / "/".join(module.split(".")[1:])
        found += [place.with_suffix(".py")] if place.with_suffix(".py").exists() else sorted(place.rglob("*.py"))
    return found


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_pure_floor_knows_no_loop_clock_chance_or_wire(file: Path) -> None:
    typing_only = {"ssl"} if file.name == "plan.py" else set()
    assert not imported(file) & set(contract("pure", "forbidden_modules")) - typing_only


def test_the_contracts_leave_nobody_out() -> None:
    """Lists in contracts that somebody who adds a folder may forget."""
    below = {f"gatekit.{place.stem}" for place in SOURCE.iterdir() if place.is_dir() or place.suffix == ".py"}
    below -= {"gatekit.__init__", "gatekit.__pycache__", "gatekit.testing"}
    assert set(contract("testing", "source_modules")) == below
    folders = {f"gatekit.policies.{place.name}" for place in (SOURCE / "policies").iterdir() if place.is_dir()}
    assert set(contract("policies", "modules")) == folders - {"gatekit.policies.__pycache__"}


def test_coverage_is_gated_for_all_pure_floors() -> None:
    pure = re.search(r"^PURE = (\(.+?\))$", (ROOT / "noxfile.py").read_text(), re.MULTILINE | re.DOTALL)
    assert pure is not None
    gated = {f"gatekit.{place.removesuffix('.py').strip('/').replace('/', '.')}" for place in ast.literal_eval(pure[1])}
    assert gated == set(contract("pure", "source_modules"))


def test_no_file_is_longer_than_can_be_held() -> None:
    long = {str(f.relative_to(ROOT)): n for f in SOURCE.rglob("*.py") if (n := len(f.read_text().splitlines())) > 400}
    assert long == {}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        # An unpacked sdist has no list of its files. CI works on a clone: there it is no excuse.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\n") if name]


def test_no_page_tells_anyone_to_install_another_project() -> None:
    """The name `gatekit` on the public index belongs to somebody else."""
    wrong = re.compile(r"pip install ['\"]?gatekit(?!-asgi)\b")
    here = Path(__file__)
    assert [
        str(f) for f in tracked() if f != here and f.is_file() and wrong.search(f.read_text(errors="replace"))
    ] == []


def test_no_file_names_a_place_outside_of_the_tree() -> None:
    """What stands elsewhere on one machine is nowhere on another."""
    elsewhere = ("/" + "work/", ".." + "/shared")
    found = [
        f"{f.relative_to(ROOT)}: {place}"
        for f in tracked()
        if f.is_file()
        for place in elsewhere
        if place in f.read_text(errors="replace")
    ]
    assert found == []


def test_the_version_is_the_newest_entry_of_the_changelog() -> None:
    newest = re.search(r"^## \[?(\d[^\] ]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == gatekit.__version__
