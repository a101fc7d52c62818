"""nanohost: a host for personal AI assistants. Start reading at app.py, the composition root."""

__version__ = "0.1.0"
