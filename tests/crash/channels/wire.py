# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "wire"
# api = 1
# ///
"""A platform of people on loopback, as JSON lines over TCP: see tests/crash/platform.py for the other end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from nanohost.channel_api import (
    Address,
    Ambiguous,
    Capabilities,
    Channel,
    ChannelContext,
    ChannelDown,
    EventKind,
    InboundEvent,
    Inbox,
    OutboundCard,
    OutboundText,
    RateLimited,
    Receipt,
    Sender,
)


def create(context: ChannelContext) -> Channel:
    made = FullFeatureWireChannel if context.settings.get("able") else WireChannel
    return made(int(context.settings["port"]), idempotent=bool(context.settings.get("idempotent", True)))


TEXT_LIMIT = 500
"""Characters: people who write long messages get long answers, in parts."""
CARD_LIMIT = 4000
"""The same where there are buttons."""


class WireChannel:
    """One connection, made again when it was cut; events without an acknowledgement are delivered again."""

    def __init__(self, port: int, *, idempotent: bool, text_limit: int = TEXT_LIMIT, buttons: int = 0) -> None:
        self.capabilities = Capabilities(idempotent_send=idempotent, text_limit=text_limit, buttons=buttons)
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[str, asyncio.Future[str]] = {}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        await self._connect()
        yield
        self._close()

    async def receive(self, inbox: Inbox) -> None:
        if self._reader is None:
            await self._connect()
        assert self._reader is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                while line := await self._reader.readline():
                    message = json.loads(line)
                    if "sent" in message:
                        self._resolve(message["sent"], message["id"])
                    elif "failed" in message:
                        self._fail(message["failed"], limited=message["limited"])
                    else:
                        tasks.create_task(self._accept(inbox, message))
        finally:
            self._close()

    async def _accept(self, inbox: Inbox, message: dict[str, Any]) -> None:
        handle = message.get("sender", "ann")
        await inbox.accept(
            InboundEvent(
                platform_id=message["chat"],
                platform_message_id=message["id"],
                sender=Sender(handle=handle, name=handle.capitalize()),
                text=message["text"],
                sent_at=datetime.now(UTC),
                kind=EventKind.CLICK if "value" in message else EventKind.MESSAGE,
                is_group=message.get("group", False),
                chat_name=message["chat"],
                value=message.get("value"),
            )
        )
        self._write({"ack": message["id"]})

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._send(address, message.text, idempotency_key)

    async def _send(self, address: Address, text: str, key: str, **more: object) -> Receipt:
        once = self.capabilities.idempotent_send
        words = {"send": key, "once": once, "chat": address.platform_id, "text": text}
        return Receipt(platform_message_ids=(await self._wait_for_answer(key, {**words, **more}),))

    async def _wait_for_answer(self, key: str, words: dict[str, object]) -> str:
        """The platform's answer to it. Raises ChannelError."""
        if self._writer is None:
            raise ChannelDown("the wire is not connected")
        answer = self._answers.setdefault(key, asyncio.get_running_loop().create_future())
        self._write(words)
        return await answer

    async def _connect(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        except OSError:
            self._reader = self._writer = None

    def _write(self, message: Mapping[str, object]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\n")

    def _resolve(self, key: str, id: str) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None and not answer.done():
            answer.set_result(id)

    def _fail(self, key: str, *, limited: bool) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None and not answer.done():
            error = RateLimited("429", retry_after_s=0.2) if limited else Ambiguous("500")
            answer.set_exception(error)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Ambiguous("the wire was cut"))
        self._answers.clear()


class FullFeatureWireChannel(WireChannel):
    """A platform with buttons, edits, and direct chats that the bot can open."""

    def __init__(self, port: int, *, idempotent: bool) -> None:
        super().__init__(port, idempotent=idempotent, text_limit=CARD_LIMIT, buttons=3)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        buttons = [{"label": one.label, "value": one.value} for one in card.buttons]
        return await self._send(address, card.text, idempotency_key, buttons=buttons)

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        key = f"edit-{uuid4()}"
        await self._wait_for_answer(key, {"edit": message_id, "key": key, "text": message.text})

    async def open_dm(self, handle: str) -> Address:
        return Address(platform_id=f"dm-{handle}")
