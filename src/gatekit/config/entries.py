"""One entry of a document into one model: what pydantic has to say, and which part of the entry it says it of.

Messages never repeat a value: a document holds keys and passwords, and what is said here ends up in logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gatekit.core.policy import Spec
from gatekit.errors import GatekitError
from gatekit.policies import spec_class

M = TypeVar("M", bound=BaseModel)


class Fault:
    """One thing that is wrong with an entry: where in the entry (`""`, `.limit`, `[0].name`), and what."""

    __slots__ = ("message", "where")

    def __init__(self, where: str, message: str) -> None:
        self.where = where
        self.message = message


class Unreadable(Exception):
    """An entry that cannot be read. Caught by `documents`, never seen outside."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(*(fault.message for fault in self.faults))


def read_entry(model: type[M], value: object) -> M:
    """`value` as `model`. Raises Unreadable."""
    if not isinstance(value, Mapping):
        raise Unreadable([Fault("", "is a mapping of settings")])
    return _validated(model, value)


def read_policy(value: object) -> Spec:
    """A spec as it is, or from `telemetry`, `{rate_limit: 2/second}`, `{rate_limit: {limit: 2/second}}`. Raises
    Unreadable."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, str):
        return _policy(value, None, "")
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise Unreadable([Fault("", "is the name of a policy, or a mapping such as {rate_limit: 2/second}")])
    kind, settings = next(iter(value.items()))
    if len(value) > 1:
        hint = f"indent the settings of {kind} further" if settings is None else "give each policy an entry of its own"
        raise Unreadable([Fault("", f"a policy has one key, its name, and this has {len(value)}: {hint}")])
    return _policy(kind, settings, f".{kind}")


def _policy(kind: str, settings: object, where: str) -> Spec:
    try:
        found = spec_class(kind)
    except (GatekitError, ValueError) as error:
        raise Unreadable([Fault(where, str(error))]) from None
    keys = settings if isinstance(settings, Mapping) else {}
    if not all(isinstance(key, str) for key in keys):
        raise Unreadable([Fault(where, "the names of settings are text")])
    try:
        return found.shorthand(dict(settings) if isinstance(settings, Mapping) else settings)
    except ValidationError as error:
        given = settings if isinstance(settings, Mapping) or not found.positional else {found.positional[0]: settings}
        faults = faults_of(error, given, _written(found))
        if given is not settings:
            # The document has no key of that name: the one value stands for it.
            faults = [Fault(fault.where.removeprefix(f".{found.positional[0]}"), fault.message) for fault in faults]
        raise Unreadable(Fault(where + fault.where, fault.message) for fault in faults) from None
    except (GatekitError, ValueError) as error:
        raise Unreadable([Fault(where, str(error))]) from None
    except TypeError:
        raise Unreadable([Fault(where, "has a setting under a name that no setting can have")]) from None


def _validated(model: type[M], value: Mapping[Any, Any]) -> M:
    if not all(isinstance(key, str) for key in value):
        raise Unreadable([Fault("", "the names of settings are text")])
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        raise Unreadable(faults_of(error, value, _written(model))) from None


def _written(model: type[BaseModel]) -> list[str]:
    """The names of the fields as documents have them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def faults_of(error: ValidationError, value: object, fields: Iterable[str]) -> list[Fault]:
    """What pydantic found, each with its place in `value`. Several findings of one place (a union) are made one."""
    found: dict[str, list[str]] = {}
    for one in error.errors(include_url=False, include_input=False):
        where = _where(one["loc"], value, named=one["type"] in ("extra_forbidden", "missing"))
        message = _message(one["type"], one["msg"], one.get("ctx", {}), one["loc"], fields)
        messages = found.setdefault(where, [])
        if message not in messages:
            messages.append(message)
    return [Fault(where, "; or ".join(messages)) for where, messages in found.items()]


def _where(loc: tuple[int | str, ...], value: object, *, named: bool) -> str:
    """The part of `loc` that the entry itself has: pydantic adds the names of validators and of a union's members."""
    where = ""
    for place, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:
            where += f".{part}"
            value = value[part]
        elif isinstance(part, int) and isinstance(value, (list, tuple)) and part < len(value):
            where += f"[{part}]"
            value = value[part]
        elif named and place == len(loc) - 1:
            where += f".{part}"
    return where


def _message(
    kind: str, text: str, context: Mapping[str, Any], loc: tuple[int | str, ...], fields: Iterable[str]
) -> str:
    if kind == "extra_forbidden":
        return f"there is no such setting{near(str(loc[-1]), fields) if len(loc) == 1 else ''}"
    if kind == "missing":
        return "is required"
    if "error" in context:
        return str(context["error"])
    return text[:1].lower() + text[1:]


def near(name: str, known: Iterable[str]) -> str:
    """`: did you mean 'orders'?` where there is something like it, else what there is."""
    names = sorted(known)
    close = get_close_matches(name, names, n=2)
    if close:
        return f": did you mean {' or '.join(map(repr, close))}?"
    return (
        f": there is {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ": there is none at all"
    )


__all__ = ["Fault", "Unreadable", "faults_of", "near", "read_entry", "read_policy"]
