"""Ends rules that have expired, and tells those who made them.

A rule does not apply from its expiry on, whenever this runs: this only updates the record.
Promises: the end, its audit entry and the message to the rule's maker are one transaction. A maker gets one message for
all rules that ended together, with how often each was used, so that unused ones need not be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NoReturn

from nanohost.access.notify import notify
from nanohost.clock import Clock
from nanohost.db import agent_groups, audit, rules
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Store, Transaction
from nanohost.db.rules import Rule, RuleEffect
from nanohost.text import quoting
from nanohost.text.translation import _, ngettext
from nanohost_protocol.ids import derive_id

MAX_SLEEP_S = 3600.0
MIN_SLEEP_S = 1.0
HOST_ACTOR = "host"
MAX_LINES = 20
"""The most lines of one message; the audit log has all rules."""


class RuleExpirer:
    """One per host."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> NoReturn:
        """Run for ever: end expired rules, and sleep until the next one expires. Raises StoreError."""
        while True:
            await self.expire_due()
            await self._clock.sleep(await self._sleep_s())

    async def expire_due(self) -> None:
        """End the rules that have expired. Raises StoreError."""
        now = self._clock.now()
        if not await rules.list_expired(self._store, now):
            return
        async with self._store.transaction() as tx:
            expired = sorted(await rules.list_expired(tx, now), key=lambda rule: rule.created_by)
            for maker, of_maker in groupby(expired, key=lambda rule: rule.created_by):
                await self._expire(tx, maker, list(of_maker), now)

    async def _sleep_s(self) -> float:
        """Returns the seconds until the next check. A rule that is made meanwhile and expires sooner is
        recorded late."""
        expiry = await rules.next_expiry(self._store)
        left_s = MAX_SLEEP_S if expiry is None else (expiry - self._clock.now()).total_seconds()
        return max(MIN_SLEEP_S, min(left_s, MAX_SLEEP_S))

    async def _expire(self, tx: Transaction, maker: str, expired: Sequence[Rule], now: datetime) -> None:
        folders = await agent_groups.list_folders(tx)
        lines = []
        for rule in expired:
            await rules.end(tx, rule.id, ended_by=HOST_ACTOR, now=now)
            await audit.record(
                tx,
                actor=HOST_ACTOR,
                action="rules.end",
                target=str(rule.id),
                outcome=AuditOutcome.DONE,
                now=now,
                details={"kind": rule.kind, "subject": rule.subject, "made by": rule.created_by, "uses": rule.uses},
            )
            folder = None if rule.agent_group_id is None else folders.get(rule.agent_group_id)
            lines.append(expiry_text(rule, folder))
        text = "\n".join(lines[:MAX_LINES])
        if len(lines) > MAX_LINES:
            more = _("and {count} more: nanohost rules list --ended", count=len(lines) - MAX_LINES)
            text = f"{text}\n{more}"
        out_id = derive_id("h", "rules", *(str(rule.id) for rule in expired))
        await notify(tx, maker, text, out_id=out_id, now=now)


def expiry_text(rule: Rule, folder: str | None) -> str:
    """Returns the line about one rule for its maker. `folder`: of its agent group; None: all. Pure."""
    subject = [] if rule.subject is None else [quoting.name(rule.subject, limit=100)]
    whose = _("for all agents") if folder is None else _("for {agent}", agent=folder)
    if rule.last_used_at is None:
        use = _("nobody used it")
    else:
        use = ngettext(
            "it was used once, on {date}",
            "it was used {count} times, the last time on {date}",
            rule.uses,
            date=f"{rule.last_used_at:%Y-%m-%d}",
        )
    values = {"date": f"{rule.created_at:%Y-%m-%d}", "rule": ", ".join([rule.kind, *subject, whose]), "use": use}
    if rule.effect is RuleEffect.ALLOW:
        return _("Your permission of {date} ({rule}) has ended: {use}. You will be asked again.", **values)
    return _("Your refusal of {date} ({rule}) has ended: {use}. You may be asked again.", **values)
