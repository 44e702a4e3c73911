"""The gateway: the configuration in force, the runtime it lives in, reload and drain."""
