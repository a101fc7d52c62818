"""Finds, loads and connects channel files. The channels themselves are the files in the checkout's channels/ folder."""
