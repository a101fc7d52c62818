"""Looks at running containers and says which are stuck: an lstat and a small read each, a few times a minute.

Never trusts what it finds: a heartbeat's time counts only in that it changes, and nothing a container writes makes it
less stuck than it is for longer than a day.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from nanohost.clock import Clock
from nanohost.errors import MailboxError
from nanohost.keeper.folders import Folders
from nanohost.keeper.footprint import Grown, Uncounted
from nanohost.keeper.progress import Progress, Seen, Stamp
from nanohost.keeper.stuck import Fine, Limits, Stuck, judge
from nanohost.mailbox import queries
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.queries import Doing
from nanohost.model import LeaseId, Session, SessionId

LOOK_EVERY_S = 10.0


class Health:
    """One per keeper; remembers each living container's progress."""

    def __init__(self, mailboxes: Mailboxes, clock: Clock, limits: Limits, groups: Path | None = None) -> None:
        """`groups`: where the agent groups' folders are; None: they are not watched."""
        self.folders = Folders(mailboxes, clock, limits, groups)
        self._mailboxes = mailboxes
        self._clock = clock
        self._limits = limits
        self._progress: dict[LeaseId, Progress] = {}
        self._looked = clock.monotonic()
        self._unkept: dict[SessionId, datetime] = {}

    def unkept(self) -> dict[SessionId, datetime]:
        """Sessions whose latest turns are in no record of the conversation, and since when that is known. What a
        container said last counts until the next one says otherwise."""
        return dict(self._unkept)

    def next_look_s(self) -> float:
        """Seconds until it is time to look again."""
        return max(0.0, self._looked + LOOK_EVERY_S - self._clock.monotonic())

    async def begin_look(self, living: AbstractSet[LeaseId], sessions: Collection[Session]) -> None:
        """A round of looks begins; whoever is not among the living is forgotten. `sessions`: whose they are."""
        self._looked = self._clock.monotonic()
        self._progress = {lease: one for lease, one in self._progress.items() if lease in living}
        await self.folders.rest(sessions)

    def quiet_s(self, lease: LeaseId) -> float:
        """For how long the container's turn has shown nothing; 0 when none runs, or nobody looked yet."""
        return self._progress[lease].quiet_s if lease in self._progress else 0.0

    async def look(self, session: Session, lease: LeaseId, *, due: bool, busy: bool) -> Fine | Stuck | Uncounted:
        """Look at a running container. `due`: messages wait for it. `busy`: it is known to work."""
        heartbeat = self._mailboxes.layout(session).heartbeat
        progress = self._progress.get(lease)
        if progress is None:
            progress = self._progress[lease] = Progress(_stamp(heartbeat), self._clock.monotonic())
        seen, refused = await self._read(session, lease)
        if seen is not None:
            self._note_record(session.id, is_kept="not_kept" not in seen.state)
        progress.look(_stamp(heartbeat), seen, self._clock.monotonic(), due=due, busy=busy, refused=refused)
        signs = progress.signs(self._clock.now())
        found = await self.folders.look(session)
        if isinstance(found, Grown):
            signs = replace(signs, grown=found)
        verdict = judge(signs, self._limits)
        return found if isinstance(found, Uncounted) and isinstance(verdict, Fine) else verdict

    def _note_record(self, session: SessionId, *, is_kept: bool) -> None:
        if is_kept:
            self._unkept.pop(session, None)
        else:
            self._unkept.setdefault(session, self._clock.now())

    async def _read(self, session: Session, lease: LeaseId) -> tuple[Seen | None, str]:
        try:
            doing = await self._mailboxes.outbound(session, queries.progress())
        except MailboxError as error:
            # What the machine refuses (no descriptor left, a disk that fails) is not the container's doing.
            return None, "" if isinstance(error.__cause__, OSError) else str(error.__cause__)
        return None if doing is None else _seen(doing, lease), ""


def _seen(doing: Doing, lease: LeaseId) -> Seen:
    claims = [claim for claim in doing.claims if claim.container_id == lease]
    change = hash(
        (tuple(doing.state.items()), tuple((claim.message_id, claim.change) for claim in claims), doing.highest_seq)
    )
    return Seen(claims=len(claims), change=change, state=doing.state)


def _stamp(heartbeat: Path) -> Stamp:
    try:
        found = heartbeat.lstat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino)
