"""What a message of WhatsApp says, read from its content as JSON. Pure, and without the library.

`content` is a `waE2E.Message` as protobuf's own JSON with the fields' original names (`MessageToDict` with
`preserving_proto_field_name`): times and other 64-bit numbers are strings, enums their names. Whoever writes a message
may write anything there, so nothing is believed to be there or to be of its type.

Only what the sender wrote is `text`. What they passed on, reply to or share is in parts, in words; what is not known
here is a sentence, never nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nanohost.wa_bridge import names, values
from nanohost.wa_bridge.kinds import MEDIA, READERS, THINGS, Around, Content, shared
from nanohost.wa_bridge.protocol import File, Message, Part
from nanohost.wa_bridge.values import Json

Kind = Literal["message", "edit", "deletion", "reaction", "reaction_removed"]

WRAPPERS = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "editedMessage",
    "associatedChildMessage",
    "lottieStickerMessage",
    "audioStickerMessage",
    "groupMentionedMessage",
    "botInvokeMessage",
    "botForwardedMessage",
    "pollCreationMessageV4",
    "questionMessage",
    "questionReplyMessage",
    "spoilerMessage",
    "commentMessage",
    "deviceSentMessage",
)
"""Kinds that hold another message in `message`."""
NOBODY_SAYS = frozenset(
    [
        *("senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage", "messageContextInfo"),
        *("groupRootKeyShare", "rootSecretDistributeMessage", "stickerSyncRmrMessage", "acp2SettingMessage"),
        *("messageHistoryBundle", "messageHistoryNotice", "limitSharingMessage", "secretEncryptedMessage"),
        *("pinInChatMessage", "keepInChatMessage", "encReactionMessage", "scheduledCallEditMessage"),
        *("call", "chat", "callLogMesssage", "bcallMessage", "protocolMessage", "albumMessage"),
        *("statusMentionMessage", "groupStatusMentionMessage", "groupStatusMessage", "groupStatusMessageV2"),
        *("statusAddYours", "statusNotificationMessage", "statusQuotedMessage", "statusStickerInteractionMessage"),
        *(
            "eventCoverImage",
            "pollCreationOptionImageMessage",
            "statusLinkPreviewMetadata",
            "conditionalRevealMessage",
            "pollAddOptionMessage",
        ),
    ]
)
"""Keys, settings, calls, statuses: no words to us, and nothing that an answer would be expected to."""
DEEPEST = 8
"""Wrappers within wrappers that are opened. WhatsApp's own apps make three."""
LONGEST = 65_536
"""Characters of a text that WhatsApp takes."""
LONGEST_NAME = 100
LONGEST_PARTS, LONGEST_FACT, MOST_PARTS = 4 * LONGEST, 2_000, 60
"""Characters of all that comes beside a text, of a name or an address in it; how much there may be."""
MANY_TIMES = 5
"""WhatsApp's apps say so of what was passed on this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a message says. `refers_to`: the id that it is about. `quotes`: whose message it replies to; `mentioned`:
    whom it names; `album`: the id of the series that its file belongs to."""

    kind: Kind = "message"
    text: str = ""
    parts: tuple[Part, ...] = ()
    refers_to: str | None = None
    quotes: str = ""
    mentioned: frozenset[str] = frozenset()
    album: str | None = None
    change: str = ""
    """What tells this edit from others of the same message."""


def read(content: Json, around: Around) -> Said | None:
    """What somebody said; None for what is no person's word: keys, settings, the announcement of an album."""
    inner, info = unwrapped(content)
    association = values.mapping(info.get("messageAssociation"))
    kind = values.text(association.get("associationType"))
    if kind and kind != "MEDIA_ALBUM" and any(one in inner for one in MEDIA):
        return None  # the same picture once more, sharper or moving
    album = values.text(values.mapping(association.get("parentMessageKey")).get("ID")) if kind == "MEDIA_ALBUM" else ""
    said = _change(inner, around) or _message(inner, around, album)
    return said and replace(said, album=album or None, parts=_bounded(said.parts))


def _bounded(parts: Sequence[Part]) -> tuple[Part, ...]:
    """No more than fits into a line: one that does not would be said again at every start, and never be heard."""
    kept, room = [], LONGEST_PARTS
    for part in parts[:MOST_PARTS]:
        short = {key: value[:LONGEST_FACT] for key, value in part.model_dump(exclude={"kind", "text"}).items()}
        text = part.text if len(part.text) <= room else f"{part.text[:room]} [cut: too long]"
        kept.append(Part(kind=part.kind, text=text, **short))
        room -= min(len(text), room)
    return tuple(kept)


def unwrapped(content: Json) -> tuple[Json, Json]:
    """The message itself, and what is said of it on any layer (`messageContextInfo`). A layer too deep stays one."""
    info: dict[str, object] = dict(values.mapping(content.get("messageContextInfo")))
    for _ in range(DEEPEST):
        wrapper = next((one for one in WRAPPERS if values.mapping(content.get(one)).get("message")), None)
        if wrapper is None:
            break
        content = values.mapping(values.mapping(content[wrapper]).get("message"))
        info.update(values.mapping(content.get("messageContextInfo")))
    return content, info


def people_in(content: Json) -> set[str]:
    """The ids of those whom a message names, and whose message it replies to."""
    inner = unwrapped(content)[0]
    context = _context(_field_of(inner), inner)
    quoted = unwrapped(values.mapping(context.get("quotedMessage")))[0]
    author = values.bare(context.get("participant"))
    return {*_mentioned(context), *_mentioned(_context(_field_of(quoted), quoted)), author} - {""}


def media_of(content: Json) -> str | None:
    """The field that holds a file, of an unwrapped message."""
    return next((kind for kind in MEDIA if kind in content), None)


# --- changes ----------------------------------------------------------------------------------------------------


def _change(content: Json, around: Around) -> Said | None:
    """A reaction, an edit or a deletion."""
    if "reactionMessage" in content:
        reaction = values.mapping(content["reactionMessage"])
        emoji, id = values.text(reaction.get("text")), values.id_in(reaction.get("key"))
        return Said(kind="reaction" if emoji else "reaction_removed", text=emoji, refers_to=id)
    change = values.mapping(content.get("protocolMessage"))
    id = values.id_in(change.get("key"))
    match change.get("type"):
        case "REVOKE" if id:
            return Said(kind="deletion", refers_to=id)
        case "MESSAGE_EDIT" if id:
            inner = unwrapped(values.mapping(change.get("editedMessage")))[0]
            now = _message(inner, around, "") or Said()
            return replace(now, kind="edit", refers_to=id, change=values.text(change.get("timestampMS")))
    return None


# --- messages ---------------------------------------------------------------------------------------------------


def _message(content: Json, around: Around, album: str) -> Said | None:
    field = _field_of(content)
    if field is None and not around.has_unknown:
        return None
    held, context = _held(field, content, around), _context(field, content) or _context_of_album(album, around)
    refers_to = held.refers_to or values.text(context.get("stanzaID")) or None
    quotes, beside = values.bare(context.get("participant")), [*_quoted(context, around)]
    if _is_forwarded(context):
        passed_on = _passed_on(content, context, around)
        return Said(parts=(*beside, passed_on), refers_to=refers_to, quotes=quotes)
    mentioned = _mentioned(context)
    return Said(
        text=_with_names(held.text[:LONGEST], mentioned, around),
        parts=(*beside, *held.parts, *_advertised(context)),
        refers_to=refers_to,
        quotes=quotes,
        mentioned=mentioned,
    )


def _field_of(content: Json) -> str | None:
    """The field that somebody said something in: one that is known here, else any."""
    known = next((one for one in content if one in READERS or one in MEDIA), None)
    return known or next((one for one in content if one not in NOBODY_SAYS), None)


def _context(field: str | None, content: Json) -> Json:
    return values.mapping(values.mapping(content.get(field or "")).get("contextInfo"))


def _mentioned(context: Json) -> frozenset[str]:
    return frozenset(map(values.bare, values.items(context.get("mentionedJID"))))


def _held(field: str | None, content: Json, around: Around) -> Content:
    value = content.get(field or "")
    if field in MEDIA:
        return Content(text=values.text(values.mapping(value).get("caption")))
    reader = READERS.get(field or "")
    held = reader(value, around) if reader else Content()
    if held.text or held.parts or field in ("conversation", "extendedTextMessage"):
        return held
    return Content(parts=(shared("", f"a message that cannot be shown here: {field or 'of a new kind'}"),))


def _context_of_album(album: str, around: Around) -> Json:
    """What a picture of an album replies to is said where the album is announced."""
    return _context("albumMessage", around.earlier(album) or {}) if album else {}


def _is_forwarded(context: Json) -> bool:
    return context.get("isForwarded") is True or bool(values.number(context.get("forwardingScore")))


def _passed_on(content: Json, context: Json, around: Around) -> Part:
    """WhatsApp tells from whom something was passed on only if it was a channel."""
    source = values.text(values.mapping(context.get("forwardedNewsletterMessageInfo")).get("newsletterName"))
    is_chain = values.number(context.get("forwardingScore")) >= MANY_TIMES
    author = "somebody, passed on many times" if is_chain else ""
    return Part(kind="forwarded", text=in_words(content, around), author=author, chat=source)


def _quoted(context: Json, around: Around) -> Iterator[Part]:
    if not values.text(context.get("stanzaID")) or "quotedMessage" not in context:
        return
    yield Part(
        kind="quoted",
        text=in_words(values.mapping(context["quotedMessage"]), around),
        author=around.called(values.text(context.get("participant"))),
        chat=_chat_called(values.text(context.get("remoteJID")), around),
        marked=values.text(values.mapping(context.get("partiallySelectedContent")).get("text")),
    )


def _chat_called(jid: str, around: Around) -> str:
    """Another chat that a quote is of."""
    if not jid:
        return ""
    return "a status" if jid.startswith("status@") else around.called(jid) or "another chat"


def in_words(content: Json, around: Around) -> str:
    """A message that is quoted or passed on, in words; what that one replies to is not told again."""
    inner = unwrapped(content)[0]
    field = _field_of(inner)
    held = _held(field, inner, around)
    text = _with_names(held.text[:LONGEST], _mentioned(_context(field, inner)), around)
    thing = f"[{THINGS[field]}]" if field in THINGS else ""
    return "\n".join(filter(None, [thing, text, *map(_beside, held.parts)]))


def _beside(part: Part) -> str:
    words = ": ".join(filter(None, (part.title, part.text)))
    return f"[{words} ({part.url})]" if part.url else f"[{words}]"


def _advertised(context: Json) -> Iterator[Part]:
    ad = values.mapping(context.get("externalAdReply"))
    words = values.lines(ad.get("title"), ad.get("body"))
    if words or ad.get("sourceURL"):
        yield shared("what they came from", words, url=values.text(ad.get("sourceURL")))


def _with_names(text: str, mentioned: Collection[str], around: Around) -> str:
    """`@4917…` as people read it: with the name in place of the number, where it is known."""
    names_of = {jid.partition("@")[0]: around.people.get(jid, "") for jid in mentioned if jid not in around.me}
    called = {user: " ".join(name.split())[:LONGEST_NAME] for user, name in names_of.items()}
    return re.sub(r"@(\d+)", lambda found: f"@{called.get(found[1]) or found[1]}", text)


# --- the line ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and by whom a message was said."""

    id: str
    chat: str
    sender: str
    sender_name: str
    sent_at: float
    is_group: bool


def heard(content: Json, place: Place, around: Around, *, file: File | None = None) -> Message | None:
    """The message as the host hears it; None for what is no person's word."""
    said = read(content, around)
    if said is None or (said.kind == "message" and not said.text and not said.parts and file is None):
        return None
    # An edit may carry the id of what it changes.
    id = f"{place.id}/{said.change}" if said.kind == "edit" else place.id
    mentioned = {*said.mentioned, said.quotes}
    return Message(
        key=f"{place.chat} {id}",
        kind=said.kind,
        id=id,
        chat=place.chat,
        sender=place.sender,
        sender_name=place.sender_name,
        text=names.without_name(said.text, around.me) if place.is_group else said.text,
        sent_at=place.sent_at,
        is_group=place.is_group,
        mentions_me=bool(mentioned.intersection(around.me)),
        refers_to=said.refers_to,
        file=file if said.kind == "message" else None,
        parts=list(said.parts),
        album=said.album,
    )
