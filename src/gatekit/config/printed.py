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
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

_SECRET = re.compile(r"auth|cookie|token|secret|passw|session|api.?key|credential", re.IGNORECASE)


def names_secret(name: str) -> bool:
    """Whether a header, parameter or setting of that name holds what is not to be shown."""
    return _SECRET.search(name) is not None


def shown(value: object) -> str:
    """The value for a person: settings that are not the default, nothing that is a secret or has the name of one."""
    return _text(value, lambda _: "<secret>")


def settings(model: BaseModel) -> list[tuple[str, str]]:
    """The fields of a model that are not at their default, in order, each as text for a person."""
    return [(name, shown(value) if public else "<secret>") for name, value, public in _given(model)]


def digest(value: object) -> str:
    """A hash of the whole content, 16 hex digits. Secrets go in and cannot be read from it."""
    return hashlib.sha256(_text(value, _plain).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(secret: object) -> str:
    return repr(secret.get_secret_value()) if isinstance(secret, (SecretStr, SecretBytes)) else _text(secret, _plain)


def _text(value: object, secret: Callable[[object], str]) -> str:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)
    if isinstance(value, (SecretStr, SecretBytes)):
        return secret(value)
    if isinstance(value, BaseModel):
        return _object(value, ((name, one, public) for name, one, public in _given(value)), secret)
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, Mapping):
        pairs = (
            f"{_text(key, secret)}: {(secret(one) if names_secret(str(key)) else _text(one, secret))}"
            for key, one in value.items()
        )
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(one, secret) for one in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_text(one, secret) for one in value))}}}"
    if is_dataclass(value) and not isinstance(value, type):
        if "__str__" in vars(type(value)):
            return str(value)
        return _object(value, ((one.name, getattr(value, one.name), one.repr) for one in fields(value)), secret)
    return f"<{_origin(value)}>"


def _object(value: object, parts: Iterable[tuple[str, Any, bool]], secret: Callable[[object], str]) -> str:
    inner = (f"{name}={_text(one, secret) if public else secret(one)}" for name, one, public in parts)
    return f"{type(value).__name__}({', '.join(inner)})"


def _given(model: BaseModel) -> Iterator[tuple[str, Any, bool]]:
    """Each field that is not at its default, and whether it may be shown."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if field.is_required() or value != field.get_default(call_default_factory=True):
            yield name, value, field.repr


def _origin(value: object) -> str:
    """Where an object without a text of its own comes from: never its address, which differs from run to run."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"


__all__ = ["digest", "names_secret", "settings", "shown"]
