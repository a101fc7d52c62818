"""One example of each kind of message that people, apps and workflows send in Slack, with the fields that its
documentation gives (https://docs.slack.dev/reference/events/message, /reference/block-kit/blocks and the page on legacy
attachments), beside those of every message. What Slack adds itself to a message that is passed on, or to an address, is
as its clients get it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.testing.content import ContentKind

_TUESDAY = "The meeting is on Tuesday at 5"
_APP = {"subtype": "bot_message", "bot_id": "B77", "username": "Deploys", "text": ""}
_MAP = "https://example.com/map"


def _mrkdwn(text: str) -> Mapping[str, object]:
    return {"type": "mrkdwn", "text": text}


def _plain(text: str) -> Mapping[str, object]:
    return {"type": "plain_text", "text": text, "emoji": True}


def _rich(*elements: Mapping[str, object]) -> Mapping[str, object]:
    return {"type": "rich_text", "block_id": "b1", "elements": list(elements)}


def _section(*elements: Mapping[str, object], type_: str = "rich_text_section") -> Mapping[str, object]:
    return {"type": type_, "elements": list(elements)}


def _words(text: str, **style: bool) -> Mapping[str, object]:
    return {"type": "text", "text": text} | ({"style": style} if style else {})


def _app(*blocks: Mapping[str, object], **more: object) -> Mapping[str, object]:
    return _APP | {"blocks": list(blocks)} | more


def _shared(**more: object) -> Mapping[str, object]:
    """A message that is passed on, as Slack describes it."""
    told = {"is_msg_unfurl": True, "is_share": True, "channel_id": "C501", "ts": "1790000000.000100"}
    told |= {"author_id": "1002", "author_name": "Bob", "from_url": "https://simulated.slack.com/archives/C501/p179"}
    return told | {"footer": "Slack Conversation", "fallback": "[September 21st, 2026] Bob: …", **more}


ROOT = "1790000000.000100"
"""What Bob said before the bot was there."""
IN_THREAD, REPLY, RENAMED = "message in a thread", "first mention in a thread", "channel that has another id"

KINDS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "text": [{"text": "hello"}],
    IN_THREAD: [{"text": "and here?"}],
    REPLY: [{"text": "is that right?"}],
    "mentions and channels": [
        {"text": "ask <@1002> in <#C501|> &amp; <!here>, <!date^1790000000^{date}|September 21st> :tada:"}
    ],
    "link behind words": [{"text": "read <https://example.com/a?b=1&amp;c=2|the article> please"}],
    "address": [{"text": "see <https://example.com> and <http://example.org|example.org>"}],
    "file": [{"subtype": "file_share", "text": "see this", "files": ["notes.txt"]}],
    "several files": [{"subtype": "file_share", "text": "which is best?", "files": ["one.jpg", "two.jpg"]}],
    "picture": [{"subtype": "file_share", "text": "", "files": ["garden.jpg"]}],
    "voice message": [{"subtype": "file_share", "text": "", "files": ["audio_message.m4a"]}],
    "sound": [{"subtype": "file_share", "text": "", "files": ["song.mp3"]}],
    "film": [{"subtype": "file_share", "text": "", "files": ["party.mp4"]}],
    "file of another service": [
        {
            "subtype": "file_share",
            "text": "",
            "files": [
                {
                    "id": "F88",
                    "name": "Plan",
                    "mode": "external",
                    "is_external": True,
                    "url_private": "https://docs.example.com/plan",
                }
            ],
        }
    ],
    "file that was deleted": [{"subtype": "file_share", "text": "look", "files": [{"id": "F89", "mode": "tombstone"}]}],
    "shared message": [{"text": "is that right?", "attachments": [_shared(text=_TUESDAY)]}],
    "shared message without a comment": [{"text": "", "attachments": [_shared(text=_TUESDAY)]}],
    "shared message with a file": [{"text": "", "attachments": [_shared(text="our garden", files=["garden.jpg"])]}],
    "shared message of an app": [
        {
            "text": "",
            "attachments": [
                _shared(
                    author_name="Deploys",
                    message_blocks=[
                        {
                            "channel": "C501",
                            "ts": "1",
                            "message": {"blocks": [{"type": "header", "text": _plain("Failed")}]},
                        }
                    ],
                )
            ],
        }
    ],
    "preview of a link": [
        {
            "text": "<https://example.com/a>",
            "attachments": [
                {
                    "from_url": "https://example.com/a",
                    "original_url": "https://example.com/a",
                    "service_name": "City News",
                    "title": "Bridge closed",
                    "title_link": "https://example.com/a",
                    "text": "Until Friday",
                    "fallback": "City News: Bridge closed",
                }
            ],
        }
    ],
    "attachment of an app": [
        _APP
        | {
            "attachments": [
                {
                    "fallback": "Deploy failed",
                    "pretext": "Look",
                    "author_name": "CI",
                    "title": "Deploy failed",
                    "title_link": "https://example.com/1",
                    "text": "at *14:02*",
                    "fields": [{"title": "branch", "value": "main", "short": True}],
                    "footer": "build 7",
                    "actions": [{"type": "button", "text": "Again", "name": "a", "value": "1"}],
                }
            ]
        }
    ],
    "attachment with its fallback only": [_APP | {"attachments": [{"fallback": "Deploy failed"}]}],
    "attachment of blocks": [
        _APP
        | {
            "attachments": [
                {
                    "color": "#f00",
                    "fallback": "[no preview available]",
                    "blocks": [{"type": "section", "text": _mrkdwn("Deploy *failed*")}],
                }
            ]
        }
    ],
    "rich text": [
        {
            "text": "",
            "blocks": [
                _rich(
                    _section(_words("Plan of "), {"type": "user", "user_id": "1002"}, _words(":", bold=True)),
                    {
                        "type": "rich_text_list",
                        "style": "ordered",
                        "indent": 0,
                        "elements": [
                            _section(_words("bread & "), {"type": "link", "url": _MAP, "text": "cheese"}),
                            _section(_words("tea "), {"type": "emoji", "name": "tea"}),
                        ],
                    },
                    _section(_words("and be quick"), type_="rich_text_quote"),
                    _section(_words("x = 1 < 2"), type_="rich_text_preformatted"),
                )
            ],
        }
    ],
    "blocks of words": [
        _app(
            {"type": "header", "text": _plain("Form answer")},
            {"type": "section", "text": _mrkdwn("colour: *blue*"), "fields": [_mrkdwn("*size*\nL"), _plain("R&D")]},
            {"type": "divider"},
            {"type": "context", "elements": [_mrkdwn("by <@1002>"), {"type": "image", "alt_text": "a face"}]},
            {"type": "markdown", "text": "**the end**"},
        )
    ],
    "notification with more in its blocks": [
        _app({"type": "section", "text": _mrkdwn("Deploy failed at 14:02")}, text="Deploy failed")
    ],
    "table": [
        _app(
            {
                "type": "table",
                "rows": [
                    [{"type": "raw_text", "text": "city"}, {"type": "raw_text", "text": "°C"}],
                    [_rich(_section(_words("Lima"))), {"type": "raw_number", "value": 19}],
                ],
            }
        )
    ],
    "image and video": [
        _app(
            {"type": "image", "title": _plain("Plan"), "alt_text": "the way there", "image_url": f"{_MAP}.png"},
            {
                "type": "video",
                "title": _plain("The tour"),
                "title_url": "https://example.com/v",
                "description": _plain("in a minute"),
                "author_name": "Bea",
                "alt_text": "a tour",
                "thumbnail_url": f"{_MAP}.png",
                "video_url": "https://example.com/embed/v",
            },
        )
    ],
    "buttons and choices": [
        _app(
            {
                "type": "section",
                "text": _mrkdwn("Which dish?"),
                "accessory": {
                    "type": "static_select",
                    "action_id": "a",
                    "placeholder": _plain("Choose"),
                    "options": [{"text": _plain("Pizza"), "value": "1"}, {"text": _plain("Soup"), "value": "2"}],
                },
            },
            {
                "type": "actions",
                "elements": [
                    {"type": "button", "action_id": "b", "text": _plain("Yes")},
                    {"type": "button", "action_id": "c", "text": _plain("Map"), "url": _MAP},
                    {"type": "datepicker", "action_id": "d", "placeholder": _plain("When?")},
                ],
            },
        )
    ],
    "block of a kind that is not known": [_app({"type": "hologram", "title": _plain("Look here")})],
    "something that cannot be read": [{"text": "look", "blocks": 7, "attachments": ["x"], "files": [7]}],
    "something new": [{"text": "", "future_thing": {"a": 1}}],
    "what somebody does": [{"subtype": "me_message", "text": "waves"}],
    "message that is pinned": [{"subtype": "pinned_item", "text": "<@1002> pinned a message"}],
}
"""By what people would call it."""

CONTENTS: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.TEXT: ["text", "what somebody does"],
    ContentKind.RICH_TEXT: ["rich text", "table"],
    ContentKind.LINK: ["link behind words", "address"],
    ContentKind.MENTION: ["mentions and channels"],
    ContentKind.THREAD: [IN_THREAD],
    ContentKind.REPLY: [REPLY],
    ContentKind.FORWARD: [
        *("shared message", "shared message without a comment", "shared message with a file"),
        "shared message of an app",
    ],
    ContentKind.MULTIPLE_FILES: ["several files"],
    ContentKind.PHOTO: ["picture", "image and video"],
    ContentKind.VOICE: ["voice message"],
    ContentKind.AUDIO: ["sound"],
    ContentKind.VIDEO: ["film"],
    ContentKind.DOCUMENT: ["file", "file of another service", "file that was deleted"],
    ContentKind.PREVIEW: [
        *("preview of a link", "attachment of an app", "attachment with its fallback only", "attachment of blocks"),
    ],
    ContentKind.CARD: ["buttons and choices", "block of a kind that is not known"],
    ContentKind.APP: ["blocks of words", "notification with more in its blocks"],
    ContentKind.ID_CHANGED: [RENAMED],
    ContentKind.SERVICE: ["message that is pinned"],
    ContentKind.UNKNOWN: ["something new"],
    ContentKind.UNREADABLE: ["something that cannot be read"],
}
"""What each of them is an example of; what people do to messages comes beside it."""


SYSTEM: Mapping[str, Mapping[str, object]] = {
    "somebody joined": {"subtype": "channel_join", "text": "<@1002> has joined the channel"},
    "somebody left": {"subtype": "channel_leave", "text": "<@1002> has left the channel"},
    "the topic is set": {"subtype": "channel_topic", "text": "<@1002> set the channel topic", "topic": "Trips"},
    "a message is pinned": {"subtype": "pinned_item", "text": "<@1002> pinned a message"},
    "a reminder is added": {"subtype": "reminder_add", "text": "<@1002> set up a reminder"},
    "a huddle begins": {"subtype": "huddle_thread", "text": "", "room": {"id": "R1"}},
    "a subtype of the future": {"subtype": "subtype_of_the_future", "text": "x"},
}
"""What Slack says itself, in messages that nobody wrote."""
