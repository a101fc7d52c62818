"""Reads values of a message that may be of any type: one of another type counts as missing. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from nanohost_whatsapp_bridge import jids

Json = Mapping[str, object]


def as_mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def as_int(value: object) -> int:
    """64-bit numbers are text in protobuf's JSON."""
    try:
        return int(value) if isinstance(value, (int, str)) else 0
    except ValueError:
        return 0


def format_degrees(value: object) -> str:
    """A coordinate; six places are ten centimetres."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.6f}".rstrip("0").rstrip(".") if is_number else "?"


def without_device(jid: object) -> str:
    return jids.without_device(as_text(jid))


def message_id_in(key: object) -> str | None:
    return as_text(as_mapping(key).get("ID")) or None


def join_lines(*words: object) -> str:
    return "\n".join(dict.fromkeys(as_text(one) for one in words if as_text(one)))


def format_price(thousandths: object, currency: object) -> str:
    amount = as_int(thousandths)
    return f"{amount / 1000:.2f} {as_text(currency)}".strip() if amount else ""


def format_time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def parse_object(document: str) -> Json:
    try:
        return as_mapping(json.loads(document))
    except (ValueError, RecursionError):
        return {}


def as_plain_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
