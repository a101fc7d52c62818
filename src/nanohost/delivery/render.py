"""Renders a row of the agent for a platform and splits it if it is too long. Pure.

Kinds that the platform does not support become text: a question is text with numbers, a file is its name and path. A
row that cannot become text is refused with a recorded reason.
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
    """Returns the parts of the text, at least one. A megabyte takes a second: keep long texts off the event loop."""
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
    """Returns whether any text is sent unchanged, in one message."""
    return capabilities.form is Form.MARKDOWN and capabilities.text_limit is None


_MARKUP = re.compile(r"[*~\\<\[&]|(?<!\w)_|_(?!\w)")


def content_problem(kind: str, content: str) -> str | None:
    """Returns why a row can never be delivered; None if it can."""
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
    """Returns the row as text; None for kinds that are no message. Raises PayloadError if the content is invalid.

    `with_options`: whether the text lists the choices.
    """
    text = _to_markdown(kind, content, describe_file, with_options=with_options)
    # JSON can hold an unpaired surrogate, which cannot be sent to a platform.
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
    """Returns the name as code if it would be read as markup (`__init__.py`); else unchanged."""
    return f"`{name}`" if _MARKUP.search(name) and "`" not in name else name


def _numbered_options(options: tuple[str, ...]) -> list[str]:
    return [f"{number}. {option}" for number, option in enumerate(options, 1)]
