"""Handles each kind of message for a channel: splits it, calls the channel, and skips what need not be sent.

The fallbacks for all channels are here: what a platform cannot do is sent as text or left out, and never causes an
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
from nanohost.db import deliveries, questions, sessions
from nanohost.db.cards import options_of
from nanohost.db.database import Store
from nanohost.db.deliveries import Delivery, DeliveryPart, DeliveryStatus
from nanohost.db.notice_numbers import is_error_notice, is_notice
from nanohost.db.questions import QuestionStatus
from nanohost.delivery import files
from nanohost.delivery.fallback import SendMode, choose_send_mode, fits_caption, lay_out_buttons, map_reaction
from nanohost.delivery.host_header import agent_header, escape_host_header, host_header
from nanohost.delivery.outbox_cleaner import OutboxCleaner
from nanohost.delivery.render import is_passthrough, render, split_for_channel
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import HOST_SESSION_ID, SessionId
from nanohost.text.file_names import shorten_file_name
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import EditOut, FileOut, OutPayload, ReactionOut, decode_out
from nanohost_protocol.rows import OutKind

LONG_TEXT_CHARS = 2_000
"""Characters; a longer text is split in a thread, so that it does not block the event loop."""
MAX_CACHED_AGENTS = 10_000
"""Sessions whose agent's name is cached; it never changes."""
SUPERSEDED = "superseded"
THREAD_GONE_NOTE = gettext_noop("The topic that this is for was deleted or closed, so it comes here:")

_log = structlog.get_logger()


class KindHandlers:
    """One per host."""

    def __init__(self, store: Store, mailboxes: Mailboxes, outbox_cleaner: OutboxCleaner) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._outbox_cleaner = outbox_cleaner
        self._agent_names: dict[SessionId, str] = {}

    async def skip_reason(self, delivery: Delivery, channel: Channel) -> str | None:
        """Returns why the message is to be skipped, without an error; None for most messages."""
        if delivery.kind == OutKind.QUESTION:
            return await self._closed_question_reason(delivery)
        if delivery.kind not in (OutKind.EDIT, OutKind.REACTION):
            return None
        payload = decode_out(delivery.kind, delivery.content)
        manner = choose_send_mode(payload, channel)
        match payload:
            case EditOut(message=number):
                if await deliveries.has_later_edit(self._store, delivery, number):
                    return SUPERSEDED
                if manner is SendMode.TEXT:
                    if delivery.queue.session_id == HOST_SESSION_ID:
                        return None  # the result on a card: no other message says it
                    return SUPERSEDED if await deliveries.has_later_message(self._store, delivery) else None
            case ReactionOut(emoji=emoji) if manner is SendMode.TEXT:
                shown = emoji[:8] if emoji.isprintable() else ascii(emoji[:8])  # an unpaired surrogate cannot be stored
                return f"the platform has no reaction like {shown}"
        known = await self._target_message_id(delivery, payload)
        return None if known else "the message that it is about was not sent, or is not known any more"

    async def _closed_question_reason(self, delivery: Delivery) -> str | None:
        """Returns why a question is to be skipped that was closed before it was sent; None if it is open."""
        question = await questions.find(self._store, delivery.queue.session_id, delivery.seq)
        is_closed = question is not None and question.status is QuestionStatus.CLOSED
        return "the question was closed before it was asked" if is_closed else None

    def waits_for_turn_end(self, delivery: Delivery, channel: Channel) -> bool:
        """Returns whether to decide on it at the end of the turn: an edit that would be sent as a separate message."""
        return delivery.kind == OutKind.EDIT and not isinstance(channel, Edits)

    async def render_parts(self, delivery: Delivery, channel: Channel | None) -> Sequence[DeliveryPart]:
        """Returns the parts of the message, at least one. The last one carries the buttons or the file."""
        mode = SendMode.TEXT if channel is None else await self._send_mode(delivery, channel)
        text = await self._full_text(delivery, channel, mode)
        whole = DeliveryPart(number=0, of=1, text=text, plain=text)
        if channel is None or (mode is SendMode.TEXT and is_passthrough(channel.capabilities)):
            return [whole]
        parts = await self._split(delivery, whole, channel)
        if mode is SendMode.FILE and (len(parts) > 1 or not fits_caption(parts[0], channel.capabilities)):
            of = len(parts) + 1
            text_parts = [replace(part, of=of) for part in parts]
            return [*text_parts, DeliveryPart(number=of - 1, of=of, text="", plain="")]
        if mode is SendMode.CARD and len(parts) > 1:
            return await self._with_separate_buttons(delivery, parts, channel)
        return parts

    async def _with_separate_buttons(
        self, delivery: Delivery, parts: Sequence[DeliveryPart], channel: Channel
    ) -> Sequence[DeliveryPart]:
        """Returns the parts of a long card: its buttons are below a line of the host, not below the agent's text."""
        of = len(parts) + 1
        is_host = delivery.queue.session_id == HOST_SESSION_ID
        words = f"{await self._header(delivery)} {_('decide here') if is_host else _('choose here')}"
        [last] = await self._split(delivery, DeliveryPart(number=0, of=1, text=words, plain=words), channel)
        return [*(replace(part, of=of) for part in parts), replace(last, number=of - 1, of=of)]

    async def send(self, channel: Channel, delivery: Delivery, part: DeliveryPart, key: str) -> Receipt:
        """Sends one part by the channel. Raises ChannelError, and any error that a channel should not raise."""
        address = Address(platform_id=delivery.platform_id, thread_id=delivery.thread_id)
        reply_to = delivery.reply_to if part.number == 0 else None
        message = OutboundText(
            text=part.text,
            reply_to=reply_to,
            plain=part.plain,
            agent=await self._agent_name(delivery),
            is_trouble=is_error_notice(delivery.seq),
            at=max(delivery.created_at, delivery.not_before or delivery.created_at),
        )
        match await self._send_mode(delivery, channel):
            case SendMode.CARD if part.is_last and isinstance(channel, SendsCards):
                options = lay_out_buttons(delivery, options_of(delivery.kind, delivery.content), channel.capabilities)
                card = OutboundCard(text=part.text, buttons=options.buttons, reply_to=reply_to, plain=part.plain)
                return await channel.send_card(address, card, idempotency_key=key)
            case SendMode.FILE if part.is_last and isinstance(channel, SendsFiles):
                most_bytes = channel.capabilities.file_bytes
                return await self._send_file(channel, delivery, address, message, key, max_bytes=most_bytes)
            case SendMode.EDIT if part.number == 0 and isinstance(channel, Edits):
                try:
                    return await self._edit(channel, delivery, address, message)
                except Refused:
                    if delivery.queue.session_id != HOST_SESSION_ID:
                        raise
                    return await channel.send(address, message, idempotency_key=key)  # no other message says it
            case SendMode.REACTION if isinstance(channel, Reacts):
                return await self._react(channel, delivery, address, channel.capabilities.reactions)
            case _ if not part.text.strip() and delivery.kind == OutKind.FILE:
                text = await self._full_text(delivery, channel, SendMode.TEXT)
                [words, *_] = await self._split(delivery, replace(part, text=text, plain=text), channel)
                return await channel.send(
                    address, OutboundText(text=words.text, plain=words.plain), idempotency_key=key
                )
            case _:
                return await channel.send(address, message, idempotency_key=key)

    async def file_size_bytes(self, delivery: Delivery, channel: Channel) -> int:
        """Returns the size of the file that would be sent with it; 0 without one."""
        payload = decode_out(delivery.kind, delivery.content) if delivery.kind == OutKind.FILE else None
        if not isinstance(payload, FileOut) or not isinstance(channel, SendsFiles):
            return 0
        layout = await self._layout(delivery)
        return await asyncio.to_thread(files.file_size, layout, delivery.out_id, payload.name) or 0

    async def on_sent(self, delivery: Delivery, channel: Channel | None) -> None:
        """Removes the copy and the files of a sent message. The receipt must be stored before."""
        if delivery.kind != OutKind.FILE:
            return
        layout = await self._layout(delivery)
        if channel is not None and await self._send_mode(delivery, channel) is SendMode.FILE:
            await self._mailboxes.run_in_folder_pool(files.clear_copy, layout, delivery.out_id)
            self._outbox_cleaner.add(delivery.queue.session_id, layout, delivery.out_id)
        else:
            await self._mailboxes.run_in_folder_pool(files.delete_copy, layout, delivery.out_id)

    async def clean_up_copies(self) -> None:
        """Finishes clean-up that a kill interrupted: a copy that is left shows that its row was sent as a file."""
        layouts = {one.id: self._mailboxes.layout(one) async for one in sessions.iter_all(self._store.reports)}
        for id, copies in (await asyncio.to_thread(_leftover_copies, layouts)).items():
            for out_id in copies:
                status = await deliveries.status_of(self._store, id, out_id)
                if status is DeliveryStatus.SENT:
                    self._outbox_cleaner.add(id, layouts[id], out_id)
                elif status not in (DeliveryStatus.PENDING, DeliveryStatus.SENDING):
                    await self._mailboxes.run_in_folder_pool(files.delete_copy, layouts[id], out_id)

    async def _send_mode(self, delivery: Delivery, channel: Channel) -> SendMode:
        if delivery.kind == OutKind.CHAT:
            return SendMode.TEXT
        payload = decode_out(delivery.kind, delivery.content)
        size = None
        if isinstance(payload, FileOut) and isinstance(channel, SendsFiles):
            layout = await self._layout(delivery)
            size = await self._mailboxes.run_in_folder_pool(files.file_size, layout, delivery.out_id, payload.name)
        return choose_send_mode(payload, channel, file_size=size)

    async def _full_text(self, delivery: Delivery, channel: Channel | None, mode: SendMode) -> str:
        """Returns its text in Markdown, with a header if there are choices; see host_header.py."""
        body = await self._body_text(delivery, channel, mode)
        if delivery.is_detached_from_thread and mode is not SendMode.REACTION:
            body = f"{_(THREAD_GONE_NOTE)}\n\n{body}"
        if delivery.queue.session_id == HOST_SESSION_ID:
            return f"{host_header()}\n{body}" if delivery.kind == OutKind.CARD else body
        if delivery.kind == OutKind.CARD or options_of(delivery.kind, delivery.content):
            return f"{await self._header(delivery)}\n{escape_host_header(body)}"
        return escape_host_header(body)

    async def _header(self, delivery: Delivery) -> str:
        if delivery.queue.session_id == HOST_SESSION_ID:
            return host_header()
        return agent_header((await sessions.get(self._store, delivery.queue.session_id)).group_folder)

    async def _agent_name(self, delivery: Delivery) -> str:
        """Returns the name of the agent that wrote it; empty for messages of the host."""
        id = delivery.queue.session_id
        if id == HOST_SESSION_ID or is_notice(delivery.seq):
            return ""
        if id not in self._agent_names:
            if len(self._agent_names) >= MAX_CACHED_AGENTS:
                self._agent_names.clear()
            self._agent_names[id] = (await sessions.get(self._store, id)).group_folder
        return self._agent_names[id]

    async def _body_text(self, delivery: Delivery, channel: Channel | None, mode: SendMode) -> str:
        """Returns the text in Markdown; for a card or a file, the text beside the buttons or the file."""
        kind, content = delivery.kind, delivery.content
        if mode is SendMode.REACTION:
            return ""
        if mode is SendMode.CARD and channel is not None:
            legend = lay_out_buttons(delivery, options_of(kind, content), channel.capabilities).legend
            text = render(kind, content, with_options=False) or ""
            return "\n".join([text, *legend]) if text.strip() else render(kind, content) or ""
        if mode is SendMode.FILE:
            payload = decode_out(kind, content)
            return payload.caption if isinstance(payload, FileOut) else ""
        if kind == OutKind.FILE:
            describe_file = partial(files.describe_file, await self._layout(delivery), delivery.out_id)
            return await self._mailboxes.run_in_folder_pool(render, kind, content, describe_file) or ""
        return render(kind, content) or ""

    async def _split(self, delivery: Delivery, whole: DeliveryPart, channel: Channel) -> Sequence[DeliveryPart]:
        try:
            if len(whole.text) > LONG_TEXT_CHARS:
                return await asyncio.to_thread(split_for_channel, whole.text, channel.capabilities) or [whole]
            return split_for_channel(whole.text, channel.capabilities) or [whole]
        except Exception as error:
            _log.error("rendering_failed", session=delivery.queue.session_id, message=delivery.out_id, exc_info=error)
            unpinging = _escape_mentions(whole.text)
            return [replace(whole, text=unpinging, plain=unpinging)]  # better than sending nothing

    async def _send_file(
        self,
        channel: SendsFiles,
        delivery: Delivery,
        address: Address,
        message: OutboundText,
        key: str,
        *,
        max_bytes: int,
    ) -> Receipt:
        payload = decode_out(delivery.kind, delivery.content)
        assert isinstance(payload, FileOut), "it is sent as a file"
        layout = await self._layout(delivery)
        is_sent = False
        try:
            copy = await self._mailboxes.run_in_folder_pool(
                files.copy_file, layout, delivery.out_id, payload.name, max_bytes
            )
            name = files.sanitize_name(payload.name)
            file = OutboundFile(
                name=name,
                media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
                size=copy.stat().st_size,
                content=copy,
                text=message.text,
                plain=message.plain,
                reply_to=message.reply_to,
            )
            receipt = await channel.send_file(address, file, idempotency_key=key)
            is_sent = True
            return receipt
        except OSError as error:
            raise RefusedHere(
                f"the file {shorten_file_name(payload.name, 100)!r} cannot be read: {error.strerror or error}"
            ) from error
        finally:
            if not is_sent:  # else it is kept until the receipt is stored, see `on_sent`
                await self._mailboxes.run_in_folder_pool(files.delete_copy, layout, delivery.out_id)

    async def _edit(self, channel: Edits, delivery: Delivery, address: Address, message: OutboundText) -> Receipt:
        target = await self._target_message_id(delivery, decode_out(delivery.kind, delivery.content))
        if target is None:
            raise RefusedHere("the message that it changes is not known any more")
        await channel.edit(address, target, replace(message, reply_to=None))
        return Receipt(platform_message_ids=(target,))

    async def _react(
        self, channel: Reacts, delivery: Delivery, address: Address, supported: frozenset[str] | None
    ) -> Receipt:
        payload = decode_out(delivery.kind, delivery.content)
        target = await self._target_message_id(delivery, payload)
        emoji = map_reaction(payload.emoji, supported) if isinstance(payload, ReactionOut) else None
        if target is None or emoji is None:
            raise RefusedHere("the message that it is about is not known any more")
        await channel.react(address, target, emoji)
        return Receipt()

    async def _target_message_id(self, delivery: Delivery, payload: OutPayload) -> str | None:
        """Returns the platform's id of the message to edit or react to; of a delivery, that of its last part."""
        if not isinstance(payload, EditOut | ReactionOut):
            return None
        if payload.message % 2 == 0:
            return delivery.reply_to
        ours = await deliveries.find(self._store, delivery.queue.session_id, payload.message)
        if (
            ours is None or ours.queue.chat != delivery.queue.chat
        ):  # the message does not exist in the chat that the old one moved to
            return None
        return ours.receipt[-1] if ours.status is DeliveryStatus.SENT and ours.receipt else None

    async def _layout(self, delivery: Delivery) -> SessionLayout:
        return self._mailboxes.layout(await sessions.get(self._store, delivery.queue.session_id))


def _leftover_copies(layouts: Mapping[SessionId, SessionLayout]) -> Mapping[SessionId, Sequence[str]]:
    return {id: copies for id, layout in layouts.items() if (copies := files.list_copies(layout))}


def _escape_mentions(text: str) -> str:
    """Returns a text that could not be rendered, escaped so that it mentions nobody and opens no tag."""
    return text.replace("@", "@\u200b").replace("<", "<\u200b")
