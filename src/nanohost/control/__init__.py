"""The control socket: operator commands answered by the running host."""
