"""What a value must be: the tests of claims, headers and path parameters, as they are written and as they run.

The words are those of a route's matchers: plain text, `prefix`, `regex`, `present`, `absent`; beside them `one_of` and
`param`, and for claims `contains` and comparisons of numbers. Kinds are kept apart as JSON keeps them: `true` is not 1,
and 1 is not "1". A value of a kind that a test cannot be asked about (a comparison of text with a number) counts as a
value that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from gatekit.core.claims import Path
from gatekit.core.exchange import Exchange
from gatekit.routing.regex import compile_regex

Check = Callable[[Any, Exchange], bool | None]
"""Whether a value passes; None where it is of a kind that cannot be asked."""

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr

_FROZEN = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def one_or_many(value: Any) -> Any:
    """A list of one from anything that is no list. None stays what it is."""
    if value is None:
        return None
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)


class Param(BaseModel):
    """The value of a path parameter of the request: `{param: tenant}`."""

    model_config = _FROZEN

    param: str = Field(min_length=1)
    """Its name, as in the path of the route."""


class _Test(BaseModel):
    """What text and claims are tested for alike. Several settings must all hold."""

    model_config = _FROZEN

    prefix: StrictStr | None = Field(default=None, min_length=1)
    """It begins with this."""
    regex: StrictStr | None = None
    """This regular expression (RE2) matches all of it."""
    param: StrictStr | None = Field(default=None, min_length=1)
    """It is the value of the path parameter of this name."""
    present: Literal[True] | None = None
    """It is there, whatever it is."""
    absent: Literal[True] | None = None
    """It is not there."""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            compile_regex(value)
        return value

    @model_validator(mode="after")
    def _says_something(self) -> _Test:
        said = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if not said:
            raise ValueError("say what the value must be: text, or {one_of: ...}, {regex: ...}, {present: true}")
        if (self.present or self.absent) and len(said) > 1:
            raise ValueError("present and absent stand alone: every other test is about a value that is there")
        return self

    def checks(self) -> list[Check]:
        """The tests to run on a value that is there; all must pass."""
        found: list[Check] = []
        if self.prefix is not None:
            found.append(_begins(self.prefix))
        if self.regex is not None:
            found.append(_matches(self.regex))
        if self.param is not None:
            found.append(_param(self.param))
        return found

    def params(self) -> tuple[str, ...]:
        """The path parameters that it compares with."""
        return () if self.param is None else (self.param,)

    def words(self, subject: str) -> str:
        """What it says, without a value."""
        if self.present or self.absent:
            return f"{subject} is {'present' if self.present else 'absent'}"
        return f"{subject} is what it has to be"


class TextTest(_Test):
    """What a header or a path parameter must be. Several settings must all hold."""

    exact: StrictStr | None = None
    """Exactly this. Plain text in its place means the same."""
    one_of: Annotated[tuple[StrictStr, ...], Field(min_length=1)] | None = None
    """One of these."""

    if TYPE_CHECKING:
        # Type checkers take a tuple for a tuple, where validation takes any sequence.
        def __init__(
            self,
            *,
            exact: str | None = None,
            one_of: Sequence[str] | None = None,
            prefix: str | None = None,
            regex: str | None = None,
            param: str | None = None,
            present: Literal[True] | None = None,
            absent: Literal[True] | None = None,
        ) -> None: ...

    def checks(self) -> list[Check]:
        return [*_exactly(self.exact, self.one_of), *super().checks()]


class ClaimTest(_Test):
    """What a claim must be. Several settings must all hold."""

    exact: Scalar | None = None
    """Exactly this text, number, true or false. Given plainly it means the same."""
    one_of: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    """One of these."""
    contains: Scalar | Param | None = None
    """It is a list and this is in it: a value, or `{param: name}` for that of a path parameter."""
    above: StrictInt | StrictFloat | None = None
    """A number greater than this."""
    at_least: StrictInt | StrictFloat | None = None
    """A number not less than this."""
    below: StrictInt | StrictFloat | None = None
    """A number less than this."""
    at_most: StrictInt | StrictFloat | None = None
    """A number not greater than this."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            exact: Scalar | None = None,
            one_of: Sequence[Scalar] | None = None,
            contains: Scalar | Param | Mapping[str, str] | None = None,
            above: float | None = None,
            at_least: float | None = None,
            below: float | None = None,
            at_most: float | None = None,
            prefix: str | None = None,
            regex: str | None = None,
            param: str | None = None,
            present: Literal[True] | None = None,
            absent: Literal[True] | None = None,
        ) -> None: ...

    def checks(self) -> list[Check]:
        found = [*_exactly(self.exact, self.one_of), *super().checks()]
        if self.contains is not None:
            found.append(_contains(self.contains))
        for bound, compare in ((self.above, gt), (self.at_least, ge), (self.below, lt), (self.at_most, le)):
            if bound is not None:
                found.append(_compares(bound, compare))
        return found

    def params(self) -> tuple[str, ...]:
        named = super().params()
        return (*named, self.contains.param) if isinstance(self.contains, Param) else named


def as_test(value: Any) -> Any:
    """A test from what may stand in its place: a plain value, which is meant exactly."""
    if value is None:
        return {}
    if isinstance(value, (Mapping, BaseModel)):
        return value
    if isinstance(value, (list, tuple)):
        raise ValueError("for one of several values write {one_of: [...]}, for an element of a list {contains: ...}")
    return {"exact": value}


def same(value: Any, wanted: Any) -> bool:
    """Equality as in JSON, where true is not 1."""
    return bool(value == wanted) and (value is True or value is False) is (wanted is True or wanted is False)


def passes(checks: Iterable[Check], value: Any, exchange: Exchange, missing: bool) -> bool:
    """Whether the value passes them all. A test that cannot be asked answers `missing`."""
    for check in checks:
        found = check(value, exchange)
        if not (missing if found is None else found):
            return False
    return True


def no_param(names: Iterable[str], exchange: Exchange) -> str | None:
    """Which of these path parameters the request has not, in words."""
    return next((f"the path has no parameter {name}" for name in names if name not in exchange.params), None)


def _exactly(wanted: Any, one_of: Sequence[Any] | None) -> list[Check]:
    found: list[Check] = []
    if wanted is not None:
        found.append(lambda value, _: same(value, wanted))
    if one_of is not None:
        found.append(lambda value, _: any(same(value, one) for one in one_of))
    return found


def _begins(prefix: str) -> Check:
    return lambda value, _: value.startswith(prefix) if isinstance(value, str) else None


def _matches(pattern: str) -> Check:
    fullmatch = compile_regex(pattern).fullmatch

    def matches(value: Any, _: Exchange) -> bool | None:
        if not isinstance(value, str):
            return None
        try:
            return fullmatch(value) is not None
        except UnicodeEncodeError:
            # JSON can say half a character, UTF-8 cannot.
            return None

    return matches


def _param(name: str) -> Check:
    def equals(value: Any, exchange: Exchange) -> bool | None:
        wanted = exchange.params.get(name)
        return None if wanted is None else spelled(value, wanted)

    return equals


def spelled(value: Any, text: str) -> bool:
    """Whether a value is what a path has as text: the same text, or a whole number in its usual spelling."""
    return bool(value == text) if isinstance(value, str) else type(value) is int and str(value) == text


def _contains(wanted: Scalar | Param) -> Check:
    def contains(value: Any, exchange: Exchange) -> bool | None:
        if not isinstance(value, (list, tuple, set, frozenset)):
            return None
        if not isinstance(wanted, Param):
            return any(same(one, wanted) for one in value)
        text = exchange.params.get(wanted.param)
        return None if text is None else any(spelled(one, text) for one in value)

    return contains


def _compares(bound: float, compare: Callable[[float, float], bool]) -> Check:
    def compares(value: Any, _: Exchange) -> bool | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return compare(value, bound)

    return compares


MISSING: Final = object()
"""The value of a claim that is not there."""


def claim_at(claims: Mapping[str, Any], path: Path) -> Any:
    """The claim, or MISSING. Only objects are gone into, never lists. A claim that is null is not there."""
    value: Any = claims
    for name in path:
        if type(value) is not dict and not isinstance(value, Mapping):
            return MISSING
        value = value.get(name, MISSING)
    return MISSING if value is None else value


def pattern(text: str, parts: str, ignores_case: bool) -> str:
    """The regex of a name in which `*` stands for what has none of `parts` in it, and `**` for anything."""
    found = ""
    for piece in re.split(r"(\*\*?)", text):
        found += f"[^{parts}]+" if piece == "*" else ".+" if piece == "**" else re.escape(piece)
    return f"(?i:{found})" if ignores_case else found


def any_matches(patterns: Iterable[str]) -> Callable[[Iterable[str]], bool]:
    """Whether one of several names matches one of the patterns."""
    fullmatch = compile_regex("|".join(f"(?:{one})" for one in patterns)).fullmatch

    return lambda names: any(fullmatch(name) is not None for name in names)
