"""/cost: what models have cost, by agent group, as far as it is on record. Short enough for a phone.

Dollars are list prices of the calls that passed the gateway, never a guess: calls without a known price are counted as
such. Only a provider whose calls do not pass there is taken at its word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from nanohost.access.decision import is_admin
from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import Actor, HostAsked, HostCommand
from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.phrases import counted
from nanohost.store import agent_groups, turn_costs
from nanohost.store.database import Queries, Reports
from nanohost.store.turn_costs import Cost

MOST_GROUPS = 6
NOTHING = "In the last 30 days no turn took any tokens of a model."
_SPANS = {"today": "today", "7 days": "days_7", "30 days": "days_30"}
"""As a program names them."""
WEEK, MONTH = timedelta(days=7), timedelta(days=30)

Windows = Mapping[str, Mapping[str, Cost]]
"""What each agent group took, by folder, within each span of time, longest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """`first`: since when there is anything on record."""

    windows: Windows
    first: datetime | None


async def _look(reports: Reports, now: datetime, zone: tzinfo) -> _Seen:
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {"today": midnight, "7 days": now - WEEK, "30 days": now - MONTH}
    windows = {name: await turn_costs.since(reports, moment) for name, moment in begins.items()}
    return _Seen(windows=windows, first=await turn_costs.first(reports))


async def _cost(asked: HostAsked, _: Arguments) -> str:
    shown = await _administered(asked.tx, asked.actor)
    seen: _Seen | None = asked.seen
    if seen is None:  # nothing was read for somebody who had no right to it a moment ago
        raise UsageError("what you may do has just changed", hint=asked.actor.types("cost"))
    windows = {
        name: {folder: cost for folder, cost in window.items() if shown is None or folder in shown}
        for name, window in seen.windows.items()
    }
    return costs(windows, first=seen.first, now=asked.now, zone=asked.zone)


async def _data(asked: HostAsked) -> Mapping[str, object]:
    """What /cost says to whoever may see all: sums by span of time and agent group, and since when there are any."""
    seen: _Seen = asked.seen
    windows = {_SPANS[name]: window for name, window in seen.windows.items()}
    return {"groups": windows, "since": seen.first}


async def _administered(db: Queries, actor: Actor) -> set[str] | None:
    """The folders of the agent groups that the actor is an admin of; None: of all."""
    everywhere = any(grant.role is Role.ADMIN and grant.agent_group_id is None for grant in actor.grants)
    if everywhere or actor.may(Who.OWNER):
        return None
    groups = await agent_groups.every(db)
    return {group.folder for group in groups if is_admin(actor.grants, group.id)}


def costs(windows: Windows, *, first: datetime | None, now: datetime, zone: tzinfo) -> str:
    """In words: dearest first."""
    *_, longest = windows.values()
    if not longest:
        return NOTHING
    order = sorted(longest, key=lambda folder: (-longest[folder].cost_usd, -longest[folder].tokens_out, folder))
    lines = [line for folder in order[:MOST_GROUPS] for line in _group(folder, windows, [folder])]
    if len(order) > 1:
        rest = len(order) - MOST_GROUPS
        title = f"All {len(order)} together" if rest > 0 else "Together"
        lines += _group(title, windows, order)
    if first is not None and first > now - MONTH:
        lines.append(f"On record since {first.astimezone(zone):%Y-%m-%d}.")
    return "\n".join(lines)


def _group(title: str, windows: Windows, folders: Sequence[str]) -> list[str]:
    lines = [f"{title}:"]
    for name, window in windows.items():
        cost = sum((window.get(folder, Cost()) for folder in folders), Cost())
        lines.append(f"- {name}: {_in_words(cost)}")
    return lines


def _in_words(cost: Cost) -> str:
    if not (cost.turns or cost.tokens_in or cost.tokens_out or cost.tokens_cached):
        return "nothing"
    tokens = f"{_short(cost.tokens_in)} in, {_short(cost.tokens_cached)} cached, {_short(cost.tokens_out)} out"
    turns = f"{counted(cost.turns, 'turn', 'turns')}, " if cost.turns else ""  # none has ended yet
    return f"{turns}tokens {tokens}{_dollars(cost)}"


def _dollars(cost: Cost) -> str:
    known = f", about ${cost.cost_usd:.2f}" if cost.cost_usd else ""
    if not cost.unpriced:
        return known
    if not known:
        return ", cost unknown"
    return f"{known} and {counted(cost.unpriced, 'call', 'calls')} of unknown cost"


def _short(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


COMMAND = HostCommand(
    name="cost",
    help="what models have cost today, in 7 and in 30 days",
    example="/cost",
    carry_out=_cost,
    look=_look,
    data=_data,
    who=Who.ADMIN,
)
