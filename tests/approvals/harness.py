"""A host for tests of approvals: Olga is its owner with a direct chat; unknown senders write to its agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.clock import Clock
from nanohost.config.settings import Settings
from nanohost.db import approvals, roles, rules
from nanohost.db.approvals import Approval
from nanohost.db.rules import Rule, RuleEffect
from nanohost.model import AgentGroupId, Role, UnknownSender
from nanohost.testing.fake_channel import SentMessage
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.flow import RunningHost, run_host
from tests.support.invariants import wait_until

OLGA = Sender(handle="olga", name="Olga")
CARL = Sender(handle="carl", name="Carl")
BOB = Sender(handle="bob", name="Bob")
OLGA_DM = "dm-olga"
"""Olga's direct chat with the bot, as the full-featured channel opens it."""


@dataclass(frozen=True, slots=True)
class ApprovalsTestHost:
    """A running host with helpers for approvals."""

    host: RunningHost
    fake: FullFeatureChannel

    async def grant(self, who: Sender, role: Role = Role.OWNER, *, group: AgentGroupId | None = None) -> None:
        async with self.host.host.store.transaction() as tx:
            await roles.grant(
                tx, user_id=f"fake:{who.handle}", role=role, agent_group=group, now=self.host.host.clock.now()
            )

    async def revoke(self, who: Sender) -> None:
        async with self.host.host.store.transaction() as tx:
            await roles.revoke_all(tx, f"fake:{who.handle}")

    async def deny_by_rule(self, who: Sender, *, group: AgentGroupId | None = None) -> Rule:
        """A denial rule for somebody, for this agent group or for all, made without a card."""
        async with self.host.host.store.transaction() as tx:
            return await rules.add(
                tx,
                kind="sender",
                effect=RuleEffect.DENY,
                agent_group=group,
                subject=f"fake:{who.handle}",
                created_by="local:test",
                expires_at=None,
                now=self.host.host.clock.now(),
            )

    async def write_message(self, who: Sender, text: str, *, chat: str = "c1", group: bool = False) -> None:
        await self.fake.person_writes(text, chat=chat, sender=who, group=group, mentions=group)

    async def press_button(self, who: Sender, card: SentMessage, label: str, *, chat: str | None = None) -> None:
        [button] = [one for one in card.buttons if one.label == label]
        await self.fake.person_presses(card, button, chat=chat, sender=who)

    async def card(self, number: int = 1) -> SentMessage:
        """The n-th message with buttons, as it was first sent."""
        await wait_until(lambda: len(self.cards()) >= number)
        return self.cards()[number - 1]

    async def card_with_button(self, label: str) -> SentMessage:
        """The first message with such a button. Buttons of earlier cards disappear on their own schedule."""

        def found() -> list[SentMessage]:
            return [card for card in self.cards() if label in [one.label for one in card.buttons]]

        await wait_until(lambda: bool(found()))
        return found()[0]

    def cards(self) -> list[SentMessage]:
        return [one for one in self.fake.sent if one.buttons]

    async def wait_for_text(self, chat: str, words: str, *, times: int = 1) -> SentMessage:
        """Wait until a chat has so many messages with this text; returns the last of them."""

        def found() -> list[SentMessage]:
            return [one for one in self.fake.sent if one.address.platform_id == chat and words in one.text]

        await wait_until(lambda: len(found()) >= times)
        return found()[-1]

    async def wait_until_routed(self) -> None:
        """Wait until every event is handled or held."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while True:
                if await self.host.host.store.fetch_one("SELECT 1 FROM inbound_events WHERE status = 'new'") is None:
                    return
                await asyncio.sleep(0.01)  # the database tells nobody

    async def wait_for_statuses(self, *wanted: str) -> list[Approval]:
        """Wait until the approvals have these statuses, oldest first."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while True:
                found = (await self.approvals())[::-1]
                if [str(one.status) for one in found] == list(wanted):
                    return found
                await asyncio.sleep(0.01)  # the database tells nobody

    async def approvals(self) -> list[Approval]:
        """Newest first."""
        return await approvals.latest(self.host.host.store.reports, limit=100)


@asynccontextmanager
async def run_approvals_host(
    root: Path,
    *,
    fake: FullFeatureChannel | None = None,
    clock: Clock | None = None,
    settings: Settings | None = None,
    is_wired: bool = True,
    has_owner: bool = True,
) -> AsyncIterator[ApprovalsTestHost]:
    """`is_wired`: the chat c1 is wired to the agent `main`, and unknown senders need approval there."""
    fake = fake or FullFeatureChannel()
    async with run_host(root, fake=fake, clock=clock, settings=settings) as flow:
        here = ApprovalsTestHost(flow, fake)
        if not await here.approvals() and not await roles.list_all(flow.host.store):
            await flow.ensure_group("main")
            if has_owner:
                await here.grant(OLGA)
            if is_wired:
                await flow.wire("c1", unknown=UnknownSender.REQUEST_APPROVAL)
        yield here


def make_press_event(value: str, *, chat: str, who: Sender, number: int = 1) -> InboundEvent:
    """A press as somebody could forge it."""
    return InboundEvent(
        platform_id=chat,
        platform_message_id=f"forged{number}",
        sender=who,
        text="Let them in",
        sent_at=datetime.now(UTC),
        kind=EventKind.CLICK,
        value=value,
    )
