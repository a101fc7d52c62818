"""Parses the content of a WhatsApp message, given as JSON, into the line for the host. Pure, and without the library.

`content` is a `waE2E.Message` as protobuf's own JSON with the fields' original names (`MessageToDict` with
`preserving_proto_field_name`): times and other 64-bit numbers are strings, enums their names. Whoever writes a message
may write anything there, so every field may be missing or of another type.

Only what the sender wrote is `text`. What they forward, reply to or share becomes parts, described in words. A
kind that is not known here becomes a sentence that says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nanohost_whatsapp_bridge import jids, values
from nanohost_whatsapp_bridge.kinds import MEDIA, MEDIA_NAMES, PARSERS, FieldContent, MessageContext, shared_part
from nanohost_whatsapp_bridge.protocol import File, Message, Part
from nanohost_whatsapp_bridge.values import Json

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
IGNORED_FIELDS = frozenset(
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
"""Keys, settings, calls, statuses: no message to the bot, so the host is not told."""
MAX_WRAPPERS = 8
"""Nested wrappers that are opened. WhatsApp's own apps make three."""
MAX_TEXT = 65_536
"""Characters of a text that WhatsApp takes."""
MAX_NAME = 100
MAX_PARTS_TEXT, MAX_PART_FIELD, MAX_PARTS = 4 * MAX_TEXT, 2_000, 60
"""Characters of all parts together, characters of a name or an address in a part, number of parts."""
FORWARDED_MANY_TIMES = 5
"""From this score on WhatsApp's apps show a message as forwarded many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedContent:
    """What one content holds. `refers_to`: the id of the message that it is about. `quotes`: the author of the message
    that it replies to; `mentioned`: the people it mentions; `album`: the id of the series that its file belongs to."""

    kind: Kind = "message"
    text: str = ""
    parts: tuple[Part, ...] = ()
    refers_to: str | None = None
    quotes: str = ""
    mentioned: frozenset[str] = frozenset()
    album: str | None = None
    change: str = ""
    """Tells this edit from others of the same message."""


def parse_content(content: Json, context: MessageContext) -> ParsedContent | None:
    """None for what no person wrote: keys, settings, the announcement of an album."""
    inner, info = unwrapped(content)
    association = values.as_mapping(info.get("messageAssociation"))
    kind = values.as_text(association.get("associationType"))
    if kind and kind != "MEDIA_ALBUM" and any(one in inner for one in MEDIA):
        return None  # the same picture once more, sharper or moving
    album = (
        values.as_text(values.as_mapping(association.get("parentMessageKey")).get("ID"))
        if kind == "MEDIA_ALBUM"
        else ""
    )
    parsed = _change(inner, context) or _message(inner, context, album)
    return parsed and replace(parsed, album=album or None, parts=_limit_parts(parsed.parts))


def _limit_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Cut to what fits into a line: the host skips a longer one, so the bridge would write it again at every start."""
    kept, room = [], MAX_PARTS_TEXT
    for part in parts[:MAX_PARTS]:
        short = {key: value[:MAX_PART_FIELD] for key, value in part.model_dump(exclude={"kind", "text"}).items()}
        text = part.text if len(part.text) <= room else f"{part.text[:room]} [cut: too long]"
        kept.append(Part(kind=part.kind, text=text, **short))
        room -= min(len(text), room)
    return tuple(kept)


def unwrapped(content: Json) -> tuple[Json, Json]:
    """The message itself, and the `messageContextInfo` of all its wrappers. Wrappers beyond MAX_WRAPPERS stay."""
    info: dict[str, object] = dict(values.as_mapping(content.get("messageContextInfo")))
    for _ in range(MAX_WRAPPERS):
        wrapper = next((one for one in WRAPPERS if values.as_mapping(content.get(one)).get("message")), None)
        if wrapper is None:
            break
        content = values.as_mapping(values.as_mapping(content[wrapper]).get("message"))
        info.update(values.as_mapping(content.get("messageContextInfo")))
    return content, info


def referenced_people(content: Json) -> set[str]:
    """The ids of the people whom a message mentions, and of the author of the message that it replies to."""
    inner = unwrapped(content)[0]
    info_context = _context_info(_field_of(inner), inner)
    quoted = unwrapped(values.as_mapping(info_context.get("quotedMessage")))[0]
    author = values.without_device(info_context.get("participant"))
    return {*_mentioned(info_context), *_mentioned(_context_info(_field_of(quoted), quoted)), author} - {""}


def media_of(content: Json) -> str | None:
    """The field that holds a file, of an unwrapped message."""
    return next((kind for kind in MEDIA if kind in content), None)


# --- changes ----------------------------------------------------------------------------------------------------


def _change(content: Json, context: MessageContext) -> ParsedContent | None:
    """A reaction, an edit or a deletion."""
    if "reactionMessage" in content:
        reaction = values.as_mapping(content["reactionMessage"])
        emoji, id = values.as_text(reaction.get("text")), values.message_id_in(reaction.get("key"))
        return ParsedContent(kind="reaction" if emoji else "reaction_removed", text=emoji, refers_to=id)
    change = values.as_mapping(content.get("protocolMessage"))
    id = values.message_id_in(change.get("key"))
    match change.get("type"):
        case "REVOKE" if id:
            return ParsedContent(kind="deletion", refers_to=id)
        case "MESSAGE_EDIT" if id:
            inner = unwrapped(values.as_mapping(change.get("editedMessage")))[0]
            now = _message(inner, context, "") or ParsedContent()
            return replace(now, kind="edit", refers_to=id, change=values.as_text(change.get("timestampMS")))
    return None


# --- messages ---------------------------------------------------------------------------------------------------


def _message(content: Json, context: MessageContext, album: str) -> ParsedContent | None:
    field = _field_of(content)
    if field is None and not context.has_unknown:
        return None
    parsed, info_context = (
        _parse_field(field, content, context),
        _context_info(field, content) or _album_context_info(album, context),
    )
    refers_to = parsed.refers_to or values.as_text(info_context.get("stanzaID")) or None
    quotes, quoted = values.without_device(info_context.get("participant")), [*_quoted(info_context, context)]
    if _is_forwarded(info_context):
        forwarded = _forwarded(content, info_context, context)
        return ParsedContent(parts=(*quoted, forwarded), refers_to=refers_to, quotes=quotes)
    mentioned = _mentioned(info_context)
    return ParsedContent(
        text=_with_mention_names(parsed.text[:MAX_TEXT], mentioned, context),
        parts=(*quoted, *parsed.parts, *_advertised(info_context)),
        refers_to=refers_to,
        quotes=quotes,
        mentioned=mentioned,
    )


def _field_of(content: Json) -> str | None:
    """The field that holds the message: one that is known here, else any."""
    known = next((one for one in content if one in PARSERS or one in MEDIA), None)
    return known or next((one for one in content if one not in IGNORED_FIELDS), None)


def _context_info(field: str | None, content: Json) -> Json:
    return values.as_mapping(values.as_mapping(content.get(field or "")).get("contextInfo"))


def _mentioned(info_context: Json) -> frozenset[str]:
    return frozenset(map(values.without_device, values.as_list(info_context.get("mentionedJID"))))


def _parse_field(field: str | None, content: Json, context: MessageContext) -> FieldContent:
    value = content.get(field or "")
    if field in MEDIA:
        return FieldContent(text=values.as_text(values.as_mapping(value).get("caption")))
    parser = PARSERS.get(field or "")
    parsed = parser(value, context) if parser else FieldContent()
    if parsed.text or parsed.parts or field in ("conversation", "extendedTextMessage"):
        return parsed
    return FieldContent(parts=(shared_part("", f"a message that cannot be shown here: {field or 'of a new kind'}"),))


def _album_context_info(album: str, context: MessageContext) -> Json:
    """What a picture of an album replies to is in the announcement of the album."""
    return _context_info("albumMessage", context.earlier(album) or {}) if album else {}


def _is_forwarded(info_context: Json) -> bool:
    return info_context.get("isForwarded") is True or bool(values.as_int(info_context.get("forwardingScore")))


def _forwarded(content: Json, info_context: Json, context: MessageContext) -> Part:
    """WhatsApp tells from whom something was forwarded only if it was a channel."""
    source = values.as_text(values.as_mapping(info_context.get("forwardedNewsletterMessageInfo")).get("newsletterName"))
    is_chain = values.as_int(info_context.get("forwardingScore")) >= FORWARDED_MANY_TIMES
    author = "somebody, passed on many times" if is_chain else ""
    return Part(kind="forwarded", text=describe(content, context), author=author, chat=source)


def _quoted(info_context: Json, context: MessageContext) -> Iterator[Part]:
    if not values.as_text(info_context.get("stanzaID")) or "quotedMessage" not in info_context:
        return
    yield Part(
        kind="quoted",
        text=describe(values.as_mapping(info_context["quotedMessage"]), context),
        author=context.display_name(values.as_text(info_context.get("participant"))),
        chat=_chat_name(values.as_text(info_context.get("remoteJID")), context),
        marked=values.as_text(values.as_mapping(info_context.get("partiallySelectedContent")).get("text")),
    )


def _chat_name(jid: str, context: MessageContext) -> str:
    """Another chat that a quote is of."""
    if not jid:
        return ""
    return "a status" if jid.startswith("status@") else context.display_name(jid) or "another chat"


def describe(content: Json, context: MessageContext) -> str:
    """A message that is quoted or forwarded, in words; without what that message itself replies to."""
    inner = unwrapped(content)[0]
    field = _field_of(inner)
    parsed = _parse_field(field, inner, context)
    text = _with_mention_names(parsed.text[:MAX_TEXT], _mentioned(_context_info(field, inner)), context)
    thing = f"[{MEDIA_NAMES[field]}]" if field in MEDIA_NAMES else ""
    return "\n".join(filter(None, [thing, text, *map(_describe_part, parsed.parts)]))


def _describe_part(part: Part) -> str:
    words = ": ".join(filter(None, (part.title, part.text)))
    return f"[{words} ({part.url})]" if part.url else f"[{words}]"


def _advertised(info_context: Json) -> Iterator[Part]:
    ad = values.as_mapping(info_context.get("externalAdReply"))
    words = values.join_lines(ad.get("title"), ad.get("body"))
    if words or ad.get("sourceURL"):
        yield shared_part("what they came from", words, url=values.as_text(ad.get("sourceURL")))


def _with_mention_names(text: str, mentioned: Collection[str], context: MessageContext) -> str:
    """`@4917…` as people read it: with the name in place of the number, where it is known."""
    names_of = {jid.partition("@")[0]: context.people.get(jid, "") for jid in mentioned if jid not in context.me}
    called = {user: " ".join(name.split())[:MAX_NAME] for user, name in names_of.items()}
    return re.sub(r"@(\d+)", lambda found: f"@{called.get(found[1]) or found[1]}", text)


# --- the line ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageInfo:
    """Where, when and by whom a message was written."""

    id: str
    chat: str
    sender: str
    sender_name: str
    sent_at: float
    is_group: bool


def to_message(
    content: Json, info: MessageInfo, context: MessageContext, *, file: File | None = None
) -> Message | None:
    """The line for the host; None for what no person wrote."""
    parsed = parse_content(content, context)
    if parsed is None or (parsed.kind == "message" and not parsed.text and not parsed.parts and file is None):
        return None
    # An edit may carry the id of what it changes.
    id = f"{info.id}/{parsed.change}" if parsed.kind == "edit" else info.id
    mentioned = {*parsed.mentioned, parsed.quotes}
    return Message(
        key=f"{info.chat} {id}",
        kind=parsed.kind,
        id=id,
        chat=info.chat,
        sender=info.sender,
        sender_name=info.sender_name,
        text=jids.strip_mention(parsed.text, context.me) if info.is_group else parsed.text,
        sent_at=info.sent_at,
        is_group=info.is_group,
        mentions_me=bool(mentioned.intersection(context.me)),
        refers_to=parsed.refers_to,
        file=file if parsed.kind == "message" else None,
        parts=list(parsed.parts),
        album=parsed.album,
    )
