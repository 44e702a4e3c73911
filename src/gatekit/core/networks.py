"""Networks as they are written in settings. Pure; raises ValueError with a sentence."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def network(text: str) -> IPv4Network | IPv6Network:
    """The network that `10.0.0.0/8`, `fd00::/8` or an address alone names. Raises ValueError."""
    try:
        found = ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network: write an address and a length without host bits, as in 10.0.0.0/8 or fd00::/8"
        ) from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r}: write the IPv4 network that is mapped into IPv6 here")
    return found


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _checked(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(network(text)) for text in value)


Networks = Annotated[
    tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]), AfterValidator(_checked)
]
"""Networks, one or several, each in its one spelling."""


__all__ = ["Networks", "network"]
