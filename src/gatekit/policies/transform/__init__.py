"""Changing what passes: headers both ways, redirects, rewrites, answers that are always the same."""

from gatekit.policies.transform.config import Redirect, RequestHeaders, Respond, ResponseHeaders, Rewrite
from gatekit.policies.transform.paths import Pattern, Prefix

__all__ = ["Pattern", "Prefix", "Redirect", "RequestHeaders", "Respond", "ResponseHeaders", "Rewrite"]
