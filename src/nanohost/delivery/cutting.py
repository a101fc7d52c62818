"""A message as its platform takes it: in the form that the channel declares, cut where it is too long. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nanohost.channel_api import Capabilities
from nanohost.rendering import Form, Limits, split
from nanohost.store.deliveries import StoredPart

NO_LIMIT = 2**31


def cut(markdown: str, capabilities: Capabilities) -> Sequence[StoredPart]:
    """The messages that it takes, one at least. A megabyte takes a second: keep long texts off the event loop."""
    limits = Limits(
        text=capabilities.text_limit or NO_LIMIT,
        unit=capabilities.text_unit,
        counted_after_parsing=capabilities.counted_after_parsing,
        entities=capabilities.entities,
    )
    parts = split(markdown, capabilities.form, limits)
    return [
        StoredPart(number=number, of=len(parts), text=part.text, plain=part.plain) for number, part in enumerate(parts)
    ]


def passes_unchanged(capabilities: Capabilities) -> bool:
    """Whether any text goes out as it was written, in one message."""
    return capabilities.form is Form.MARKDOWN and capabilities.text_limit is None
