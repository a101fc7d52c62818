"""Renders a row of the agent for a platform and splits it where it is too long. Pure.

Kinds that the platform has no form for become words: a question is text with numbers, a file is its name and where it
lies. What cannot be said in words is refused with a reason that goes on record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nanohost.channel_api import Capabilities
from nanohost.db.deliveries import DeliveryPart
from nanohost.rendering import Form, Limits, split_message
from nanohost.text.translation import _
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut, FileOut, QuestionOut, ReactionOut, decode_out

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


_MARKUP = re.compile(r"[*~\\<\[&]|(?<!\w)_|_(?!\w)")


def content_problem(kind: str, content: str) -> str | None:
    """Why a row can never be delivered, or None."""
    try:
        if isinstance(payload := decode_out(kind, content), ReactionOut):
            return None if payload.emoji.strip() else "it has no emoji"
        return _text_problem(kind, render(kind, content))
    except PayloadError as error:
        return str(error)


def _text_problem(kind: str, text: str | None) -> str | None:
    if text is None:
        return f"there is nothing yet that does a {kind}"
    return None if text.strip() else "it has no text"


def render(
    kind: str, content: str, describe_file: Callable[[str], str] = str, *, with_options: bool = True
) -> str | None:
    """The row as text; None for kinds that are no message. Raises PayloadError for content that is not of its kind.

    `with_options`: whether the text has to say what there is to choose from.
    """
    text = _to_markdown(kind, content, describe_file, with_options=with_options)
    # JSON can name half a character; no platform can be sent one.
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def _to_markdown(kind: str, content: str, describe_file: Callable[[str], str], *, with_options: bool) -> str | None:
    match decode_out(kind, content):
        case ChatOut(text=text) | EditOut(text=text):
            return text
        case QuestionOut(text=text, options=options):
            return "\n".join([text, *(_numbered_options(options) if with_options else ())])
        case CardOut(title=title, body=body, options=options):
            return "\n".join([f"**{title}**", body, *(_numbered_options(options) if with_options else ())])
        case FileOut(name=name, caption=caption):
            return f"[{_('file: {name}', name=_quote_markup(describe_file(name)))}] {caption}".strip()
        case _:
            return None


def _quote_markup(name: str) -> str:
    """A name that would be read as markup (`__init__.py`) as code; others as they are."""
    return f"`{name}`" if _MARKUP.search(name) and "`" not in name else name


def _numbered_options(options: tuple[str, ...]) -> list[str]:
    return [f"{number}. {option}" for number, option in enumerate(options, 1)]
