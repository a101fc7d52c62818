"""Removes control characters from text of agents and unknown senders, before a terminal shows it."""

from __future__ import annotations

import re

CONTROL_CHARS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def replace_control_chars(text: str) -> str:
    """Replaces control characters, and characters that change the writing direction, so that text of agents and unknown
    senders cannot control the terminal."""
    return CONTROL_CHARS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
