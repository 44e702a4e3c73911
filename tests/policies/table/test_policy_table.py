"""The table of policies: what ships resolves, what is installed is found, what is wrong says so."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from gatekit import policies
from gatekit.core.policy import Spec
from gatekit.policies import POLICIES, BrokenPolicy, UnknownPolicy, kinds, spec_class


class Acme(Spec):
    kind: ClassVar[str] = "acme"


class Misnamed(Spec):
    kind: ClassVar[str] = "other"


class Dist:
    def __init__(self, name: str) -> None:
        self.name = name


class Entry:
    """As much of `importlib.metadata.EntryPoint` as is asked for."""

    def __init__(self, name: str, loads: object, dist: str | None = "acme-gateway") -> None:
        self.name = name
        self.value = f"acme.gateway:{name.title()}"
        self.dist = None if dist is None else Dist(dist)
        self.loads = loads

    def load(self) -> object:
        if isinstance(self.loads, Exception):
            raise self.loads
        return self.loads


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    def installed(*entries: Entry) -> None:
        def entry_points(*, group: str) -> tuple[Entry, ...]:
            assert group == "gatekit.policies"
            return entries

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        policies._installed.cache_clear()

    yield installed
    policies._installed.cache_clear()


@pytest.mark.parametrize("kind", sorted(POLICIES))
def test_what_ships_is_a_spec_of_its_kind_with_a_status(kind: str) -> None:
    found = spec_class(kind)
    assert issubclass(found, Spec)
    assert found.kind == kind
    assert found.__name__ == POLICIES[kind].partition(":")[2]
    assert vars(found)["status"] in ("stable", "preview")
    assert found.__doc__


def test_the_page_lists_what_ships() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policies" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `gatekit\.(\w+)` \| \w+ \| (\w+) \|", page, re.MULTILINE)
    assert rows == [(kind, spec_class(kind).__name__, vars(spec_class(kind))["status"]) for kind in sorted(POLICIES)]


def test_kinds_are_sorted_and_have_what_is_installed(install: Install) -> None:
    install(Entry("acme", Acme))
    assert kinds() == tuple(sorted([*POLICIES, "acme"]))
    assert spec_class("acme") is Acme


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        POLICIES["mine"] = "x:Y"  # type: ignore[index]


def test_an_unknown_kind_names_those_that_are_near(install: Install) -> None:
    install()
    with pytest.raises(KeyError) as caught:
        spec_class("rate_limits")
    assert isinstance(caught.value, UnknownPolicy)
    assert str(caught.value) == "there is no policy 'rate_limits': did you mean 'rate_limit'?"
    with pytest.raises(UnknownPolicy, match=r"there is no policy 'zzz': gatekit\.policies has none such"):
        spec_class("zzz")


def test_a_shipped_kind_cannot_be_taken_by_another_distribution(install: Install) -> None:
    install(Entry("authn", Acme, dist="evil-authn"))
    with pytest.raises(ValueError, match="the distribution 'evil-authn' offers a policy 'authn'"):
        kinds()
    assert spec_class("authn").__module__.startswith("gatekit.policies.authn")


def test_two_distributions_with_one_kind_are_refused(install: Install) -> None:
    install(Entry("acme", Acme, dist="one"), Entry("acme", Acme, dist=None))
    with pytest.raises(ValueError, match="'one' and a distribution without a name both offer a policy 'acme'"):
        spec_class("acme")


@pytest.mark.parametrize(
    ("loads", "message"),
    [
        pytest.param(ImportError("no acme"), r"could not be loaded: ImportError\('no acme'\)", id="does not import"),
        pytest.param(object, "not a subclass of gatekit.Spec", id="no spec"),
        pytest.param("text", "not a subclass of gatekit.Spec", id="no class"),
        pytest.param(Misnamed, "says its kind is 'other', but is offered as 'acme'", id="another kind"),
    ],
)
def test_a_broken_entry_point_says_what_is_wrong(install: Install, loads: object, message: str) -> None:
    install(Entry("acme", loads))
    with pytest.raises(BrokenPolicy, match=message) as caught:
        spec_class("acme")
    assert "acme-gateway" in str(caught.value)
