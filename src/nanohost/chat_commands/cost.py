"""/cost: show what models have cost, by agent group, short enough for a phone.

Dollars are list prices of the calls that passed the gateway, never a guess: calls without a known price are counted
separately. A provider's own figures are used only if its calls do not pass the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from nanohost.access.decision import is_admin
from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import Actor, HostCommand, HostCommandInvocation
from nanohost.db import agent_groups, turn_costs
from nanohost.db.database import Queries, ReportReader
from nanohost.db.turn_costs import TurnCosts
from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.text.translation import _, gettext_noop, lazy_gettext, ngettext

MAX_GROUPS = 6
NO_USAGE_TEXT = gettext_noop("In the last 30 days no turn took any tokens of a model.")
_JSON_WINDOW_NAMES = {"today": "today", "7 days": "days_7", "30 days": "days_30"}
"""The keys of the spans of time in JSON."""
_WINDOW_LABELS = {
    "today": gettext_noop("today"),
    "7 days": gettext_noop("7 days"),
    "30 days": gettext_noop("30 days"),
}
WEEK, MONTH = timedelta(days=7), timedelta(days=30)

CostWindows = Mapping[str, Mapping[str, TurnCosts]]
"""The costs of each agent group, by folder, within each span of time, the longest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CostData:
    """The costs for the reply. `recorded_since`: the time of the first record."""

    windows: CostWindows
    recorded_since: datetime | None


async def _prefetch(reports: ReportReader, now: datetime, zone: tzinfo) -> _CostData:
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {"today": midnight, "7 days": now - WEEK, "30 days": now - MONTH}
    windows = {name: await turn_costs.costs_since(reports, moment) for name, moment in begins.items()}
    return _CostData(windows=windows, recorded_since=await turn_costs.first_at(reports))


async def _cost(invocation: HostCommandInvocation, arguments: CommandArguments) -> str:
    shown = await _administered_folders(invocation.tx, invocation.actor)
    seen: _CostData | None = invocation.prefetched
    if seen is None:  # nothing was prefetched, because the sender had no permission then
        raise UsageError(lazy_gettext("what you may do has just changed"), hint=invocation.actor.command_text("cost"))
    windows = {
        name: {folder: cost for folder, cost in window.items() if shown is None or folder in shown}
        for name, window in seen.windows.items()
    }
    return format_costs(windows, recorded_since=seen.recorded_since, now=invocation.now, zone=invocation.zone)


async def _to_data(invocation: HostCommandInvocation) -> Mapping[str, object]:
    """Returns all costs as JSON: sums by span of time and agent group, and the time of the first record."""
    seen: _CostData = invocation.prefetched
    windows = {_JSON_WINDOW_NAMES[name]: window for name, window in seen.windows.items()}
    return {"groups": windows, "since": seen.recorded_since}


async def _administered_folders(db: Queries, actor: Actor) -> set[str] | None:
    """Returns the folders of the agent groups that the actor administers; None: all of them."""
    everywhere = any(grant.role is Role.ADMIN and grant.agent_group_id is None for grant in actor.grants)
    if everywhere or actor.has_role(RequiredRole.OWNER):
        return None
    groups = await agent_groups.list_all(db)
    return {group.folder for group in groups if is_admin(actor.grants, group.id)}


def format_costs(windows: CostWindows, *, recorded_since: datetime | None, now: datetime, zone: tzinfo) -> str:
    """Formats the costs as text, the most expensive first."""
    longest = list(windows.values())[-1]
    if not longest:
        return _(NO_USAGE_TEXT)
    order = sorted(longest, key=lambda folder: (-longest[folder].cost_usd, -longest[folder].tokens_out, folder))
    lines = [line for folder in order[:MAX_GROUPS] for line in _format_group(folder, windows, [folder])]
    if len(order) > 1:
        rest = len(order) - MAX_GROUPS
        title = _("All {count} together", count=len(order)) if rest > 0 else _("Together")
        lines += _format_group(title, windows, order)
    if recorded_since is not None and recorded_since > now - MONTH:
        lines.append(_("On record since {date}.", date=f"{recorded_since.astimezone(zone):%Y-%m-%d}"))
    return "\n".join(lines)


def _format_group(title: str, windows: CostWindows, folders: Sequence[str]) -> list[str]:
    lines = [f"{title}:"]
    for name, window in windows.items():
        cost = sum((window.get(folder, TurnCosts()) for folder in folders), TurnCosts())
        lines.append(f"- {_(_WINDOW_LABELS[name])}: {_format_cost(cost)}")
    return lines


def _format_cost(cost: TurnCosts) -> str:
    if not (cost.turns or cost.tokens_in or cost.tokens_out or cost.tokens_cached):
        return _("nothing")
    tokens = _(
        "tokens {sent} in, {cached} cached, {received} out",
        sent=_abbreviate(cost.tokens_in),
        cached=_abbreviate(cost.tokens_cached),
        received=_abbreviate(cost.tokens_out),
    )
    turns = [ngettext("{count} turn", "{count} turns", cost.turns)] if cost.turns else []  # none has ended yet
    return ", ".join([*turns, tokens, *_format_dollars(cost)])


def _format_dollars(cost: TurnCosts) -> list[str]:
    """What is known of the price; nothing where no call had one to know."""
    price = f"${cost.cost_usd:.2f}"
    if not cost.unpriced:
        return [_("about {price}", price=price)] if cost.cost_usd else []
    if not cost.cost_usd:
        return [_("cost unknown")]
    return [
        ngettext(
            "about {price} and {count} call of unknown cost",
            "about {price} and {count} calls of unknown cost",
            cost.unpriced,
            price=price,
        )
    ]


def _abbreviate(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


COMMAND = HostCommand(
    name="cost",
    help=gettext_noop("what models have cost today, in 7 and in 30 days"),
    example="/cost",
    execute=_cost,
    prefetch=_prefetch,
    json_data=_to_data,
    required_role=RequiredRole.ADMIN,
)
