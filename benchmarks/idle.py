"""What a host costs that does nothing: memory with the terminal alone, and CPU with many sessions on disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Measurement
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, sessions
from nanohost.db.database import Store
from nanohost.db.open import open_home_store
from nanohost.mailbox.mailboxes import Mailboxes

CROWDS = (100, 1000, 10_000)
AIMED_AT = 1000
SETTLE_S = 4.0
WATCHED_S = 20.0
READY_LIMIT_S = 30.0


async def measure(root: Path) -> list[Measurement]:
    """Hosts as an operator starts them, one after the other."""
    rss, _ = await asyncio.to_thread(_watch_host, Home(root / "alone"))
    found = [Measurement(key="rss_idle_mb", what="host, idle, terminal alone: memory", value=rss, unit="MB", target=80)]
    for count in CROWDS:
        home = Home(root / f"full-{count}")
        await _fill(home, count)
        _, cpu = await asyncio.to_thread(_watch_host, home)
        found.append(
            Measurement(
                key=f"cpu_idle_{count}_pct",
                what=f"host, idle, {count} sessions on disk: CPU",
                value=cpu,
                unit="% of a core",
                target=1.0 if count == AIMED_AT else None,
            )
        )
    return found


async def _fill(home: Home, count: int) -> None:
    home.root.mkdir(parents=True)
    with lock_home(home):
        async with open_home_store(home, durable=False) as store:
            mailboxes = Mailboxes(home.sessions, durable=False)
            async with mailboxes.opened():
                for number in range(count):
                    await _add_session(store, mailboxes, number)


async def _add_session(store: Store, mailboxes: Mailboxes, number: int) -> None:
    now = datetime.now(UTC)
    async with store.transaction() as tx:
        group = await agent_groups.find(tx, "main") or await agent_groups.add(
            tx, folder="main", name="main", provider=None, model=None, now=now
        )
        made = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=f"thread-{number}", now=now)
        session = await sessions.get(tx, made)
    await mailboxes.put(session, [])


def _watch_host(home: Home) -> tuple[float, float]:
    """Resident memory in MB and CPU in percent of a core, over a while of nothing."""
    with serving(home) as pid:
        time.sleep(SETTLE_S)
        before, began = _cpu_s(pid), time.monotonic()
        time.sleep(WATCHED_S)
        cpu = (_cpu_s(pid) - before) / (time.monotonic() - began) * 100
        return round(_rss_mb(pid), 1), round(cpu, 2)


@contextmanager
def serving(home: Home) -> Iterator[int]:
    """A host as an operator starts it, ready while entered; its process id."""
    environment = {**os.environ, "NANOHOST_RUNTIME": "process", "NANOHOST_PROVIDER": "demo"}
    command = [sys.executable, "-m", "nanohost", "--home", str(home.root), "run"]
    host = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until(home.control_socket.exists)
        yield host.pid
    finally:
        host.terminate()
        host.wait(30)


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + READY_LIMIT_S
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("the host did not become ready")
        time.sleep(0.05)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2
