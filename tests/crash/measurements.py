"""Measurements after a run of crashes: what people saw, the files, the processes, `nanohost verify`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.ids import derive_id
from nanohost_protocol.outbound import outbound_snapshot
from tests.crash.approval_workload import ApprovalWorkload
from tests.crash.platform import FakePlatform
from tests.crash.processes import HostProcess
from tests.crash.workload import UserWorkload

MAX_LISTED_MISSING = 10
AMBIGUOUS = """
SELECT d.session_id, d.out_id, count(b.number) AS part
FROM deliveries d JOIN delivery_attempts a USING (session_id, seq)
LEFT JOIN delivery_attempts b
    ON b.session_id = a.session_id AND b.seq = a.seq AND b.number < a.number AND b.outcome = 'part'
WHERE a.outcome = 'ambiguous' GROUP BY a.session_id, a.seq, a.number
"""
"""Attempts; each is at the part that comes after those that are sent."""
UNFINISHED = """
SELECT (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending'))
     + (SELECT count(*) FROM sessions WHERE due_at IS NOT NULL)
     + (SELECT count(*) FROM inbound_events WHERE status = 'new')
     + (SELECT count(*) FROM inbound_events WHERE status = 'held')
     + (SELECT count(*) FROM actions WHERE status IN ('pending', 'held') OR notified = 0)
     + (SELECT count(*) FROM approvals WHERE status = 'pending')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run. `name`: a crash point, or how the kills were timed; `idempotent`: what the platform did with keys.

    `repeated` counts copies that nothing excuses; `ambiguous_extra` those of messages that the host had to send again
    because it could not know: at most one for each attempt that a crash left without an answer (`ambiguous`).
    `container_kills` are the deaths of runners, by our hand or their own.
    `disordered`: long answers whose parts were first seen in another order.
    `odd`: cards, effects and ends of approvals and questions that are missing, or there twice.
    `unfinished`: what the last host had still to do when the time was over; `missing`: some of what was lost or odd.
    """

    name: str
    idempotent: bool
    host_kills: int
    container_kills: int
    events: int
    lost: int
    repeated: int
    ambiguous: int
    ambiguous_extra: int
    notices: int
    unfinished: int
    open_claims: int
    orphan_containers: int
    verify_failures: int
    seconds: float
    missing: tuple[str, ...]
    disordered: int = 0
    odd: int = 0

    @property
    def kills(self) -> int:
        return self.host_kills + self.container_kills

    @property
    def is_sound(self) -> bool:
        left = (self.unfinished, self.open_claims, self.orphan_containers, self.verify_failures)
        return not any((self.lost, self.repeated, self.disordered, self.odd, *left))


def measure_run(
    name: str,
    host: HostProcess,
    platform: FakePlatform,
    people: UserWorkload | ApprovalWorkload,
    *,
    idempotent: bool,
    container_kills: int,
    unfinished: int,
    seconds: float,
) -> Result:
    """Count. The host has been stopped; its runners may live. Blocking."""
    ambiguous = _ambiguous_attempts(host.root)
    copies = Counter(copy.key for copy in platform.seen)
    keys = Counter((chat, text) for chat, text, _ in {(one.chat, one.text, one.key) for one in platform.seen})
    expected, seen = people.expected(), platform.texts()
    missing = expected - seen.keys()
    odd = tuple(people.find_anomalies(host.root))
    unexcused = sum(max(0, count - 1 - ambiguous[key]) for key, count in copies.items())
    return Result(
        name=name,
        idempotent=idempotent,
        host_kills=host.kill_count,
        container_kills=container_kills,
        events=people.write_count,
        lost=len(missing) + platform.unacknowledged(),
        repeated=unexcused + sum(count - 1 for where, count in keys.items() if where in expected),
        ambiguous=ambiguous.total(),
        ambiguous_extra=sum(min(count - 1, ambiguous[key]) for key, count in copies.items()),
        notices=len(seen.keys() - expected),
        unfinished=unfinished,
        open_claims=_open_claims(host.root),
        orphan_containers=_count_orphan_containers(host),
        verify_failures=_verify_failures(host),
        seconds=round(seconds, 1),
        disordered=_count_disordered(platform, people),
        odd=len(odd),
        missing=(
            *(f"{chat}: {text}" for chat, text in sorted(missing)[:MAX_LISTED_MISSING]),
            *odd[:MAX_LISTED_MISSING],
        ),
    )


def unfinished(root: Path) -> int:
    """How much a running host has left to do: deliveries, due sessions, events to route."""
    with closing(_open_central_db(root)) as db:
        return int(db.execute(UNFINISHED).fetchone()[0])


async def wait_until_done(root: Path, *, timeout_s: float = 40.0) -> None:
    """Wait until a running host has nothing left to do. Raises TimeoutError."""
    async with asyncio.timeout(scaled_timeout(timeout_s)):
        while await asyncio.to_thread(unfinished, root):  # noqa: ASYNC110 - another process works
            await asyncio.sleep(0.05)


def _count_disordered(platform: FakePlatform, people: UserWorkload | ApprovalWorkload) -> int:
    first: dict[tuple[str, str], int] = {}
    for place, copy in enumerate(platform.seen):
        first.setdefault((copy.chat, copy.text), place)
    places = [[first[part] for part in parts if part in first] for parts in people.multipart_texts()]
    return sum(1 for found in places if found != sorted(found))


def _ambiguous_attempts(root: Path) -> Counter[str]:
    """By key, the number of attempts after which it is unknown whether the platform has the message."""
    with closing(_open_central_db(root)) as db:
        return Counter(_key(session, out_id, part) for session, out_id, part in db.execute(AMBIGUOUS))


def _key(session: str, out_id: str, part: int) -> str:
    """The key of a part; the first has the message's own."""
    return derive_id("k", session, out_id, *([str(part)] if part else []))


def _open_claims(root: Path) -> int:
    claims = 0
    for path in (root / "sessions").glob("*/*/out/outbound.db"):
        with outbound_snapshot(path, busy_timeout_s=scaled_timeout(HANG_TIMEOUT_S)) as box:
            claims += len(box.open_claims())
    return claims


def _count_orphan_containers(host: HostProcess) -> int:
    """Runners without a recorded session, and second ones of a session."""
    with closing(_open_central_db(host.root)) as db:
        leased = {(id, lease) for id, lease in db.execute("SELECT id, lease FROM sessions WHERE lease IS NOT NULL")}
    return sum(count - (lease in leased) for lease, count in Counter(host.runner_leases()).items())


def _verify_failures(host: HostProcess) -> int:
    """Whether verify found a problem, which is written to the host's log."""
    verified = host.command("verify")
    if verified.returncode != 0:
        with host.log.open("a") as log:
            log.write(verified.stdout + verified.stderr)
    return int(verified.returncode != 0)


def _open_central_db(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{root / 'data' / 'nanohost.db'}?mode=ro", uri=True, timeout=scaled_timeout(5))
