"""The container manager: starts, watches and stops one container a session, and processes the acks of its runner."""
