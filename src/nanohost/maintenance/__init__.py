"""Keeps an install clean: retention, and reports of files that others can read or that nothing uses."""
