"""Every kind of content that people send on some platform, and where it is not to be had.

One list for all: the simulators have an example of each (`Simulator.contents`), the tests name what they are about by
it, and docs/reference/content.md is made of both. A kind that is new here is missing everywhere until there is a test
of it, or it is said not to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ContentKind(StrEnum):
    """By what people would call it, in the order of the table."""

    TEXT = "text"
    RICH_TEXT = "formatted text"
    LINK = "link behind words"
    MENTION = "mention of somebody"
    THREAD = "message in a thread or topic"
    REPLY = "reply"
    FORWARD = "forward"
    MULTIPLE_FILES = "several files as one message"
    PHOTO = "photo"
    VOICE = "voice message"
    AUDIO = "sound"
    VIDEO = "video"
    ROUND_VIDEO = "round video"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "place"
    LIVE_LOCATION = "live place"
    CONTACT = "contact"
    POLL = "poll"
    VOTE = "vote in a poll, or its result"
    CHECKLIST = "checklist"
    EVENT = "event or planned call"
    STORY = "story"
    PAID_MEDIA = "paid media"
    GAME = "game or dice"
    PAYMENT = "invoice or request for a payment"
    GIVEAWAY = "giveaway"
    SHARED = "shared people or chat"
    WEB_APP = "data of a web app"
    INVITATION = "invitation to a group"
    PRODUCT = "product"
    ORDER = "order"
    ADVERTISEMENT = "message that comes from an advertisement"
    PREVIEW = "embed, attachment or preview of a link"
    CARD = "card with buttons or lists"
    APP = "message of an app or another bot"
    CHOICE = "answer to a list or to a template's button"
    FORM = "answer to a form"
    BUTTON_PRESS = "press of a button of ours"
    EPHEMERAL = "message that disappears or is seen once"
    EDIT = "edit"
    EDIT_WITH_MENTION = "edit that adds the mention"
    DELETION = "deletion"
    REACTION = "reaction"
    REACTION_REMOVED = "reaction that is taken back"
    ID_CHANGED = "chat or person that is called otherwise now"
    SERVICE = "what the platform says itself"
    UNKNOWN = "kind that is not known"
    UNREADABLE = "known kind in a shape that is not known"


_IN_TEXT = "it is in the text"
_LINK_IN_TEXT = "it is a link in a text"
_UNKNOWN_KIND = "it arrives as a kind that is not known"
_TELEGRAM_ONLY = (
    *(ContentKind.CHECKLIST, ContentKind.STORY, ContentKind.PAID_MEDIA, ContentKind.GAME, ContentKind.GIVEAWAY),
    *(ContentKind.SHARED, ContentKind.WEB_APP),
)
"""Telegram alone has these."""
_WHATSAPP_ONLY = (
    ContentKind.PRODUCT,
    ContentKind.ORDER,
    ContentKind.ADVERTISEMENT,
    ContentKind.CHOICE,
    ContentKind.FORM,
)
"""WhatsApp alone has these."""


def _unsupported(*kinds: ContentKind, **reasons: str) -> Mapping[ContentKind, str]:
    return dict.fromkeys(kinds, "") | {ContentKind[name]: reason for name, reason in reasons.items()}


UNSUPPORTED_CONTENT: Mapping[str, Mapping[ContentKind, str]] = {
    "telegram": _unsupported(
        *_WHATSAPP_ONLY,
        ContentKind.EVENT,
        ContentKind.EPHEMERAL,
        VOTE="bots are told of votes in their own polls only",
        INVITATION=_LINK_IN_TEXT,
        PREVIEW="bots are not told what a preview shows",
        DELETION="bots are not told",
    ),
    "discord": _unsupported(
        *_TELEGRAM_ONLY,
        *_WHATSAPP_ONLY,
        *(
            ContentKind.ROUND_VIDEO,
            ContentKind.LOCATION,
            ContentKind.LIVE_LOCATION,
            ContentKind.CONTACT,
            ContentKind.PAYMENT,
        ),
        *(ContentKind.EPHEMERAL, ContentKind.ID_CHANGED),
        RICH_TEXT=_IN_TEXT,
        LINK=_IN_TEXT,
        VOTE="a vote is no message, and not asked for",
        EVENT=_LINK_IN_TEXT,
        INVITATION=_LINK_IN_TEXT,
    ),
    "slack": _unsupported(
        *_TELEGRAM_ONLY,
        *_WHATSAPP_ONLY,
        *(
            ContentKind.ROUND_VIDEO,
            ContentKind.STICKER,
            ContentKind.LOCATION,
            ContentKind.LIVE_LOCATION,
            ContentKind.CONTACT,
            ContentKind.PAYMENT,
        ),
        *(ContentKind.EVENT, ContentKind.INVITATION, ContentKind.EPHEMERAL),
        POLL="polls are cards of apps",
        VOTE="polls are cards of apps",
    ),
    "whatsapp": _unsupported(
        *_TELEGRAM_ONLY,
        *(ContentKind.THREAD, ContentKind.PAYMENT, ContentKind.APP),
        RICH_TEXT=_IN_TEXT,
        LINK=_IN_TEXT,
        MULTIPLE_FILES="Meta tells of each file alone",
        ROUND_VIDEO=_UNKNOWN_KIND,
        LIVE_LOCATION=_UNKNOWN_KIND,
        POLL=_UNKNOWN_KIND,
        VOTE=_UNKNOWN_KIND,
        EVENT=_UNKNOWN_KIND,
        INVITATION=_UNKNOWN_KIND,
        EPHEMERAL=_UNKNOWN_KIND,
        PREVIEW="Meta does not tell what a preview shows",
        CARD="businesses send them, and get none",
    ),
    "whatsapp_linked": _unsupported(
        *_TELEGRAM_ONLY,
        *(ContentKind.THREAD, ContentKind.APP),
        RICH_TEXT=_IN_TEXT,
        LINK=_IN_TEXT,
        BUTTON_PRESS="there are no buttons: a number answers",
        ID_CHANGED="WhatsApp tells nobody",
    ),
    "terminal": _unsupported(
        *(kind for kind in ContentKind if kind not in (ContentKind.TEXT, ContentKind.UNREADABLE)),
        BUTTON_PRESS="there are no buttons: a number answers",
    ),
}
"""By platform (or form of it), what nobody can send there or no bot is told of, and why where that is not plain."""


def supported_content(platform: str) -> list[ContentKind]:
    """What can be sent on this platform."""
    return [kind for kind in ContentKind if kind not in UNSUPPORTED_CONTENT[platform]]


OTHER_INPUTS: Mapping[ContentKind, str] = {ContentKind.BUTTON_PRESS: "/press LABEL"}
"""What is not sent in a simulator by `/send`, and what is typed for it: there must be a button first."""
