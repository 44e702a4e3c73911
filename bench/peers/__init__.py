"""The parts of the side-by-side benchmark `bench/gateways.py`: who is measured, how it starts, what is read off, what is told."""
