"""Values of a message that may be anything: what is not of the type that is looked for counts as not there. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from nanohost.wa_bridge import names

Json = Mapping[str, object]


def mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def number(value: object) -> int:
    """64-bit numbers are text in protobuf's JSON."""
    try:
        return int(value) if isinstance(value, (int, str)) else 0
    except ValueError:
        return 0


def decimal(value: object) -> str:
    """A coordinate; six places are ten centimetres."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.6f}".rstrip("0").rstrip(".") if is_number else "?"


def bare(jid: object) -> str:
    return names.bare(text(jid))


def id_in(key: object) -> str | None:
    return text(mapping(key).get("ID")) or None


def lines(*words: object) -> str:
    return "\n".join(dict.fromkeys(text(one) for one in words if text(one)))


def price(thousandths: object, currency: object) -> str:
    amount = number(thousandths)
    return f"{amount / 1000:.2f} {text(currency)}".strip() if amount else ""


def moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def form(document: str) -> Json:
    try:
        return mapping(json.loads(document))
    except (ValueError, RecursionError):
        return {}


def plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
