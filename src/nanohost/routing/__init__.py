"""Gives each accepted event to the first handler that takes it: one ordered list of handlers, one file each."""
