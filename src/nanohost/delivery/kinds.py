"""Each kind of message on its way to a channel: what it is cut into, what the channel is asked to do, what is left out.

Degraded here, once, for all channels: what a platform cannot do is said in words, or not at all, and never with an
error that a person sees. A file is copied out of the container's reach before a channel reads it.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from nanohost.channel_api import (
    Address,
    Channel,
    Edits,
    OutboundCard,
    OutboundFile,
    OutboundText,
    Reacts,
    Receipt,
    Refused,
    RefusedHere,
    SendsCards,
    SendsFiles,
)
from nanohost.delivery import files
from nanohost.delivery.cutting import cut, passes_unchanged
from nanohost.delivery.manner import Manner, choices, fits_a_caption, manner_of, reaction
from nanohost.delivery.marks import HOST_HEADER, disarmed, from_agent
from nanohost.delivery.removals import Removals
from nanohost.delivery.render import render
from nanohost.file_names import shortened
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import HOST, SessionId
from nanohost.store import deliveries, questions, sessions
from nanohost.store.cards import options_of
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery, DeliveryStatus, StoredPart
from nanohost.store.notice_numbers import is_notice, is_trouble
from nanohost.store.questions import QuestionStatus
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import EditOut, FileOut, OutPayload, ReactionOut, decode_out
from nanohost_protocol.rows import OutKind

LONG_TEXT = 2_000
"""Characters; what is longer is cut in a thread, so that nothing else waits for it."""
MOST_REMEMBERED = 10_000
"""Sessions whose agent is known without a look; it never changes."""
SUPERSEDED = "superseded"
LEFT_THREAD = "The topic that this is for was deleted or closed, so it comes here:"

_log = structlog.get_logger()


class Kinds:
    """One per host."""

    def __init__(self, store: Store, mailboxes: Mailboxes, removals: Removals) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._removals = removals
        self._agents: dict[SessionId, str] = {}

    async def left_out(self, delivery: Delivery, channel: Channel) -> str | None:
        """Why this is not to be sent any more, with nothing wrong about it; None for most messages."""
        if delivery.kind == OutKind.QUESTION:
            return await self._unasked(delivery)
        if delivery.kind not in (OutKind.EDIT, OutKind.REACTION):
            return None
        payload = decode_out(delivery.kind, delivery.content)
        manner = manner_of(payload, channel)
        match payload:
            case EditOut(message=number):
                if await deliveries.is_changed_later(self._store, delivery, number):
                    return SUPERSEDED
                if manner is Manner.WORDS:
                    if delivery.lane.session_id == HOST:
                        return None  # how something ended that somebody was asked about: nothing else says it
                    return SUPERSEDED if await deliveries.is_followed(self._store, delivery) else None
            case ReactionOut(emoji=emoji) if manner is Manner.WORDS:
                shown = (
                    emoji[:8] if emoji.isprintable() else ascii(emoji[:8])
                )  # half a character cannot be put on record
                return f"the platform has no reaction like {shown}"
        known = await self._target(delivery, payload)
        return None if known else "the message that it is about was not sent, or is not known any more"

    async def _unasked(self, delivery: Delivery) -> str | None:
        """A question that was closed on its way: whoever answered would read that nobody waits for it."""
        question = await questions.find(self._store, delivery.lane.session_id, delivery.seq)
        is_closed = question is not None and question.status is QuestionStatus.CLOSED
        return "the question was closed before it was asked" if is_closed else None

    def waits_for_the_end(self, delivery: Delivery, channel: Channel) -> bool:
        """Whether only the end of the turn tells if it is to be sent: it would be a message of its own."""
        return delivery.kind == OutKind.EDIT and not isinstance(channel, Edits)

    async def parts(self, delivery: Delivery, channel: Channel | None) -> Sequence[StoredPart]:
        """The messages that it takes, one at least. The last one carries what is more than words."""
        manner = Manner.WORDS if channel is None else await self._manner(delivery, channel)
        text = await self._text(delivery, channel, manner)
        whole = StoredPart(number=0, of=1, text=text, plain=text)
        if channel is None or (manner is Manner.WORDS and passes_unchanged(channel.capabilities)):
            return [whole]
        parts = await self._cut(delivery, whole, channel)
        if manner is Manner.FILE and (len(parts) > 1 or not fits_a_caption(parts[0], channel.capabilities)):
            of = len(parts) + 1
            words = [replace(part, of=of) for part in parts]
            return [*words, StoredPart(number=of - 1, of=of, text="", plain="")]
        if manner is Manner.CARD and len(parts) > 1:
            return await self._with_buttons_apart(delivery, parts, channel)
        return parts

    async def _with_buttons_apart(
        self, delivery: Delivery, parts: Sequence[StoredPart], channel: Channel
    ) -> Sequence[StoredPart]:
        """A card that takes several messages: its buttons stand below words of ours, never below the end of theirs."""
        of = len(parts) + 1
        words = f"{await self._header(delivery)} {'decide here' if delivery.lane.session_id == HOST else 'choose here'}"
        [last] = await self._cut(delivery, StoredPart(number=0, of=1, text=words, plain=words), channel)
        return [*(replace(part, of=of) for part in parts), replace(last, number=of - 1, of=of)]

    async def send(self, channel: Channel, delivery: Delivery, part: StoredPart, key: str) -> Receipt:
        """Hand one part to the channel. Raises ChannelError, and whatever a channel should not raise."""
        address = Address(platform_id=delivery.platform_id, thread_id=delivery.thread_id)
        reply_to = delivery.reply_to if part.number == 0 else None
        message = OutboundText(
            text=part.text,
            reply_to=reply_to,
            plain=part.plain,
            agent=await self._agent(delivery),
            is_trouble=is_trouble(delivery.seq),
            at=max(delivery.created_at, delivery.not_before or delivery.created_at),
        )
        match await self._manner(delivery, channel):
            case Manner.CARD if part.is_last and isinstance(channel, SendsCards):
                options = choices(delivery, options_of(delivery.kind, delivery.content), channel.capabilities)
                card = OutboundCard(text=part.text, buttons=options.buttons, reply_to=reply_to, plain=part.plain)
                return await channel.send_card(address, card, idempotency_key=key)
            case Manner.FILE if part.is_last and isinstance(channel, SendsFiles):
                most_bytes = channel.capabilities.file_bytes
                return await self._send_file(channel, delivery, address, message, key, most_bytes=most_bytes)
            case Manner.EDIT if part.number == 0 and isinstance(channel, Edits):
                try:
                    return await self._edit(channel, delivery, address, message)
                except Refused:
                    if delivery.lane.session_id != HOST:
                        raise
                    return await channel.send(address, message, idempotency_key=key)  # it is said nowhere else
            case Manner.REACTION if isinstance(channel, Reacts):
                return await self._react(channel, delivery, address, channel.capabilities.reactions)
            case _ if not part.text.strip() and delivery.kind == OutKind.FILE:
                text = await self._text(delivery, channel, Manner.WORDS)
                [words, *_] = await self._cut(delivery, replace(part, text=text, plain=text), channel)
                return await channel.send(
                    address, OutboundText(text=words.text, plain=words.plain), idempotency_key=key
                )
            case _:
                return await channel.send(address, message, idempotency_key=key)

    async def file_bytes(self, delivery: Delivery, channel: Channel) -> int:
        """How large the file is that would go out with it; 0 without one."""
        payload = decode_out(delivery.kind, delivery.content) if delivery.kind == OutKind.FILE else None
        if not isinstance(payload, FileOut) or not isinstance(channel, SendsFiles):
            return 0
        layout = await self._layout(delivery)
        return await asyncio.to_thread(files.size_of, layout, delivery.out_id, payload.name) or 0

    async def sent(self, delivery: Delivery, channel: Channel | None) -> None:
        """The receipt is stored: what was only there to be sent goes."""
        if delivery.kind != OutKind.FILE:
            return
        layout = await self._layout(delivery)
        if channel is not None and await self._manner(delivery, channel) is Manner.FILE:
            await self._mailboxes.in_folder(files.empty_copy, layout, delivery.out_id)
            self._removals.add(delivery.lane.session_id, layout, delivery.out_id)
        else:
            await self._mailboxes.in_folder(files.drop_copy, layout, delivery.out_id)

    async def tidy(self) -> None:
        """Do what the last host was killed before: a copy that is left says that its row was sent as a file."""
        layouts = {one.id: self._mailboxes.layout(one) async for one in sessions.every(self._store.reports)}
        for id, copies in (await asyncio.to_thread(_left, layouts)).items():
            for out_id in copies:
                status = await deliveries.status_of(self._store, id, out_id)
                if status is DeliveryStatus.SENT:
                    self._removals.add(id, layouts[id], out_id)
                elif status not in (DeliveryStatus.PENDING, DeliveryStatus.SENDING):
                    await self._mailboxes.in_folder(files.drop_copy, layouts[id], out_id)

    async def _manner(self, delivery: Delivery, channel: Channel) -> Manner:
        if delivery.kind == OutKind.CHAT:
            return Manner.WORDS
        payload = decode_out(delivery.kind, delivery.content)
        size = None
        if isinstance(payload, FileOut) and isinstance(channel, SendsFiles):
            layout = await self._layout(delivery)
            size = await self._mailboxes.in_folder(files.size_of, layout, delivery.out_id, payload.name)
        return manner_of(payload, channel, file_size=size)

    async def _text(self, delivery: Delivery, channel: Channel | None, manner: Manner) -> str:
        """What it says, in Markdown, and by whom where there is something to choose; see marks.py."""
        said = await self._said(delivery, channel, manner)
        if delivery.left_thread and manner is not Manner.REACTION:
            said = f"{LEFT_THREAD}\n\n{said}"
        if delivery.lane.session_id == HOST:
            return f"{HOST_HEADER}\n{said}" if delivery.kind == OutKind.CARD else said
        if delivery.kind == OutKind.CARD or options_of(delivery.kind, delivery.content):
            return f"{await self._header(delivery)}\n{disarmed(said)}"
        return disarmed(said)

    async def _header(self, delivery: Delivery) -> str:
        if delivery.lane.session_id == HOST:
            return HOST_HEADER
        return from_agent((await sessions.get(self._store, delivery.lane.session_id)).group_folder)

    async def _agent(self, delivery: Delivery) -> str:
        """Whose words they are; empty for the host's own."""
        id = delivery.lane.session_id
        if id == HOST or is_notice(delivery.seq):
            return ""
        if id not in self._agents:
            if len(self._agents) >= MOST_REMEMBERED:
                self._agents.clear()
            self._agents[id] = (await sessions.get(self._store, id)).group_folder
        return self._agents[id]

    async def _said(self, delivery: Delivery, channel: Channel | None, manner: Manner) -> str:
        """In Markdown; for a card or a file what is said beside the buttons or the file."""
        kind, content = delivery.kind, delivery.content
        if manner is Manner.REACTION:
            return ""
        if manner is Manner.CARD and channel is not None:
            legend = choices(delivery, options_of(kind, content), channel.capabilities).legend
            said = render(kind, content, choices=False) or ""
            return "\n".join([said, *legend]) if said.strip() else render(kind, content) or ""
        if manner is Manner.FILE:
            payload = decode_out(kind, content)
            return payload.caption if isinstance(payload, FileOut) else ""
        if kind == OutKind.FILE:
            about_file = partial(files.in_words, await self._layout(delivery), delivery.out_id)
            return await self._mailboxes.in_folder(render, kind, content, about_file) or ""
        return render(kind, content) or ""

    async def _cut(self, delivery: Delivery, whole: StoredPart, channel: Channel) -> Sequence[StoredPart]:
        try:
            if len(whole.text) > LONG_TEXT:
                return await asyncio.to_thread(cut, whole.text, channel.capabilities) or [whole]
            return cut(whole.text, channel.capabilities) or [whole]
        except Exception as error:
            _log.error("not_rendered", session=delivery.lane.session_id, message=delivery.out_id, exc_info=error)
            unpinging = _unpinging(whole.text)
            return [replace(whole, text=unpinging, plain=unpinging)]  # rather than silence

    async def _send_file(
        self,
        channel: SendsFiles,
        delivery: Delivery,
        address: Address,
        words: OutboundText,
        key: str,
        *,
        most_bytes: int,
    ) -> Receipt:
        payload = decode_out(delivery.kind, delivery.content)
        assert isinstance(payload, FileOut), "it is sent as a file"
        layout = await self._layout(delivery)
        is_sent = False
        try:
            copy = await self._mailboxes.in_folder(files.copy, layout, delivery.out_id, payload.name, most_bytes)
            name = files.shown_name(payload.name)
            file = OutboundFile(
                name=name,
                media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
                size=copy.stat().st_size,
                content=copy,
                text=words.text,
                plain=words.plain,
                reply_to=words.reply_to,
            )
            receipt = await channel.send_file(address, file, idempotency_key=key)
            is_sent = True
            return receipt
        except OSError as error:
            raise RefusedHere(
                f"the file {shortened(payload.name, 100)!r} cannot be read: {error.strerror or error}"
            ) from error
        finally:
            if not is_sent:  # else it is kept until the receipt is stored, see `tidy`
                await self._mailboxes.in_folder(files.drop_copy, layout, delivery.out_id)

    async def _edit(self, channel: Edits, delivery: Delivery, address: Address, message: OutboundText) -> Receipt:
        target = await self._target(delivery, decode_out(delivery.kind, delivery.content))
        if target is None:
            raise RefusedHere("the message that it changes is not known any more")
        await channel.edit(address, target, replace(message, reply_to=None))
        return Receipt(platform_message_ids=(target,))

    async def _react(
        self, channel: Reacts, delivery: Delivery, address: Address, known: frozenset[str] | None
    ) -> Receipt:
        payload = decode_out(delivery.kind, delivery.content)
        target = await self._target(delivery, payload)
        emoji = reaction(payload.emoji, known) if isinstance(payload, ReactionOut) else None
        if target is None or emoji is None:
            raise RefusedHere("the message that it is about is not known any more")
        await channel.react(address, target, emoji)
        return Receipt()

    async def _target(self, delivery: Delivery, payload: OutPayload) -> str | None:
        """The platform's id of the message that an edit or a reaction is about: of ours, the last part."""
        if not isinstance(payload, EditOut | ReactionOut):
            return None
        if payload.message % 2 == 0:
            return delivery.reply_to
        ours = await deliveries.find(self._store, delivery.lane.session_id, payload.message)
        if ours is None or ours.lane.chat != delivery.lane.chat:  # where a chat has moved to nobody has that message
            return None
        return ours.receipt[-1] if ours.status is DeliveryStatus.SENT and ours.receipt else None

    async def _layout(self, delivery: Delivery) -> SessionLayout:
        return self._mailboxes.layout(await sessions.get(self._store, delivery.lane.session_id))


def _left(layouts: Mapping[SessionId, SessionLayout]) -> Mapping[SessionId, Sequence[str]]:
    return {id: copies for id, layout in layouts.items() if (copies := files.copies(layout))}


def _unpinging(text: str) -> str:
    """A text that could not be rendered, such that it names nobody and opens no tag."""
    return text.replace("@", "@\u200b").replace("<", "<\u200b")
