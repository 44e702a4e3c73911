"""The parts of `bench/reload.py`: the gateway that is swapped, its upstream, the load."""
