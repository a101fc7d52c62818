"""The invariants of the data directory, checked by `nanohost verify`."""
