"""Every kind of content that people send on some platform, and where it is not to be had.

One list for all: the simulators have an example of each (`Simulator.contents`), the tests name what they are about by
it, and docs/reference/content.md is made of both. A kind that is new here is missing everywhere until there is a test
of it, or it is said not to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Content(StrEnum):
    """By what people would call it, in the order of the table."""

    TEXT = "text"
    RICH_TEXT = "formatted text"
    LINK = "link behind words"
    MENTION = "mention of somebody"
    THREAD = "message in a thread or topic"
    REPLY = "reply"
    FORWARD = "forward"
    SEVERAL = "several files as one message"
    PHOTO = "photo"
    VOICE = "voice message"
    SOUND = "sound"
    VIDEO = "video"
    ROUND_VIDEO = "round video"
    DOCUMENT = "document"
    STICKER = "sticker"
    PLACE = "place"
    LIVE_PLACE = "live place"
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
    PRESS = "press of a button of ours"
    PASSING = "message that disappears or is seen once"
    EDIT = "edit"
    EDIT_WITH_MENTION = "edit that adds the mention"
    DELETION = "deletion"
    REACTION = "reaction"
    REACTION_REMOVED = "reaction that is taken back"
    MOVED = "chat or person that is called otherwise now"
    SERVICE = "what the platform says itself"
    UNKNOWN = "kind that is not known"
    UNREADABLE = "known kind in a shape that is not known"


_WORDS = "it is in the text"
_TOLD_AS_TEXT = "it is a link in a text"
_UNSUPPORTED = "it arrives as a kind that is not known"
_TELEGRAM_ONLY = (
    *(Content.CHECKLIST, Content.STORY, Content.PAID_MEDIA, Content.GAME, Content.GIVEAWAY),
    *(Content.SHARED, Content.WEB_APP),
)
"""Telegram alone has these."""
_WHATSAPP_ONLY = (Content.PRODUCT, Content.ORDER, Content.ADVERTISEMENT, Content.CHOICE, Content.FORM)
"""WhatsApp alone has these."""


def _absent(*kinds: Content, **because: str) -> Mapping[Content, str]:
    return dict.fromkeys(kinds, "") | {Content[name]: reason for name, reason in because.items()}


NOT_THERE: Mapping[str, Mapping[Content, str]] = {
    "telegram": _absent(
        *_WHATSAPP_ONLY,
        Content.EVENT,
        Content.PASSING,
        VOTE="bots are told of votes in their own polls only",
        INVITATION=_TOLD_AS_TEXT,
        PREVIEW="bots are not told what a preview shows",
        DELETION="bots are not told",
    ),
    "discord": _absent(
        *_TELEGRAM_ONLY,
        *_WHATSAPP_ONLY,
        *(Content.ROUND_VIDEO, Content.PLACE, Content.LIVE_PLACE, Content.CONTACT, Content.PAYMENT),
        *(Content.PASSING, Content.MOVED),
        RICH_TEXT=_WORDS,
        LINK=_WORDS,
        VOTE="a vote is no message, and not asked for",
        EVENT=_TOLD_AS_TEXT,
        INVITATION=_TOLD_AS_TEXT,
    ),
    "slack": _absent(
        *_TELEGRAM_ONLY,
        *_WHATSAPP_ONLY,
        *(Content.ROUND_VIDEO, Content.STICKER, Content.PLACE, Content.LIVE_PLACE, Content.CONTACT, Content.PAYMENT),
        *(Content.EVENT, Content.INVITATION, Content.PASSING),
        POLL="polls are cards of apps",
        VOTE="polls are cards of apps",
    ),
    "whatsapp": _absent(
        *_TELEGRAM_ONLY,
        *(Content.THREAD, Content.PAYMENT, Content.APP),
        RICH_TEXT=_WORDS,
        LINK=_WORDS,
        SEVERAL="Meta tells of each file alone",
        ROUND_VIDEO=_UNSUPPORTED,
        LIVE_PLACE=_UNSUPPORTED,
        POLL=_UNSUPPORTED,
        VOTE=_UNSUPPORTED,
        EVENT=_UNSUPPORTED,
        INVITATION=_UNSUPPORTED,
        PASSING=_UNSUPPORTED,
        PREVIEW="Meta does not tell what a preview shows",
        CARD="businesses send them, and get none",
    ),
    "whatsapp_linked": _absent(
        *_TELEGRAM_ONLY,
        *(Content.THREAD, Content.APP),
        RICH_TEXT=_WORDS,
        LINK=_WORDS,
        PRESS="there are no buttons: a number answers",
        MOVED="WhatsApp tells nobody",
    ),
    "terminal": _absent(
        *(kind for kind in Content if kind not in (Content.TEXT, Content.UNREADABLE)),
        PRESS="there are no buttons: a number answers",
    ),
}
"""By platform (or form of it), what nobody can send there or no bot is told of, and why where that is not plain."""


def there(platform: str) -> list[Content]:
    """What can be sent on this platform."""
    return [kind for kind in Content if kind not in NOT_THERE[platform]]


BY_OTHER_MEANS: Mapping[Content, str] = {Content.PRESS: "/press LABEL"}
"""What is not sent in a simulator by `/send`, and what is typed for it: there must be a button first."""
