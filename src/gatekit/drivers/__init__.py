"""Drivers: turn a server's interface into an exchange, run the compiled steps, perform the verdict."""
