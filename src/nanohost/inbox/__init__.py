"""Accepts events from channels: normalizes them and commits them before the platform is told."""
