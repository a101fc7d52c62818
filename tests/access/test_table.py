"""Who reaches an agent, for every combination: tests/access/table.txt has the expected results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest

from nanohost.access.decision import AWAITING_APPROVAL, CHAT_IS_PUBLIC, CHAT_IS_STRICT, KNOWN_ONLY
from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db.roles import RoleGrant
from nanohost.model import (
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    MessagingGroupId,
    Role,
    SenderScope,
    SessionMode,
    UnknownSender,
    Wiring,
    WiringId,
)
from nanohost.routing.engagement import (
    NO_APPROVAL_REQUESTED,
    NOT_ENGAGED,
    SENT_BY_BOT,
    Engagement,
    EngagementDecision,
    decide_engagement,
)
from nanohost.testing.manual_clock import START

TABLE = Path(__file__).with_name("table.txt")
HERE, ELSEWHERE = AgentGroupId(1), AgentGroupId(2)
PLACES = {"here": HERE, "everywhere": None, "elsewhere": ELSEWHERE}
SENDERS = ["none", "owner", *(f"{role}-{place}" for role in ("admin", "member") for place in PLACES)]
ENGAGE = {
    "always": (EngageMode.PATTERN, ".", False),
    "fits": (EngageMode.PATTERN, "^he", False),
    "misses": (EngageMode.PATTERN, "^bye", False),
    "mention": (EngageMode.MENTION, "", False),
    "sticky-with": (EngageMode.MENTION_STICKY, "", True),
    "sticky-without": (EngageMode.MENTION_STICKY, "", False),
}
CHATS = {"dm": (False, False), "addressed": (True, True), "chatter": (True, False)}
"""Whether it is a group, and whether the bot is mentioned."""
COMBINATIONS = list(product(SENDERS, SenderScope, UnknownSender, ENGAGE, IgnoredMessagePolicy, CHATS))
BECAUSE = {
    "no-part": NOT_ENGAGED,
    "known": KNOWN_ONLY,
    "strict": CHAT_IS_STRICT,
    "waits": AWAITING_APPROVAL,
    "not-asked": NO_APPROVAL_REQUESTED,
    "public": CHAT_IS_PUBLIC,
    **{role.value: role.value for role in Role},
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    fits: tuple[str, ...]
    expected: EngagementDecision

    def decides(self, combination: tuple[str, ...]) -> bool:
        return all(fit == "*" or one in fit.split(",") for fit, one in zip(self.fits, combination, strict=True))


def rows() -> list[Row]:
    lines = [line.split() for line in TABLE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [Row(tuple(fits), EngagementDecision(Engagement(made), BECAUSE[because])) for *fits, made, because in lines]


WIRING = Wiring(
    id=WiringId(1),
    messaging_group_id=MessagingGroupId(1),
    agent_group_id=HERE,
    engage_mode=EngageMode.PATTERN,
    engage_pattern=".",
    session_mode=SessionMode.SHARED,
    priority=0,
    created_at=START,
)
EVENT = InboundEvent(
    platform_id="c1", platform_message_id="1", sender=Sender(handle="u1", name="Ada"), text="hello", sent_at=START
)


def grants(sender: str) -> list[RoleGrant]:
    if sender == "none":
        return []
    role, _, place = sender.partition("-")
    return [RoleGrant(user_id="fake:u1", role=Role(role), agent_group_id=PLACES.get(place), granted_at=START)]


def decision_for(
    sender: str,
    scope: SenderScope,
    strangers: UnknownSender,
    engage: str,
    ignored: IgnoredMessagePolicy,
    chat: str,
    event: InboundEvent = EVENT,
) -> EngagementDecision:
    mode, pattern, sticks = ENGAGE[engage]
    is_group, mentions = CHATS[chat]
    return decide_engagement(
        replace(WIRING, engage_mode=mode, engage_pattern=pattern, sender_scope=scope, ignored=ignored),
        replace(event, is_group=is_group, mentions_bot=mentions),
        grants=grants(sender),
        policy=strangers,
        is_sticky=sticks,
    )


@pytest.mark.behaviour("AC-02", "AC-04", "AC-05", "RT-04", "RT-05", "RT-07")
def test_every_combination_has_the_result_in_the_table() -> None:
    table = rows()
    wrong = []
    for combination in COMBINATIONS:
        row = next(row for row in table if row.decides(combination))
        if decision_for(*combination) != row.expected:
            wrong.append((*combination, decision_for(*combination), row.expected))
    assert wrong == []


def test_the_table_is_complete_without_superfluous_rows() -> None:
    table = rows()
    used = Counter(next(at for at, row in enumerate(table) if row.decides(one)) for one in COMBINATIONS)
    assert len(COMBINATIONS) == 8 * 2 * 3 * 6 * 2 * 3
    assert [row for at, row in enumerate(table) if not used[at]] == []
    words = {str(one) for combination in COMBINATIONS for one in combination}
    assert {word for row in table for fit in row.fits for word in fit.split(",")} - words == {"*"}


@pytest.mark.behaviour("RT-07")
def test_a_denied_message_is_never_context_and_makes_a_request_only_where_it_would_be_answered() -> None:
    strangers = [one for one in COMBINATIONS if one[0] == "none"]
    assert strangers
    for one in strangers:
        known, allowed = decision_for("owner", *one[1:]).engagement, decision_for(*one).engagement
        refused = (one[1], one[2]) != (SenderScope.ALL, UnknownSender.PUBLIC)
        assert not (refused and allowed in (Engagement.WRITE, Engagement.CONTEXT))
        assert allowed is not Engagement.REQUEST_APPROVAL or known is Engagement.WRITE


@pytest.mark.behaviour("IN-05")
def test_a_bot_is_treated_like_anyone_where_bots_are_allowed_and_dropped_elsewhere() -> None:
    bot = replace(EVENT, sender=replace(EVENT.sender, is_bot=True))
    assert decide_engagement(WIRING, bot, grants=[], policy=UnknownSender.PUBLIC, is_sticky=False).reason == SENT_BY_BOT
    bots = replace(WIRING, bots=True)
    assert [
        decide_engagement(bots, bot, grants=[], policy=policy, is_sticky=False).engagement for policy in UnknownSender
    ] == [
        decide_engagement(bots, EVENT, grants=[], policy=policy, is_sticky=False).engagement for policy in UnknownSender
    ]


def test_a_reaction_never_makes_a_request() -> None:
    reaction = replace(EVENT, kind=EventKind.REACTION)
    decision = decide_engagement(WIRING, reaction, grants=[], policy=UnknownSender.REQUEST_APPROVAL, is_sticky=False)
    assert decision == EngagementDecision(Engagement.DENY, NO_APPROVAL_REQUESTED)


@pytest.mark.behaviour("RT-04")
def test_an_invalid_pattern_engages_nothing_and_is_the_reason() -> None:
    spoiled = replace(WIRING, engage_pattern=r"(a)\1", ignored=IgnoredMessagePolicy.ACCUMULATE)
    decision = decide_engagement(spoiled, EVENT, grants=grants("owner"), policy=UnknownSender.PUBLIC, is_sticky=True)
    assert decision.engagement is Engagement.DROP
    assert "the wiring's pattern cannot be used" in decision.reason


@pytest.mark.behaviour("AC-06")
@pytest.mark.parametrize(
    ("chat", "made"), [("dm", Engagement.WRITE), ("addressed", Engagement.WRITE), ("chatter", Engagement.DROP)]
)
def test_an_addressed_command_needs_to_match_no_pattern(chat: str, made: Engagement) -> None:
    stop = replace(EVENT, text="/stop")
    combination = (SenderScope.ALL, UnknownSender.STRICT, "misses", IgnoredMessagePolicy.DROP, chat)
    assert decision_for("owner", *combination, event=stop).engagement is made
    assert decision_for("none", *combination, event=stop).engagement is (
        Engagement.DENY if made is Engagement.WRITE else made
    )
