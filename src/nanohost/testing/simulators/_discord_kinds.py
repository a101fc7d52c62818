"""One example of each kind of message that people, apps and webhooks send on Discord, with the fields that its
documentation gives (https://docs.discord.com/developers/resources/message#message-object, and the pages on polls,
stickers, embeds and components), beside those of every message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.testing.content import ContentKind

_WHEN = "2026-09-21T14:13:20+00:00"
_BEA = {"id": "1003", "username": "bea", "global_name": "Bea", "discriminator": "0", "avatar": None}
_WEATHER = {"id": "77", "username": "Weather", "discriminator": "0", "avatar": None, "bot": True}
_COMPONENTS_V2 = 1 << 15
_HAS_SNAPSHOT = 1 << 14
_TUESDAY = "The meeting is on Tuesday at 5"
_FROM_GENERAL = {"type": 1, "message_id": "1", "channel_id": "5001", "guild_id": "5000"}
_IMAGE = {"url": "https://example.com/plan.png", "width": 9, "height": 9}


def _answered(**more: object) -> Mapping[str, object]:
    return {"id": "41", "author": _BEA, "timestamp": _WHEN, "content": _TUESDAY, **more}


def _poll(*answers: str, **more: object) -> Mapping[str, object]:
    said = [{"answer_id": number, "poll_media": {"text": text}} for number, text in enumerate(answers, 1)]
    base = {"question": {"text": "Lunch?"}, "answers": said, "expiry": _WHEN, "allow_multiselect": False}
    return {**base, "layout_type": 1, **more}


def _passed_on(**message: object) -> Mapping[str, object]:
    snapshots = [{"message": {"type": 0, **message}}]
    return {"flags": _HAS_SNAPSHOT, "message_reference": _FROM_GENERAL, "message_snapshots": snapshots}


def _card(*components: Mapping[str, object]) -> Mapping[str, object]:
    return {"flags": _COMPONENTS_V2, "components": list(components)}


IN_THREAD = "message in a thread"

KINDS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "text": [{"content": "hello"}],
    "mentions and emoji": [
        {"content": "<@1002> of <@&5010>, see <#5001> <:party:77> at <t:1790000000:f>, or type </lunch:88>"}
    ],
    IN_THREAD: [{"content": "and here?"}],
    "file": [{"content": "see this", "attachments": ["notes.txt"]}],
    "picture": [{"attachments": ["garden.jpg"]}],
    "sound": [{"attachments": ["song.mp3"]}],
    "film": [{"attachments": ["party.mp4"]}],
    "several files": [{"content": "which is best?", "attachments": ["one.jpg", "two.jpg"]}],
    "reply": [{"type": 19, "content": "is that right?", "referenced_message": _answered()}],
    "reply to a file": [
        {"type": 19, "content": "what is that?", "referenced_message": _answered(content="", attachments=["cat.jpg"])}
    ],
    "reply to a message that is gone": [
        {
            "type": 19,
            "content": "hm",
            "referenced_message": None,
            "message_reference": {"type": 0, "message_id": "41", "channel_id": "70001001"},
        }
    ],
    "forward": [_passed_on(content=_TUESDAY)],
    "forwarded file": [_passed_on(content="our garden", attachments=["garden.jpg"])],
    "forwarded embed": [_passed_on(content="", embeds=[{"type": "rich", "title": "Deploy failed"}])],
    "embed": [
        {
            "embeds": [
                {
                    "type": "rich",
                    "title": "Deploy failed",
                    "description": "at **14:02**",
                    "url": "https://example.com/1",
                    "author": {"name": "CI"},
                    "fields": [{"name": "branch", "value": "main", "inline": True}, {"name": "by", "value": "<@1002>"}],
                    "image": _IMAGE,
                    "footer": {"text": "build 7"},
                }
            ]
        }
    ],
    "preview of a link": [
        {
            "content": "https://example.com/a",
            "embeds": [
                {
                    "type": "article",
                    "url": "https://example.com/a",
                    "title": "Bridge closed",
                    "description": "Until Friday",
                    "provider": {"name": "City News"},
                    "thumbnail": _IMAGE,
                }
            ],
        }
    ],
    "poll": [{"poll": _poll("Pizza", "Soup")}],
    "poll with votes": [
        {
            "poll": _poll(
                "Pizza",
                "Soup",
                allow_multiselect=True,
                results={"is_finalized": False, "answer_counts": [{"id": 2, "count": 3, "me_voted": False}]},
            )
        }
    ],
    "sticker": [{"sticker_items": [{"id": "9", "name": "Wave", "format_type": 1}]}],
    "voice message": [
        {
            "flags": 1 << 13,
            "attachments": ["voice-message.ogg"],
        }
    ],
    "card": [
        _card(
            {"type": 10, "content": "# Lunch\nWho comes along?"},
            {
                "type": 17,
                "components": [
                    {
                        "type": 9,
                        "components": [{"type": 10, "content": "Cafe Blau, at **noon**"}],
                        "accessory": {"type": 11, "media": _IMAGE, "description": "the way there"},
                    },
                    {"type": 14},
                    {"type": 12, "items": [{"media": _IMAGE, "description": "the menu"}, {"media": _IMAGE}]},
                    {"type": 13, "file": {"url": "attachment://menu.pdf"}, "name": "menu.pdf"},
                    {
                        "type": 1,
                        "components": [
                            {"type": 2, "style": 1, "label": "I do", "custom_id": "a"},
                            {"type": 2, "style": 5, "label": "Map", "url": "https://example.com/map"},
                        ],
                    },
                    {
                        "type": 1,
                        "components": [
                            {
                                "type": 3,
                                "custom_id": "b",
                                "placeholder": "Which dish?",
                                "options": [{"label": "Pizza", "value": "1"}, {"label": "Soup", "value": "2"}],
                            }
                        ],
                    },
                ],
            },
        )
    ],
    "card of a kind that is not known": [_card({"type": 99, "content": "Look here"})],
    "buttons below words": [
        {
            "content": "Shall we?",
            "components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "Yes", "custom_id": "a"}]}],
        }
    ],
    "something that cannot be read": [{"content": "look", "poll": "what?"}],
    "something new": [{"future_thing": {"a": 1}}],
    "answer of an app to a command": [{"type": 20, "content": "Rain, 12 °C", "author": _WEATHER}],
    "message that is pinned": [
        {"type": 6, "message_reference": {"type": 0, "message_id": "41", "channel_id": "70001001"}},
    ],
}
"""By what people would call it."""

CONTENTS: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.TEXT: ["text"],
    ContentKind.MENTION: ["mentions and emoji"],
    ContentKind.THREAD: [IN_THREAD],
    ContentKind.REPLY: ["reply", "reply to a file", "reply to a message that is gone"],
    ContentKind.FORWARD: ["forward", "forwarded file", "forwarded embed"],
    ContentKind.MULTIPLE_FILES: ["several files"],
    ContentKind.PHOTO: ["picture"],
    ContentKind.VOICE: ["voice message"],
    ContentKind.AUDIO: ["sound"],
    ContentKind.VIDEO: ["film"],
    ContentKind.DOCUMENT: ["file"],
    ContentKind.STICKER: ["sticker"],
    ContentKind.POLL: ["poll", "poll with votes"],
    ContentKind.PREVIEW: ["embed", "preview of a link"],
    ContentKind.CARD: ["card", "card of a kind that is not known", "buttons below words"],
    ContentKind.APP: ["answer of an app to a command"],
    ContentKind.SERVICE: ["message that is pinned"],
    ContentKind.UNKNOWN: ["something new"],
    ContentKind.UNREADABLE: ["something that cannot be read"],
}
"""What each of them is an example of; what people do to messages comes beside it."""


SYSTEM: Mapping[str, Mapping[str, object]] = {
    "somebody joined": {"type": 7},
    "a message is pinned": {"type": 6, "message_reference": {"type": 0, "message_id": "41", "channel_id": "5001"}},
    "the server is boosted": {"type": 8},
    "a thread is opened": {"type": 18, "content": "Trips"},
    "what a thread begins with": {"type": 21, "referenced_message": _answered()},
    "a poll has ended": {"type": 46, "embeds": [{"type": "poll_result"}]},
    "a type of the future": {"type": 999, "content": ""},
}
"""What Discord says itself, in messages that nobody wrote."""
