"""Checks the invariants of a session: its row, its folder, its files, its lease."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from nanohost.verify.finding import MAX_ROWS, VerifyContext
from nanohost.verify.session_view import SessionView
from nanohost.verify.store import central_snapshot

INCOMPLETE_LEASES = "SELECT id, lease, runtime FROM sessions WHERE (lease IS NULL) != (runtime IS NULL) LIMIT ?"
SHARED_LEASES = """
SELECT lease, group_concat(id, ', ') AS ids FROM sessions WHERE lease IS NOT NULL
GROUP BY lease HAVING count(*) > 1 LIMIT ?
"""
HAS_SESSION = """
SELECT 1 FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = ? AND g.folder = ?
"""


async def leases_name_their_runtime(install: VerifyContext) -> list[str]:
    """A session has both a lease and a runtime, or neither."""
    return [
        f"session {row['id']} has lease {row['lease'] or 'none'} and runtime {row['runtime'] or 'none'}"
        for row in await install.store.fetch_all(INCOMPLETE_LEASES, (MAX_ROWS,))
    ]


async def leases_are_unique(install: VerifyContext) -> list[str]:
    """No two sessions have the same lease."""
    return [
        f"the sessions {row['ids']} have the lease {row['lease']}, all of them"
        for row in await install.store.fetch_all(SHARED_LEASES, (MAX_ROWS,))
    ]


async def session_folders_are_not_orphaned(install: VerifyContext) -> list[str]:
    """Every folder below sessions/ belongs to a session of that agent group."""

    def find_orphans() -> list[str]:
        with closing(_orphaned_folders(install)) as orphans:
            return list(islice(orphans, MAX_ROWS))

    return await asyncio.to_thread(find_orphans)


def _orphaned_folders(install: VerifyContext) -> Generator[str, None, None]:
    with central_snapshot(install.home.database) as db:
        for group in _subfolders(install.home.sessions):
            for folder in _subfolders(group):
                if db.execute(HAS_SESSION, (folder.name, group.name)).fetchone() is None:
                    yield f"the folder sessions/{group.name}/{folder.name} belongs to no session"


def _subfolders(parent: Path) -> Iterator[Path]:
    """Yields the folders in a folder, without links; nothing if it is gone."""
    try:
        yield from (path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return


def session_has_its_folder(view: SessionView) -> Iterator[str]:
    """A session that got a message has its folder, with everything that a container needs."""
    layout = view.layout
    if not view.has_messages:
        return
    if not layout.root.is_dir():
        yield f"{session_label(view)} has messages and no folder"
        return
    for folder in (layout.in_dir, layout.out_dir, layout.state_dir, layout.run_dir, layout.log_dir):
        if not folder.is_dir():
            yield f"{session_label(view)} has no folder {folder.name}/"


def inbound_opens(view: SessionView) -> Iterator[str]:
    """A session that got a message has an inbound.db, which is a mailbox of this version."""
    if view.inbound_problem is not None:
        yield f"{session_label(view)}: {view.inbound_problem}"
    elif view.has_messages and view.layout.in_dir.is_dir() and not view.layout.inbound_db.exists():
        yield f"{session_label(view)} has messages and no inbound.db"


def outbound_opens(view: SessionView) -> Iterator[str]:
    """outbound.db is an ordinary file and a mailbox of this version. It may be empty or have a journal to roll back."""
    if view.outbound_problem is not None:
        yield f"{session_label(view)}: {view.outbound_problem}"
    elif view.has_messages and view.layout.out_dir.is_dir() and not view.layout.outbound_db.exists():
        yield f"{session_label(view)} has messages and no outbound.db"


def open_claims_belong_to_the_lease(view: SessionView) -> Iterator[str]:
    """An open claim is of the session's container, was freed, or will be because the session is due."""
    if view.outbound is None or view.inbound is None or view.row.is_due:
        return
    for claim in view.outbound.claims:
        message = view.inbound.claimed_messages.get(claim.message_id)
        is_freed = message is not None and (message.status != "pending" or message.tries > claim.tries)
        if claim.container_id != view.row.lease and not is_freed:
            yield (
                f"{session_label(view)}: message {claim.message_id} is claimed by container "
                f"{claim.container_id}, which has no"
                " lease, and nobody will free it"
            )


def session_label(view: SessionView) -> str:
    """Returns the name of a session in a sentence."""
    return f"session {view.row.id} of {view.row.group_folder}"
