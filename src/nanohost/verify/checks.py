"""Every invariant of the data directory, by name: what `nanohost verify` goes through.

Promises: nothing is written, neither to the central database nor to a session's files; memory does not grow with the
number of sessions; what a running host is in the middle of is not reported. Each check is one function, its name is
the invariant's, and the first line of its docstring says it in a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from types import FunctionType

from nanohost.clock import Clock
from nanohost.errors import NanohostError
from nanohost.home import Home
from nanohost.store.database import Store, translated
from nanohost.verify import costs, decisions, held, ledger, mailboxes, sessions, store, tasks
from nanohost.verify.finding import MOST_ROWS, Finding, Install
from nanohost.verify.session_view import SessionView, every_session

RECHECKS = 3
RECHECK_PAUSE_S = 0.3
"""Between two commits of one step lie milliseconds; what is still so after three looks is not a step."""

CentralCheck = Callable[[Install], Awaitable[Iterable[str]]]
SessionCheck = Callable[[SessionView], Iterator[str]]
Check = CentralCheck | SessionCheck
Found = dict[str, list[str]]

_CENTRAL: tuple[CentralCheck, ...] = (
    store.central_database_is_sound,
    store.references_lead_somewhere,
    store.migrations_match_their_files,
    ledger.what_is_sending_has_an_open_attempt,
    ledger.what_is_sent_has_an_attempt_that_says_so,
    ledger.attempts_are_counted,
    ledger.attempts_have_an_end,
    ledger.routed_events_have_routes,
    ledger.routes_name_their_message,
    ledger.only_taken_over_rows_are_forgotten,
    held.what_is_held_waits_for_an_open_approval,
    held.context_wakes_nobody,
    decisions.identities_of_one_human_have_their_lowest_number,
    decisions.what_would_run_is_what_was_shown,
    decisions.what_is_over_says_since_when,
    decisions.open_approvals_have_their_request,
    decisions.cards_have_their_message,
    decisions.open_questions_have_their_message,
    sessions.leases_name_their_runtime,
    sessions.leases_are_of_one_session,
    sessions.folders_have_their_session,
    tasks.runs_belong_to_a_task,
    costs.turns_took_what_passed_the_gateway,
)
_SESSION: tuple[SessionCheck, ...] = (
    sessions.session_has_its_folder,
    sessions.inbound_opens,
    sessions.outbound_opens,
    sessions.open_claims_belong_to_the_lease,
    mailboxes.inbound_numbers_are_even,
    mailboxes.outbound_numbers_are_odd,
    mailboxes.taken_over_rows_are_in_the_ledger,
    mailboxes.written_routes_have_arrived,
    mailboxes.waiting_routes_have_not_arrived,
    mailboxes.pending_work_is_due,
    mailboxes.due_sessions_have_work,
    mailboxes.completed_messages_are_not_claimed,
    tasks.runs_under_way_are_in_the_mailbox,
)


def _name(check: Check) -> str:
    assert isinstance(check, FunctionType)
    return check.__name__.replace("_", " ")


def _sentence(check: Check) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]


_ALL: tuple[Check, ...] = (*_CENTRAL, *_SESSION)

CHECKS: Mapping[str, str] = {_name(check): _sentence(check) for check in _ALL}
"""The name of every check, and what it holds to be true."""
_LASTING = frozenset(
    _name(check)
    for check in (store.central_database_is_sound, store.references_lead_somewhere, store.migrations_match_their_files)
)
"""One transaction never leaves these broken, so a second look would see the same, at a price."""


async def verify(store: Store, home: Home, *, clock: Clock, host_running: bool) -> list[Finding]:
    """Go through every check and return what does not hold, in the order of CHECKS.

    `host_running`: whether a host serves this home now; what may be a step in progress is then looked at again, for
    about a second. A check that cannot be made is a finding, not an exception.
    """
    install = Install(store=store.reports, home=home, host_running=host_running)
    found = await _look(install, CHECKS)
    for _ in range(RECHECKS if host_running else 0):
        passing = found.keys() - _LASTING
        if not passing:
            break
        await clock.sleep(RECHECK_PAUSE_S)
        found = _still(found, await _look(install, passing), passing)
    return [Finding(check=name, rows=tuple(found[name])) for name in CHECKS if name in found]


def _still(before: Found, now: Found, looked_at: Collection[str]) -> Found:
    """What was found before and is there yet."""
    kept = {
        name: [row for row in rows if name not in looked_at or row in now.get(name, ())]
        for name, rows in before.items()
    }
    return {name: rows for name, rows in kept.items() if rows}


async def _look(install: Install, names: Collection[str]) -> Found:
    """One look at everything that these checks are about."""
    found: dict[str, list[str]] = {}
    for check in _CENTRAL:
        if _name(check) in names and (rows := await _ask(check, install)):
            found[_name(check)] = rows
    wanted = [check for check in _SESSION if _name(check) in names]
    return found | (await asyncio.to_thread(_walk, install, wanted) if wanted else {})


async def _ask(check: CentralCheck, install: Install) -> list[str]:
    try:
        return list(await check(install))
    except (NanohostError, OSError) as error:
        return [f"cannot be checked: {error}"]


def _walk(install: Install, checks: Iterable[SessionCheck]) -> Found:
    """Show every session to these checks. Blocking."""
    named = [(_name(check), check) for check in checks]
    found: dict[str, list[str]] = {}
    try:
        with translated(), closing(every_session(install.home, host_running=install.host_running)) as views:
            for view in views:
                for name, check in named:
                    if rows := list(check(view)):
                        found[name] = [*found.get(name, ()), *rows][:MOST_ROWS]
    except (NanohostError, OSError) as error:
        name, _ = named[0]
        found[name] = [*found.get(name, ()), f"cannot be checked: {error}"]
    return found
