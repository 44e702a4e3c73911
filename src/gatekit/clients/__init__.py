"""What the gateway calls on its own behalf, and the guard in front of it. Implements ports of core."""
