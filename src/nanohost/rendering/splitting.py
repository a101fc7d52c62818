"""A text as the messages that a platform takes: read, hushed, cut, written."""

from __future__ import annotations

from nanohost.rendering.cutting import split_blocks
from nanohost.rendering.dialects import DIALECTS, PLAIN
from nanohost.rendering.form import Form, Limits, MessagePart, text_length
from nanohost.rendering.gauge import Measure
from nanohost.rendering.hushing import escape_mentions
from nanohost.rendering.parsing import parse


def split_message(markdown: str, form: Form, limits: Limits) -> tuple[MessagePart, ...]:
    """The messages in order: at least one for a text that is not blank, each within the limit.

    The same text always gives the same parts. MARKDOWN that fits is left as it was written. Links are made of http,
    https, mailto and tg addresses; others are shown as text. A text above 200,000 characters is not read as Markdown.
    """
    text = markdown.encode("utf-8", "replace").decode("utf-8")
    if form is Form.MARKDOWN and text.strip() and text_length(text, limits.unit) <= limits.max_length:
        return (MessagePart(text=text, plain=text),)
    dialect = DIALECTS[form]
    cuts = split_blocks(escape_mentions(parse(text), form), Measure(dialect, limits))
    parts = (MessagePart(text=dialect.render_part(pieces), plain=PLAIN.render_part(pieces)) for pieces in cuts)
    # The empty lines of a long block of code can be a part of their own; no platform takes that.
    return tuple(part for part in parts if part.plain.strip())
