"""Forms that settings of several methods have in common: one text or many, claims, names of headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from gatekit.core.headers import encode_name
from gatekit.policies.authn.claims import Attribute, ClaimMap

Word = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=2048)]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Words = Annotated[tuple[Word, ...], BeforeValidator(_listed, json_schema_input_type=Word | tuple[Word, ...])]
"""One text, or several."""


def _are_paths(value: Mapping[Attribute, tuple[str, ...]]) -> Mapping[Attribute, tuple[str, ...]]:
    ClaimMap(value)
    return value


ClaimPaths = Annotated[Mapping[Attribute, Words], AfterValidator(_are_paths)]
"""Attribute of the identity → the paths at which claims may tell it."""

HeaderName = Annotated[str, AfterValidator(lambda name: encode_name(name).decode("ascii"))]
"""The name of a header, in lower case."""


def _is_token(value: str) -> str:
    encode_name(value)
    return value


SchemeName = Annotated[str, AfterValidator(_is_token)]
"""The name of an authentication scheme: a token, as that of a header is (RFC 9110 section 11.1)."""


__all__ = ["ClaimPaths", "HeaderName", "SchemeName", "Word", "Words"]
