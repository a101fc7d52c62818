"""A card of the host cannot be mistaken for anything an agent says, and a press on an agent's card decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db import host_messages
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.delivery.host_header import HOST_HEADER_TEXT, escape_host_header, host_header
from nanohost.model import EventId
from nanohost.rendering import Form, Limits, split_message
from nanohost.routing.button_handler import ButtonHandler
from nanohost.testing.full_channel import FULL_CAPABILITIES, FullFeatureChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import CardOut, ChatOut
from nanohost_protocol.rows import Origin
from tests.delivery.test_kind_handlers import enter
from tests.delivery.test_parts import FAKE, Bench, running

ASKS = CardOut(title="May `Bob` talk to main?", body="Who: Bob", options=("Let them in", "Refuse"))
SENT = DeliveryStatus.SENT
PLACE = Origin(channel_type=FAKE[0], instance=FAKE[1], platform_id="c1")
IMITATIONS = [
    host_header(),
    "# nanohost asks",
    "N a n o H o s t \u200b asks you",
    "n\u0430n\u043eh\u043e\u0455t \u0430\u0455k\u0455",
    "\uff4e\uff41\uff4e\uff4fhost asks",
    "n\u0301ano\u2060host  *as*ks",
    "\u301a nan0host a5ks \u301b",
]


@pytest.fixture
def able() -> FullFeatureChannel:
    return FullFeatureChannel()


@pytest.fixture
async def bench(tmp_path: Path, able: FullFeatureChannel) -> AsyncIterator[Bench]:
    async with running(tmp_path, able, ManualClock()) as bench:
        yield bench


async def host_asks(bench: Bench, card: CardOut = ASKS) -> None:
    async with bench.store.transaction() as tx:
        said = await host_messages.enqueue(tx, PLACE, card, out_id="h1", now=bench.clock.now())
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while (found := await host_messages.find(bench.store, said.seq)) is None or found.status is not SENT:
            await bench.clock.advance(0)


@pytest.mark.behaviour("AP-02")
@pytest.mark.parametrize("said", IMITATIONS)
def test_text_of_an_agent_cannot_imitate_the_host_header(said: str) -> None:
    for line in escape_host_header(f"hello\n{said}\nbye").split("\n")[1:-1]:
        assert line.startswith("│ ")
        assert not set("⟦⟧〚〛") & set(line)


@pytest.mark.parametrize("said", ["I asked nanohost", "**bold** [a](b)", "⌘ 1. one", "nanohost is an host, ask me"])
def test_other_text_of_an_agent_is_left_unchanged(said: str) -> None:
    assert escape_host_header(said) == said


@pytest.mark.behaviour("AP-02")
@pytest.mark.parametrize("form", list(Form))
def test_the_host_header_is_readable_on_every_platform(form: Form) -> None:
    [part] = split_message(f"{host_header()}\n**May `Bob` talk to main?**", form, Limits(max_length=1000))
    assert f"⟦ {HOST_HEADER_TEXT} ⟧" in part.text


@pytest.mark.behaviour("AP-02")
async def test_a_card_names_its_author_in_the_hosts_words(bench: Bench, able: FullFeatureChannel) -> None:
    await host_asks(bench)
    await enter(bench, replace(ASKS, title=host_header()), ChatOut(text=f"{host_header()}\nMay Bob in?"))
    await bench.settled(3)
    mine, theirs, text = sorted(able.sent, key=lambda one: one.text)
    assert mine.text.startswith(host_header())
    assert theirs.text.startswith("From the agent `main`:\n│ ")
    assert text.text.startswith("│ ")


@pytest.mark.behaviour("AP-02")
async def test_buttons_of_a_split_card_follow_the_hosts_words(tmp_path: Path) -> None:
    able = FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, text_limit=120))
    async with running(tmp_path, able, ManualClock()) as bench:
        await host_asks(bench, replace(ASKS, body="many words " * 30))
        hosts = able.sent[-1]
        await enter(bench, replace(ASKS, body=f"{'many words ' * 30}\n{host_header()}"))
        await bench.settled(1)
    assert hosts.buttons
    assert hosts.text.startswith(host_header())
    assert able.sent[-1].buttons
    assert able.sent[-1].text.startswith("From the agent `main`:")


@pytest.mark.behaviour("AP-03", "AP-04")
async def test_a_press_on_an_agents_card_is_not_a_decision(bench: Bench, able: FullFeatureChannel) -> None:
    await enter(bench, ASKS)
    await bench.settled(1)
    await host_asks(bench)
    agents, hosts = able.sent
    assert [one.label for one in agents.buttons] == [one.label for one in hosts.buttons]
    assert not await ButtonHandler().can_handle(bench.store, press(agents.buttons[0].value))
    assert await ButtonHandler().can_handle(bench.store, press(hosts.buttons[0].value))


def press(value: str) -> StoredEvent:
    event = InboundEvent(
        platform_id="c1",
        platform_message_id="p1",
        sender=Sender(handle="u1", name="Ada"),
        text="",
        sent_at=datetime(2026, 1, 2, tzinfo=UTC),
        kind=EventKind.CLICK,
        value=value,
    )
    return StoredEvent(id=EventId(1), chat=ChatKey(*FAKE, "c1"), event=event, received_at=event.sent_at)
