"""Parts of `bench/overload.py`."""
