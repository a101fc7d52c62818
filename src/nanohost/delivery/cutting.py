"""A message as its platform takes it: in the form that the channel declares, cut where it is too long. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from nanohost.channel_api import Capabilities
from nanohost.rendering import Form, Limits, split_message
from nanohost.store.deliveries import DeliveryPart

NO_LIMIT = 2**31


def split_for_channel(markdown: str, capabilities: Capabilities) -> Sequence[DeliveryPart]:
    """The messages that it takes, one at least. A megabyte takes a second: keep long texts off the event loop."""
    limits = Limits(
        max_length=capabilities.text_limit or NO_LIMIT,
        unit=capabilities.text_unit,
        is_counted_after_parsing=capabilities.counted_after_parsing,
        max_entities=capabilities.entities,
    )
    parts = split_message(markdown, capabilities.form, limits)
    return [
        DeliveryPart(number=number, of=len(parts), text=part.text, plain=part.plain)
        for number, part in enumerate(parts)
    ]


def is_passthrough(capabilities: Capabilities) -> bool:
    """Whether any text goes out as it was written, in one message."""
    return capabilities.form is Form.MARKDOWN and capabilities.text_limit is None
