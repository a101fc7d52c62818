"""Formats and parses delivery numbers for people. Pure.

Messages of the host and of tasks have numbers of twenty digits (see containers/notices.py and
scheduler/task_messages.py): here a letter stands for their range, followed by a few digits. Numbers of agents' messages
are short already. Programs get the full number, and both forms are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from nanohost.commands.resource import Number
from nanohost.commands.tables import Json
from nanohost.db.notice_numbers import DELIVERY_NOTICES_START, EVENT_NOTICES_START, MESSAGE_NOTICES_START
from nanohost.scheduler.task_messages import MIN_SEQ

_RANGE_STARTS = {"d": DELIVERY_NOTICES_START, "e": EVENT_NOTICES_START, "n": MESSAGE_NOTICES_START, "t": MIN_SEQ}
"""The first number of each range, the highest first."""
_SHORT_PATTERN = re.compile(r"([dent])([0-9]{1,19})")


def short_number(seq: int) -> str:
    """Returns the short form that is shown and typed: `7`, or `n448`."""
    if seq >= 0:
        return str(seq)
    letter, begin = next((letter, begin) for letter, begin in _RANGE_STARTS.items() if seq >= begin)
    return f"{letter}{seq - begin}"


def _parse_number(text: object) -> object:
    """Returns the full number of a short one; anything else unchanged, for the validator."""
    found = _SHORT_PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    return text if found is None else _RANGE_STARTS[found[1]] + int(found[2])


DeliveryNumber = Annotated[Number, BeforeValidator(_parse_number)]
"""The type of an argument."""


def with_short_number(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """Returns the row for people, with the short form of its delivery number `seq`."""
    return {
        name: short_number(value) if name == "seq" and isinstance(value, int) else value for name, value in row.items()
    }
