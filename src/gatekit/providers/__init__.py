"""Providers: where configuration documents come from. Reading lives here, so that `gatekit.config` does no I/O."""
