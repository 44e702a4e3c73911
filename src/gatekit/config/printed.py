"""Values of a configuration as text: the same text for the same content, on every run and in every process.

Two uses: `shown` is what people read, without secrets; `digest` is a hash of everything, secrets included, that tells
whether two configurations are the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretBytes, SecretStr

from gatekit.routing.pause import Pause, no_pause

_SECRET = re.compile(r"auth|cookie|token|secret|passw|session|api.?key|credential", re.IGNORECASE)

_Secret = Callable[[object], str]
_Writer = Callable[[Any, _Secret], str]


def names_secret(name: str) -> bool:
    """Whether a header, parameter or setting of that name holds what is not to be shown."""
    return _SECRET.search(name) is not None


def shown(value: object) -> str:
    """The value for a person: settings that are not the default, nothing that is a secret or has the name of one."""
    return _text(value, lambda _: "<secret>")


def settings(model: BaseModel) -> list[tuple[str, str]]:
    """The fields of a model that are not at their default, in order, each as text for a person."""
    return [(name, shown(value) if public else "<secret>") for name, value, public in _given(model)]


def digest(model: BaseModel, pause: Pause = no_pause) -> str:
    """A hash of the whole content, 16 hex digits. Secrets go in and cannot be read from it. `pause` is called between
    the entries of its lists."""
    hashed = hashlib.sha256()
    for piece in _pieces(model):
        hashed.update(piece.encode("utf-8", "surrogatepass"))
        pause()
    return hashed.hexdigest()[:16]


def _pieces(model: BaseModel) -> Iterator[str]:
    """The text of a model in pieces: its lists may have thousands of entries."""
    yield f"{type(model).__name__}("
    comma = ""
    for name, value, public in _given(model):
        yield f"{comma}{name}="
        comma = ", "
        if public and isinstance(value, (list, tuple)):
            yield "["
            for place, one in enumerate(value):
                yield f", {_text(one, _plain)}" if place else _text(one, _plain)
            yield "]"
        else:
            yield _text(value, _plain)
    yield ")"


def _text(value: object, secret: _Secret) -> str:
    kind: type = type(value)
    return _writer(kind)(value, secret)


@lru_cache(maxsize=1024)
def _writer(kind: type) -> _Writer:
    """How values of a class become text, found out once for each class."""
    found: _Writer = _unknown
    if issubclass(kind, (NoneType, bool, int, float, str, bytes)):
        found = _literal
    elif issubclass(kind, (SecretStr, SecretBytes)):
        found = _hidden
    elif issubclass(kind, BaseModel):
        found = _model
    elif issubclass(kind, Enum):
        found = _member
    elif issubclass(kind, Mapping):
        found = _mapping
    elif issubclass(kind, (list, tuple)):
        found = _list
    elif issubclass(kind, (set, frozenset)):
        found = _set
    elif is_dataclass(kind):
        found = _said if "__str__" in vars(kind) else _dataclass
    return found


def _literal(value: object, _: _Secret) -> str:
    return repr(value)


def _hidden(value: object, secret: _Secret) -> str:
    return secret(value)


def _model(value: BaseModel, secret: _Secret) -> str:
    return _object(value, _given(value), secret)


def _member(value: Enum, _: _Secret) -> str:
    return repr(value.value)


def _mapping(value: Mapping[Any, Any], secret: _Secret) -> str:
    pairs = [
        f"{_text(key, secret)}: {(secret(one) if names_secret(str(key)) else _text(one, secret))}"
        for key, one in value.items()
    ]
    return f"{{{', '.join(pairs)}}}"


def _list(value: Iterable[object], secret: _Secret) -> str:
    return f"[{', '.join([_text(one, secret) for one in value])}]"


def _set(value: Iterable[object], secret: _Secret) -> str:
    return f"{{{', '.join(sorted(_text(one, secret) for one in value))}}}"


def _said(value: object, _: _Secret) -> str:
    return str(value)


def _dataclass(value: Any, secret: _Secret) -> str:
    return _object(value, [(one.name, getattr(value, one.name), one.repr) for one in fields(value)], secret)


def _unknown(value: object, _: _Secret) -> str:
    """Where an object without a text of its own comes from: never its address, which differs from run to run."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}>"


def _object(value: object, parts: Iterable[tuple[str, Any, bool]], secret: _Secret) -> str:
    inner = [f"{name}={_text(one, secret) if public else secret(one)}" for name, one, public in parts]
    return f"{type(value).__name__}({', '.join(inner)})"


def _plain(secret: object) -> str:
    return repr(secret.get_secret_value()) if isinstance(secret, (SecretStr, SecretBytes)) else _text(secret, _plain)


class _Field(NamedTuple):
    """What is asked of a field for every value: its default, unless a value is required, and whether it may be shown."""

    name: str
    required: bool
    default: Any
    public: bool


@lru_cache(maxsize=1024)
def _fields(kind: type[BaseModel]) -> tuple[_Field, ...]:
    """The fields of a model class. To ask pydantic for a default is slow where a function makes it."""
    return tuple(
        _Field(name, one.is_required(), one.get_default(call_default_factory=True), one.repr)
        for name, one in kind.model_fields.items()
    )


def _given(model: BaseModel) -> list[tuple[str, Any, bool]]:
    """Each field that is not at its default, and whether it may be shown."""
    values = model.__dict__
    return [
        (name, values[name], public)
        for name, required, default, public in _fields(type(model))
        if required or values[name] != default
    ]


__all__ = ["digest", "names_secret", "settings", "shown"]
