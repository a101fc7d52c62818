"""Lists every invariant of the data directory that `nanohost verify` checks.

Promises: writes nothing, neither to the central database nor to a session's files; memory does not grow with the number
of sessions; steps in progress of a running host are not reported. Each check is one function with the invariant's name;
the first line of its docstring describes it in a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from types import FunctionType

from nanohost.clock import Clock
from nanohost.config.home import Home
from nanohost.db.database import Store, translated_errors
from nanohost.errors import NanohostError
from nanohost.verify import costs, decisions, held_items, ledger, mailboxes, sessions, store, tasks
from nanohost.verify.finding import MAX_ROWS, Finding, VerifyContext
from nanohost.verify.session_view import SessionView, iter_session_views

RECHECKS = 3
RECHECK_PAUSE_S = 0.3
"""Two commits of one step are milliseconds apart; a violation that three checks find is not a step in progress."""

CentralCheck = Callable[[VerifyContext], Awaitable[Iterable[str]]]
SessionCheck = Callable[[SessionView], Iterator[str]]
Check = CentralCheck | SessionCheck
FindingsByCheck = dict[str, list[str]]

_CENTRAL_CHECKS: tuple[CentralCheck, ...] = (
    store.central_database_integrity,
    store.foreign_keys_are_valid,
    store.migrations_match_their_files,
    ledger.sending_deliveries_have_an_open_attempt,
    ledger.sent_deliveries_have_a_sent_attempt,
    ledger.attempt_counts_match,
    ledger.ended_deliveries_have_no_open_attempt,
    ledger.routed_events_have_routes,
    ledger.routes_name_their_message,
    ledger.only_collected_rows_are_deleted,
    held_items.held_items_have_an_open_approval,
    held_items.context_routes_do_not_trigger,
    decisions.linked_identities_share_a_person_number,
    decisions.approvals_match_their_digest,
    decisions.closed_items_have_an_end_time,
    decisions.open_approvals_have_their_request,
    decisions.cards_have_their_message,
    decisions.open_questions_have_their_message,
    sessions.leases_name_their_runtime,
    sessions.leases_are_unique,
    sessions.session_folders_are_not_orphaned,
    tasks.runs_belong_to_a_task,
    costs.reported_tokens_match_gateway,
)
_SESSION_CHECKS: tuple[SessionCheck, ...] = (
    sessions.session_has_its_folder,
    sessions.inbound_opens,
    sessions.outbound_opens,
    sessions.open_claims_belong_to_the_lease,
    mailboxes.inbound_numbers_are_even,
    mailboxes.outbound_numbers_are_odd,
    mailboxes.collected_rows_are_in_the_ledger,
    mailboxes.written_routes_have_arrived,
    mailboxes.waiting_routes_have_not_arrived,
    mailboxes.pending_work_is_due,
    mailboxes.due_sessions_have_work,
    mailboxes.completed_messages_are_not_claimed,
    tasks.running_runs_are_in_the_mailbox,
)


def _check_name(check: Check) -> str:
    assert isinstance(check, FunctionType)
    return check.__name__.replace("_", " ")


def _check_description(check: Check) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]


_ALL_CHECKS: tuple[Check, ...] = (*_CENTRAL_CHECKS, *_SESSION_CHECKS)

CHECKS: Mapping[str, str] = {_check_name(check): _check_description(check) for check in _ALL_CHECKS}
"""The name of every check, and its description."""
_NO_RECHECK = frozenset(
    _check_name(check)
    for check in (store.central_database_integrity, store.foreign_keys_are_valid, store.migrations_match_their_files)
)
"""Checks that are not repeated: each single transaction keeps these invariants, and the checks are expensive."""


async def verify(store: Store, home: Home, *, clock: Clock, is_host_running: bool) -> list[Finding]:
    """Run every check. Returns the violations in the order of CHECKS.

    `is_host_running`: whether a host uses this home now; then violations that may be a step in progress are checked
    again, for about a second. A check that fails with an error is a finding, not an exception.
    """
    install = VerifyContext(store=store.reports, home=home, is_host_running=is_host_running)
    found = await _run_checks(install, CHECKS)
    for _ in range(RECHECKS if is_host_running else 0):
        passing = found.keys() - _NO_RECHECK
        if not passing:
            break
        await clock.sleep(RECHECK_PAUSE_S)
        found = _confirm(found, await _run_checks(install, passing), passing)
    return [Finding(check=name, rows=tuple(found[name])) for name in CHECKS if name in found]


def _confirm(before: FindingsByCheck, now: FindingsByCheck, rechecked: Collection[str]) -> FindingsByCheck:
    """Returns the findings that were found again, and those that are not rechecked."""
    kept = {
        name: [row for row in rows if name not in rechecked or row in now.get(name, ())]
        for name, rows in before.items()
    }
    return {name: rows for name, rows in kept.items() if rows}


async def _run_checks(install: VerifyContext, names: Collection[str]) -> FindingsByCheck:
    """Run these checks once."""
    found: dict[str, list[str]] = {}
    for check in _CENTRAL_CHECKS:
        if _check_name(check) in names and (rows := await _run_central_check(check, install)):
            found[_check_name(check)] = rows
    of_sessions = [check for check in _SESSION_CHECKS if _check_name(check) in names]
    return found | (await asyncio.to_thread(_run_session_checks, install, of_sessions) if of_sessions else {})


async def _run_central_check(check: CentralCheck, install: VerifyContext) -> list[str]:
    try:
        return list(await check(install))
    except (NanohostError, OSError) as error:
        return [f"cannot be checked: {error}"]


def _run_session_checks(install: VerifyContext, checks: Iterable[SessionCheck]) -> FindingsByCheck:
    """Run these checks for every session. Blocking."""
    named = [(_check_name(check), check) for check in checks]
    found: dict[str, list[str]] = {}
    try:
        with (
            translated_errors(),
            closing(iter_session_views(install.home, is_host_running=install.is_host_running)) as views,
        ):
            for view in views:
                for name, check in named:
                    if rows := list(check(view)):
                        found[name] = [*found.get(name, ()), *rows][:MAX_ROWS]
    except (NanohostError, OSError) as error:
        name, _ = named[0]
        found[name] = [*found.get(name, ()), f"cannot be checked: {error}"]
    return found
