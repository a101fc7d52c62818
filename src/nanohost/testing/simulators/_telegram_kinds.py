"""One example of each kind of message that people can send on Telegram, with the fields that the Bot API documents
(https://core.telegram.org/bots/api#message), beside those of every message. A kind is a series where it comes as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanohost.testing.content import ContentKind

PINNED, SUPERGROUP = "message that is pinned", "group that becomes a supergroup"
_WHEN = 1_790_000_000
_BEA = {"id": 1003, "is_bot": False, "first_name": "Bea", "last_name": "Berg", "username": "bea"}
_NEWS = {"id": -1001111, "type": "channel", "title": "City News", "username": "citynews"}
_CLUB = {"id": -1002222, "type": "supergroup", "title": "Chess Club"}
_PLACE = {"latitude": 52.5, "longitude": 13.4}
_PHOTO = [{"file_id": "photo-small", "file_unique_id": "ps", "width": 90, "height": 90, "file_size": 900}]
_ITEM = {"file_id": "item", "file_unique_id": "i", "width": 512, "height": 512}
_STICKER = _ITEM | {"type": "regular", "is_animated": False, "is_video": False, "emoji": "🎉", "set_name": "Party"}
_BY_BEA = {"type": "user", "date": _WHEN, "sender_user": _BEA}
_STORY = {"chat": {"id": 1003, "type": "private", "first_name": "Bea"}, "id": 3}
_TUESDAY = "The meeting is on Tuesday at 5"
_ASKED = {"message_id": 41, "date": _WHEN, "from": _BEA, "text": _TUESDAY}


def _option(text: str, votes: int = 0) -> Mapping[str, object]:
    return {"persistent_id": text.lower(), "text": text, "voter_count": votes}


def _poll(kind: str, question: str, *options: Mapping[str, object], **more: object) -> Mapping[str, object]:
    about: Mapping[str, object] = {
        "id": "5001",
        "question": question,
        "options": list(options),
        "total_voter_count": 0,
        "is_closed": False,
        "is_anonymous": True,
        "type": kind,
        "allows_multiple_answers": False,
        "allows_revoting": True,
        "members_only": False,
    }
    return {"poll": {**about, **more}}


KINDS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "text": [{"text": "hello"}],
    "link behind a word": [
        {
            "text": "Summarise the article please",
            "entities": [{"type": "text_link", "offset": 14, "length": 7, "url": "https://example.com/a?b=1"}],
        }
    ],
    "person behind a name": [
        {"text": "Ask Bea first", "entities": [{"type": "text_mention", "offset": 4, "length": 3, "user": _BEA}]}
    ],
    "rich text": [
        {
            "rich_message": {
                "blocks": [
                    {"type": "heading", "text": "Plan", "size": 1},
                    {"type": "paragraph", "text": ["Meet at ", {"type": "bold", "text": "noon"}, "."]},
                ]
            }
        }
    ],
    "message in a topic": [{"text": "and here?", "message_thread_id": 77, "is_topic_message": True}],
    "reply": [{"text": "is that right?", "reply_to_message": _ASKED}],
    "reply to a passage": [
        {
            "text": "really?",
            "reply_to_message": _ASKED,
            "quote": {"text": "on Tuesday", "position": 15, "is_manual": True},
        }
    ],
    "reply to another chat": [
        {
            "text": "what do you think?",
            "external_reply": {
                "origin": {"type": "channel", "date": _WHEN, "chat": _NEWS, "message_id": 7},
                "chat": _NEWS,
                "message_id": 7,
            },
            "quote": {"text": "The bridge is closed", "position": 0},
        }
    ],
    "reply to a story": [{"text": "nice!", "reply_to_story": _STORY}],
    "forward": [{"text": _TUESDAY, "forward_origin": _BY_BEA}],
    "forward of somebody hidden": [
        {"text": "I was never here", "forward_origin": {"type": "hidden_user", "date": _WHEN, "sender_user_name": "Cy"}}
    ],
    "forward of a group": [
        {"text": "Next game on Friday", "forward_origin": {"type": "chat", "date": _WHEN, "sender_chat": _CLUB}}
    ],
    "forward of a channel": [
        {
            "text": "The bridge is closed",
            "forward_origin": {
                "type": "channel",
                "date": _WHEN,
                "chat": _NEWS,
                "message_id": 7,
                "author_signature": "Dan",
            },
        }
    ],
    "forwarded picture": [{"photo": "forwarded", "caption": "our garden", "forward_origin": _BY_BEA}],
    "message through another bot": [
        {
            "text": "Rain, 12 °C",
            "via_bot": {"id": 77, "is_bot": True, "first_name": "Weather", "username": "weather_bot"},
        }
    ],
    "card of another bot": [
        {
            "text": "Shall we?",
            "via_bot": {"id": 77, "is_bot": True, "first_name": "Polls", "username": "poll_bot"},
            "reply_markup": {
                "inline_keyboard": [
                    [{"text": "Yes", "callback_data": "y"}, {"text": "Map", "url": "https://example.com/map"}],
                ]
            },
        }
    ],
    "album": [
        {"media_group_id": "g1", "photo": "one", "caption": "which is best?"},
        {"media_group_id": "g1", "photo": "two"},
        {"media_group_id": "g1", "photo": "three"},
    ],
    "picture": [{"photo": "garden", "caption": "our garden"}],
    "voice message": [{"voice": "voice.ogg"}],
    "sound": [{"audio": "song.mp3", "caption": "listen"}],
    "film": [{"video": "party.mp4"}],
    "film without sound": [{"animation": "wave.mp4"}],
    "round video": [{"video_note": "hello.mp4"}],
    "document": [{"document": "plan.pdf", "caption": "the plan"}],
    "sticker": [{"sticker": _STICKER}],
    "place": [{"location": _PLACE}],
    "live place": [{"location": {**_PLACE, "live_period": 900, "heading": 90}}],
    "venue": [{"venue": {"location": _PLACE, "title": "Cafe Blau", "address": "Hauptstr. 1"}, "location": _PLACE}],
    "contact": [{"contact": {"phone_number": "+4930123", "first_name": "Eve", "last_name": "Ott", "user_id": 1009}}],
    "poll": [_poll("regular", "Lunch?", _option("Pizza"), _option("Soup", 2), total_voter_count=2)],
    "quiz": [_poll("quiz", "7 x 8?", _option("54"), _option("56"), explanation="Count on your fingers")],
    "dice": [{"dice": {"emoji": "🎲", "value": 4}}],
    "checklist": [
        {
            "checklist": {
                "title": "Shopping",
                "tasks": [{"id": 1, "text": "Milk", "completion_date": _WHEN}, {"id": 2, "text": "Bread"}],
            }
        }
    ],
    "story": [{"story": _STORY}],
    "paid media": [
        {
            "paid_media": {
                "star_count": 50,
                "paid_media": [{"type": "preview", "width": 9, "height": 9}, {"type": "photo", "photo": _PHOTO}],
            },
            "caption": "worth it",
        }
    ],
    "game": [{"game": {"title": "Snake", "description": "Eat and grow", "photo": _PHOTO}}],
    "invoice": [
        {
            "invoice": {
                "title": "Mug",
                "description": "With our logo",
                "start_parameter": "",
                "currency": "EUR",
                "total_amount": 1250,
            }
        }
    ],
    "giveaway": [
        {
            "giveaway": {
                "chats": [_NEWS],
                "winners_selection_date": _WHEN,
                "winner_count": 3,
                "prize_description": "a mug",
            }
        }
    ],
    "winners of a giveaway": [
        {
            "giveaway_winners": {
                "chat": _NEWS,
                "giveaway_message_id": 7,
                "winners_selection_date": _WHEN,
                "winner_count": 1,
                "winners": [_BEA],
                "prize_description": "a mug",
            }
        }
    ],
    "shared people": [{"users_shared": {"request_id": 1, "users": [{"user_id": 1003, "first_name": "Bea"}]}}],
    "shared chat": [{"chat_shared": {"request_id": 2, "chat_id": -1002222, "title": "Chess Club"}}],
    "data of a web app": [{"web_app_data": {"data": '{"size": "L"}', "button_text": "Choose"}}],
    "something new": [{"future_thing": {"a": 1}}],
    "something that cannot be read": [{"text": "look", "poll": {"question": 7}}],
}
"""By what people would call it."""

CONTENTS: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.TEXT: ["text"],
    ContentKind.RICH_TEXT: ["rich text"],
    ContentKind.LINK: ["link behind a word"],
    ContentKind.MENTION: ["person behind a name"],
    ContentKind.THREAD: ["message in a topic"],
    ContentKind.REPLY: ["reply", "reply to a passage", "reply to another chat", "reply to a story"],
    ContentKind.FORWARD: [
        *("forward", "forward of somebody hidden", "forward of a group", "forward of a channel", "forwarded picture"),
    ],
    ContentKind.MULTIPLE_FILES: ["album"],
    ContentKind.PHOTO: ["picture"],
    ContentKind.VOICE: ["voice message"],
    ContentKind.AUDIO: ["sound"],
    ContentKind.VIDEO: ["film", "film without sound"],
    ContentKind.ROUND_VIDEO: ["round video"],
    ContentKind.DOCUMENT: ["document"],
    ContentKind.STICKER: ["sticker"],
    ContentKind.LOCATION: ["place", "venue"],
    ContentKind.LIVE_LOCATION: ["live place"],
    ContentKind.CONTACT: ["contact"],
    ContentKind.POLL: ["poll", "quiz"],
    ContentKind.CHECKLIST: ["checklist"],
    ContentKind.STORY: ["story"],
    ContentKind.PAID_MEDIA: ["paid media"],
    ContentKind.GAME: ["game", "dice"],
    ContentKind.PAYMENT: ["invoice"],
    ContentKind.GIVEAWAY: ["giveaway", "winners of a giveaway"],
    ContentKind.SHARED: ["shared people", "shared chat"],
    ContentKind.WEB_APP: ["data of a web app"],
    ContentKind.CARD: ["card of another bot"],
    ContentKind.APP: ["message through another bot"],
    ContentKind.ID_CHANGED: [SUPERGROUP],
    ContentKind.SERVICE: [PINNED],
    ContentKind.UNKNOWN: ["something new"],
    ContentKind.UNREADABLE: ["something that cannot be read"],
}
"""What each of them is an example of; what people do to messages comes beside it."""

SERVICE: Mapping[str, Mapping[str, object]] = {
    "somebody joined": {"new_chat_members": [_BEA]},
    "somebody left": {"left_chat_member": _BEA},
    "the group is renamed": {"new_chat_title": "Trips"},
    "a picture of the group": {"new_chat_photo": _PHOTO},
    PINNED: {"pinned_message": {"message_id": 41, "date": 0, "chat": _CLUB}},
    "a topic is opened": {"forum_topic_created": {"name": "Trips", "icon_color": 1}},
    "a topic is closed": {"forum_topic_closed": {}},
    "messages delete themselves": {"message_auto_delete_timer_changed": {"message_auto_delete_time": 60}},
    "a call begins": {"video_chat_started": {}},
    "somebody comes near": {"proximity_alert_triggered": {"traveler": _BEA, "watcher": _BEA, "distance": 5}},
}
"""What Telegram says itself, in messages that nobody wrote."""
