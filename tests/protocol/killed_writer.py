"""A child that writes a mailbox's file until it is killed; see test_killed_writers.

outbound PATH LIFE    claims, says and finishes one turn after another
inbound PATH          leaves a transaction open, its pages on disk
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from nanohost_protocol.ids import out_id
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import AckStatus, InKind, MessageIn, NewMessageIn, NewMessageOut, OutKind, Usage

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MESSAGES_PER_TURN = 2


def main() -> None:
    what, path = sys.argv[1], Path(sys.argv[2])
    if what == "outbound":
        run_turns(path, life=int(sys.argv[3]))
    else:
        kill_in_transaction(path)


def run_turns(path: Path, *, life: int) -> None:
    """Begin where the last life ended; a turn it left open is repeated, with the same ids."""
    box = OutboundWriter(path, container_id=f"life{life}", durable=False)
    box.abandon_stale_claims(NOON)
    print_line("ready")
    number = 0
    while True:
        row = make_message(number, life)
        number += 1
        ack = box.acks([row.id]).get(row.id)
        if ack is not None and ack.status is AckStatus.COMPLETED:
            continue
        turn = f"turn-{row.id}"
        box.claim(turn, [row], NOON)
        box.insert(make_answer(turn, 0), highest_seen_seq=row.seq, now=NOON)
        box.finish(
            TurnEnd(turn_id=turn, messages=[make_answer(turn, 1)], usage=Usage()), highest_seen_seq=row.seq, now=NOON
        )


def make_answer(turn: str, at: int) -> NewMessageOut:
    content = encode(ChatOut(text=f"answer {at} " + "x" * 2000))
    return NewMessageOut(
        id=out_id(turn=turn, kind="chat", destination="", content=content, occurrence=at),
        turn_id=turn,
        kind=OutKind.CHAT,
        content=content,
    )


def make_message(number: int, tries: int) -> MessageIn:
    return MessageIn(
        seq=2 * number + 2,
        id=f"m{number}",
        kind=InKind.CHAT,
        timestamp=NOON,
        status="pending",
        process_after=None,
        tries=tries,
        trigger=True,
        on_wake=False,
        origin=None,
        content="{}",
    )


def kill_in_transaction(path: Path) -> None:
    with inbound_transaction(path) as box:
        box._db.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
        for number in range(200):
            box.insert(NewMessageIn(id=f"half{number}", kind=InKind.CHAT, timestamp=NOON, content="x" * 2000))
        print_line("half way")
        sys.stdin.read()


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
