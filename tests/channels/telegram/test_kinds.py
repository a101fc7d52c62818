"""Every kind of message that people can send on Telegram reaches the agent as what it is, and the table in
docs/channels/telegram.md says as what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nanohost.channel_api import InboundEvent
from nanohost.model import EventId, WiringId
from nanohost.routing.albums import joined
from nanohost.routing.message import message_for
from nanohost.store.events import ChatKey, StoredEvent
from nanohost.testing.manual_clock import START
from nanohost.testing.simulator import ADA
from nanohost.testing.simulators._telegram_kinds import SERVICE
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost_protocol.rows import MessageIn

from .bench import GROUP, receiving
from .reading import shown

PAGE = Path(__file__).parents[3] / "docs" / "channels" / "telegram.md"
BEGIN, END = "<!-- what arrives as what: generated -->", "<!-- end -->"


async def test_every_kind_arrives_as_what_the_page_says_it_does() -> None:
    rows = [f"| {kind} | {as_read(events)} |" for kind, events in (await arrived()).items()]
    table = "\n".join(["| what somebody sends | what the agent reads |", "|---|---|", *rows])
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == table


async def test_no_kind_is_silence_and_somebody_elses_words_are_never_the_senders_own() -> None:
    for kind, events in (await arrived()).items():
        whole = joined([stored(one) for one in events])
        assert whole.text or whole.parts, kind
        if kind.startswith("forward") or kind == "message through another bot":
            assert whole.text == "", kind


@pytest.mark.parametrize("kind", SERVICE)
async def test_what_telegram_says_itself_wakes_nobody(kind: str) -> None:
    async with receiving() as here:
        await here.telegram.service(GROUP, SERVICE[kind])
        await here.telegram.write(GROUP, "the end", group=True)
        await here.inbox.until_accepted("the end")
    assert [event.text for event in here.inbox.accepted] == ["the end"]


async def arrived() -> dict[str, list[InboundEvent]]:
    """What the bot was told of each kind."""
    telegram, numbers = TelegramSimulator(), dict[str, list[str]]()
    for kind in telegram.kinds():
        numbers[kind] = list(await telegram.send_kind(kind, ADA.id))
    async with receiving(telegram) as here:
        await telegram.write(ADA.id, "the end")
        await here.inbox.until_accepted("the end")
    events = {event.platform_message_id: event for event in here.inbox.accepted}
    return {kind: [events[id] for id in ids] for kind, ids in numbers.items()}


def stored(event: InboundEvent) -> StoredEvent:
    chat = ChatKey("telegram", "default", event.platform_id)
    return StoredEvent(id=EventId(1), chat=chat, event=event, received_at=event.sent_at)


def as_read(events: list[InboundEvent]) -> str:
    """The agent's view of these, which are one message, in a cell of a table."""
    whole = joined([stored(one) for one in events])
    new = message_for(stored(whole), WiringId(1))
    row = MessageIn(
        seq=2,
        id=new.id,
        kind=new.kind,
        timestamp=START,
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=new.origin,
        content=new.content,
    )
    inside = re.sub(r"^.*?<message[^>]*>|</message>$", "", shown([row]), flags=re.DOTALL).strip()
    files = [f"file {one.name or 'without a name'}" for one in whole.attachments]
    lines = [*inside.splitlines(), *files]
    return "<br>".join(f"`{line}`" for line in lines if line)
