"""Any content of a message, also of a future version of a platform, is read without an exception and described."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from channels import discord, slack

_KEYS = st.sampled_from(
    [
        "type",
        "text",
        "elements",
        "fields",
        "accessory",
        "blocks",
        "title",
        "alt_text",
        "image_url",
        "url",
        "options",
        "rows",
        "label",
        "element",
        "style",
        "indent",
        "offset",
        "user_id",
        "name",
        "value",
        "files",
        "id",
        "mode",
        "is_share",
        "ts",
        "author_id",
        "channel_id",
        "message_blocks",
        "message",
        "fallback",
        "actions",
        "content",
        "components",
        "placeholder",
        "items",
        "media",
        "description",
        "poll",
        "question",
        "answers",
        "emoji",
        "embeds",
        "author",
    ]
)
_KINDS = st.sampled_from(
    [
        "section",
        "header",
        "context",
        "rich_text",
        "rich_text_section",
        "rich_text_list",
        "rich_text_quote",
        "table",
        "image",
        "video",
        "actions",
        "input",
        "link",
        "user",
        "channel",
        "date",
        "text",
        "button",
        "static_select",
        "mrkdwn",
        "plain_text",
        "markdown",
    ]
)


def _objects(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Most of them of a type that exists."""
    fields = st.dictionaries(_KEYS, inner, max_size=5)
    return fields | st.builds(lambda kind, more: {**more, "type": kind}, _KINDS | st.integers(1, 20), fields)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _KINDS
_JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | _objects(inner), max_leaves=20)


@settings(max_examples=150, deadline=None)
@given(text=_JSON, blocks=_JSON, attachments=_JSON, files=_JSON)
def test_any_slack_content_is_parsed_without_an_exception(text: Any, blocks: Any, attachments: Any, files: Any) -> None:
    said = {"ts": "1.0", "user": "U1", "text": text, "blocks": blocks, "attachments": attachments, "files": files}
    message = slack._Message.model_validate(said)
    taken = slack.parse_content(message)
    assert isinstance(taken.text, str)
    assert all(isinstance(part.text, str) and isinstance(part.url, str) for part in taken.parts)


@settings(max_examples=150, deadline=None)
@given(
    content=_JSON,
    rest=st.dictionaries(st.sampled_from(discord._CONTENT_FIELDS), _JSON, max_size=4),
)
def test_any_discord_content_is_parsed_without_an_exception(content: Any, rest: dict[str, Any]) -> None:
    said: dict[str, object] = {
        "id": "1",
        "channel_id": "2",
        "author": {"id": "3"},
        "timestamp": "2026-09-21T14:13:20+00:00",
    }
    message = discord.parse_message({**said, "content": content, **rest})
    reading = discord._MessageReader(me=None, my_roles=set(), roles={}, places={}, people={})
    held = reading.read_message(message, quoted=None, chat="")
    assert isinstance(held.text, str)
    assert reading.to_text(message)


def test_a_payload_without_sender_and_chat_is_not_a_message() -> None:
    broken: list[object] = [None, [], {}, {"id": "1"}, "text"]
    for said in broken:
        try:
            discord.parse_message(said)
        except ValidationError:
            continue
        raise AssertionError(f"{said!r} was taken for a message")
