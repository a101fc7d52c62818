"""Removes control characters from text of agents and unknown senders, before a terminal shows it."""

from __future__ import annotations

import re

CONTROL_CHARS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def replace_control_chars(text: str) -> str:
    """Without what a terminal obeys, or turns a line around by: agents and unknown senders may say what they like, and
    only say it."""
    return CONTROL_CHARS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
