"""A FakeChannel whose platform can do everything: buttons, files both ways, edits, reactions, DMs, looking things up.

What is declared is set with `capabilities`, as ever; all moods of the FakeChannel hold for cards and files too.

    files               what people's files hold, by `ref`; one that is missing is Refused
    fetch_failures_left         that many fetches are NotSent before one succeeds
    uneditable          edits are Refused
    next_edit_error       what the next edit raises, before it takes effect
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nanohost.channel_api import (
    Accepted,
    Address,
    Attachment,
    Button,
    Capabilities,
    ChannelError,
    Condition,
    EventKind,
    InboundEvent,
    NotSent,
    OutboundCard,
    OutboundFile,
    OutboundText,
    Receipt,
    Refused,
    Sender,
)
from nanohost.testing.fake_channel import PERSON, FakeChannel, SentMessage
from nanohost.testing.time_limits import HANG_TIMEOUT_S

FULL_CAPABILITIES = Capabilities(
    buttons=5, button_label=20, file_bytes=1_000_000, caption_limit=60, reactions=frozenset({"👍", "👎", "🤔"})
)


class FullFeatureChannel(FakeChannel):
    """Satisfies every optional protocol but FindsSent."""

    def __init__(self, *, capabilities: Capabilities = FULL_CAPABILITIES) -> None:
        super().__init__(capabilities=capabilities)
        self.edits: list[tuple[str, str]] = []
        """Every edit that took effect: the message's id and what it says since."""
        self.reactions: list[tuple[str, str]] = []
        self.files: dict[str, bytes] = {}
        self.fetch_failures_left = 0
        self.should_refuse_edits = False
        self.next_edit_error: ChannelError | None = None
        self.current_condition = (Condition.UP, "")
        self._attached_content: dict[str, SentMessage] = {}

    # The people

    async def person_presses(
        self, message: SentMessage, button: Button, *, chat: str | None = None, sender: Sender = PERSON
    ) -> Accepted:
        """Somebody presses a button. The platform tells no thread."""
        return await self.emit_event(
            InboundEvent(
                platform_id=chat or message.address.platform_id,
                platform_message_id=f"press{self._next_message_number()}",
                sender=sender,
                text=button.label,
                sent_at=datetime.now(UTC),
                kind=EventKind.CLICK,
                refers_to=f"fake-{message.order}",
                value=button.value,
            )
        )

    async def person_sends(self, text: str, *files: Attachment, chat: str = "c1") -> Accepted:
        """Somebody writes, with files."""
        return await self.emit_event(
            InboundEvent(
                platform_id=chat,
                platform_message_id=f"m{self._next_message_number()}",
                sender=PERSON,
                text=text,
                sent_at=datetime.now(UTC),
                attachments=files,
            )
        )

    # The channel

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        can = self.capabilities
        if not 0 < len(card.buttons) <= can.buttons or any(len(one.label) > can.button_label for one in card.buttons):
            raise Refused("the fake platform has no such buttons")
        return await self._send_with(address, card, idempotency_key, buttons=card.buttons)

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        content = await asyncio.to_thread(file.content.read_bytes)
        if len(content) != file.size or file.size > self.capabilities.file_bytes:
            raise Refused("the fake platform does not take this file")
        return await self._send_with(address, file, idempotency_key, file_name=file.name, content=content)

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        self.attempts[f"edit {message_id}"] += 1
        await self._notify()
        await self._send_gate.wait()
        self._raise_configured_error(address)
        failure, self.next_edit_error = self.next_edit_error, None
        if failure is not None:
            raise failure
        at = self._index_of(message_id)
        if at is None or self.should_refuse_edits:
            raise Refused("there is no such message to edit")
        buttons = message.buttons if isinstance(message, OutboundCard) else ()
        self.sent[at] = replace(self.sent[at], text=message.text, plain=message.plain, buttons=buttons)
        self.edits.append((message_id, message.text))
        await self._notify()

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        self._raise_configured_error(address)
        known = self.capabilities.reactions
        if known is not None and emoji not in known:
            raise Refused(f"the fake platform has no {emoji}")
        self.reactions.append((message_id, emoji))
        await self._notify()

    async def open_dm(self, handle: str) -> Address:
        return Address(platform_id=f"dm-{handle}")

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        if self.fetch_failures_left > 0:
            self.fetch_failures_left -= 1
            raise NotSent("the fake platform does not have it yet")
        content = self.files.get(attachment.ref)
        if content is None or len(content) > most_bytes:
            raise Refused("it is gone" if content is None else "it is too large")
        await asyncio.to_thread(into.write_bytes, content)

    async def check(self) -> str:
        if self.credentials_revoked:
            raise Refused("the fake platform does not know us")
        return "We are the fake bot."

    def condition(self) -> tuple[Condition, str]:
        return self.current_condition

    async def wait_for_edits(self, text: str, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Until a message was edited to this."""
        await self._wait(lambda: any(said == text for _, said in self.edits), f"edit to {text!r}", timeout_s)

    async def wait_for_reactions(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> list[tuple[str, str]]:
        await self._wait(lambda: len(self.reactions) >= count, f"react {count} times", timeout_s)
        return list(self.reactions)

    async def _send_with(
        self,
        address: Address,
        message: OutboundCard | OutboundFile,
        key: str,
        *,
        buttons: tuple[Button, ...] = (),
        file_name: str | None = None,
        content: bytes = b"",
    ) -> Receipt:
        self._attached_content[key] = SentMessage(
            address=address,
            text="",
            reply_to=None,
            key=key,
            order=0,
            buttons=buttons,
            file_name=file_name,
            content=content,
        )
        words = OutboundText(text=message.text, reply_to=message.reply_to, plain=message.plain)
        return await self.send(address, words, idempotency_key=key)

    async def _deliver(self, address: Address, message: OutboundText, key: str) -> SentMessage:
        shown = await super()._deliver(address, message, key)
        if (riding := self._attached_content.pop(key, None)) is not None:
            shown = replace(shown, buttons=riding.buttons, file_name=riding.file_name, content=riding.content)
            self.sent[shown.order - 1] = self._by_key[key] = shown
        return shown

    def _index_of(self, message_id: str) -> int | None:
        return next((at for at, one in enumerate(self.sent) if f"fake-{one.order}" == message_id), None)


class FindsSentChannel(FullFeatureChannel):
    """The same, and its platform can be asked what became of a send."""

    def __init__(self, *, capabilities: Capabilities = FULL_CAPABILITIES) -> None:
        super().__init__(capabilities=capabilities)
        self.looked_up_keys: list[str] = []
        """The keys it was asked for."""

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        self.looked_up_keys.append(idempotency_key)
        self._raise_configured_error(address)
        found = self._by_key.get(idempotency_key)
        return Receipt(platform_message_ids=(f"fake-{found.order}",)) if found else None
