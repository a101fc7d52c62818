"""Operator commands: what they do and what they return. The command line and the control socket both call them."""
