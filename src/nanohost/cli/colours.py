"""Terminal colour codes."""

from __future__ import annotations

BOLD, GREEN, RED, DIM, RESET = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
