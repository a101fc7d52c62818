"""Real processes that are killed: a file contains only whole steps, and none twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanohost_protocol.errors import FileNotReady
from nanohost_protocol.inbound import inbound_snapshot, inbound_transaction
from nanohost_protocol.outbound import OutboundWriter, outbound_snapshot
from nanohost_protocol.rows import AckStatus
from tests.protocol import killed_writer
from tests.protocol.conftest import NOON, insert_messages
from tests.protocol.killed_writer import MESSAGES_PER_TURN

ROOT = Path(__file__).resolve().parents[2]
KILLS = 64
LONGEST_LIFE_S = 0.03


@contextmanager
def writer(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A child process that has started its work; killed at the end of the block, if not before."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-S", str(killed_writer.__file__), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline()
            yield child
        finally:
            child.kill()


@pytest.mark.behaviour("RU-08")
def test_a_runner_killed_anywhere_leaves_whole_turns_and_repeats_no_message(outbound: Path) -> None:
    chance = random.Random(7)
    hot = 0
    for life in range(KILLS):
        with writer("outbound", str(outbound), str(life)):
            time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        try:
            check(outbound)
        except FileNotReady:
            hot += 1
    OutboundWriter(outbound, container_id="last", durable=False).close()
    assert check(outbound) > KILLS / 2
    assert hot < KILLS


def check(outbound: Path) -> int:
    """The number of completed turns; each with all of its messages, and each message once."""
    with outbound_snapshot(outbound) as box:
        rows = box.messages_after(0)
        while more := box.messages_after(rows[-1].seq if rows else 0):
            rows += more
        acks = box.acks_after(0, limit=100_000)
    ids = [row.id for row in rows if hasattr(row, "id")]
    assert len(ids) == len(set(ids)) == len(rows)
    said: dict[str, int] = {}
    for row in rows:
        said[getattr(row, "turn_id")] = said.get(getattr(row, "turn_id"), 0) + 1  # noqa: B009
    for ack in acks:
        whole = said.get(ack.turn_id, 0) == MESSAGES_PER_TURN
        assert whole == (ack.status is AckStatus.COMPLETED), ack
    assert set(said) <= {ack.turn_id for ack in acks}
    return sum(ack.status is AckStatus.COMPLETED for ack in acks)


def test_a_writer_killed_in_a_transaction_leaves_a_journal_that_only_it_rolls_back(inbound: Path) -> None:
    insert_messages(inbound, "before")
    with writer("inbound", str(inbound)):
        pass
    assert inbound.with_name("inbound.db-journal").stat().st_size > 0
    with pytest.raises(FileNotReady), inbound_snapshot(inbound):
        pass
    with inbound_transaction(inbound, durable=False) as box:
        assert [row.id for row in box.pending()] == ["before"]
    with inbound_snapshot(inbound) as reader:
        assert [row.id for row in reader.due(NOON)] == ["before"]
