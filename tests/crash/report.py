"""Results for people: a table on the screen, and docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanohost_protocol.crash_points import HOST_POINTS, RUNNER_POINTS
from tests.crash.fault_injection import CASES, DESCRIPTIONS
from tests.crash.measurements import Result

HEADINGS = (
    "where",
    "keys",
    "host",
    "container",
    "messages",
    "lost",
    "repeated",
    "ambiguous",
    "extra",
    "left",
    "verify",
)
POINTS = {**HOST_POINTS, **RUNNER_POINTS}
TEXT = """# Reliability

## What is promised

* **What came in is kept.** A platform is told that we have a message after it is on disk, never before. One that is
  delivered again is the same message.
* **Every message is worked on to an end.** A turn that a crash interrupts is given to the next runner as a whole; the
  agent is told what it had said, and the same words are not sent again. Five tries, then the person is told.
* **What goes out is sent in order, and its outcome is on disk.** The intent to send is committed before the channel is
  asked. Only a send that was under way when the host died is uncertain; it is sent again under the same key.
* **Nobody is left in silence.** What nothing came of within `[host] answer_deadline_s`, whatever the cause, is said to
  who wrote it, once, as far as they can be reached, and stands in `nanohost status` as long as it lasts.
* **Nothing is left behind.** No message stays claimed by a container that is gone, no container runs that no session
  has on record, and `nanohost verify` finds nothing to complain of.
* **A stop ends.** SIGTERM or Ctrl-C stops in order; a second one at once. What has not ended after `[host]
  stop_limit_s`, be it a thread on a disk that does not answer, is named in the log (`stop_timed_out`: each thread, what
  it is at, with which paths), and the process leaves with exit code 1. Nothing that was promised is lost by that
  (`tests/cli/test_shutdown.py`).

All this holds for a SIGKILL of the host, of a runner, or of both, at any moment. For a machine that stops it holds as
far as its disk keeps what it said was written (`[host] durable`, on by default); that is not measured here.

## What is not

* **Once, exactly, on a platform that knows no keys.** A send that was under way at a crash may have arrived. It is sent
  again, so people may see it twice: at most one extra copy for each such send, `extra` in the table. With
  `[host] ambiguous = "ask"` it is held instead until you say `nanohost deliveries resend` or `drop`.
* **The same words from a model.** A turn that is run again may be worded differently, and other words are another
  message. The agent measured here says the same thing each time.
* **What the agent does elsewhere.** A turn that is run again runs its tools again. nanohost sees to its own messages;
  what an agent wrote into its folder or did through another service is the agent's to repeat safely.
* **A damaged disk.** Files are checked and refused with their name, not mended. Backups are yours to keep.

## How it is measured

    make crash                                 all of this; prints the table, writes crash.json
    .venv/bin/python -m tests.crash --write    writes this page

Host and runner have named points (`src/nanohost_protocol/crash_points.py`) at which a test lets the process kill itself
by SIGKILL, between two commits or inside a transaction. At each point of the host it is killed {kills} times, at the
first, second and third passage in turn, and started again, while people write. At each point of the runner the runners
of {kills} sessions are killed, then the host with what runs, and another host is left to mend it.
The runs named random kill hosts and containers at any moment, each on its own: the largest {most_hosts} hosts and
{most_containers} containers while {most_messages} messages pass. Every third message makes the agent say something in
the middle of its turn and make a task that falls due at once; every fifth is long, and its answer goes out in parts,
which have to come in their order. Where a point is reached only when a person decides, an owner is asked about what
agents want and about strangers who write, agents ask people and wait, and the owner says things to the host itself;
whoever has a card presses it at once, or types the answer, some of them twice: each request is to have one card, one
effect and one end. In the end people must have seen every answer, nothing
may be left to do, and the host is stopped and the files, the processes and `nanohost verify` are looked at. Containers
are plain processes unless it says docker.

`make test` runs a short selection of this.

`host`, `container`: how many were killed. `keys`: whether the platform drops a second message under the same key.
`ambiguous`: sends that a crash left without an
answer. `extra`: copies that people saw of those. `left`: claims that nobody holds, containers that no
session has, approvals and questions that came to anything but one card, one effect and one end, and work that was not
done in the end. To save time most hosts are forked from a process that has their code loaded, and are
`nanohost run` from the first line on; those of the smaller random runs load it themselves.

{table}

{host_kills} kills of a host and {container_kills} of a container, {events} messages: {lost} lost, {repeated} repeated.

## What a host stands on

The same is counted while disk, clock, engine, channel or containers give way, and nobody restarts the host but where it
is said. `make test` runs some of these, too.

{cases_table}

{cases}

A disk that turns read-only under open files does so by an error of the kernel, and comes back by a mount: what host and
runners feel meanwhile is measured as `no write succeeds`, what the next start says as `read-only disk`.

## The points

{points}
"""


def render_page(results: Sequence[Result]) -> str:
    """docs/reliability.md."""
    killed = [result for result in results if result.name not in CASES]
    largest = max(killed, key=lambda result: result.host_kills + result.events)
    return TEXT.format(
        table=_render_table(killed),
        cases_table=_render_table([result for result in results if result.name in CASES]),
        cases="\n".join(f"* {name}: {sentence}" for name, sentence in DESCRIPTIONS.items()),
        points="\n".join(f"* `{name}`: {sentence}" for name, sentence in POINTS.items()),
        kills=max(result.host_kills for result in results if result.name in HOST_POINTS),
        most_hosts=largest.host_kills,
        most_containers=largest.container_kills,
        most_messages=largest.events,
        **_totals(killed),
    )


def render_summary(results: Sequence[Result]) -> str:
    """The table alone, and one line."""
    kills = "{host_kills} kills of a host, {container_kills} of a container"
    line = f"{kills}, {{events}} messages: {{lost}} lost, {{repeated}} repeated"
    return f"{_render_table(results)}\n\n{line.format(**_totals(results))}"


def _totals(results: Sequence[Result]) -> dict[str, int]:
    names = ("host_kills", "container_kills", "events", "lost", "repeated")
    return {name: sum(getattr(result, name) for result in results) for name in names}


def _render_table(results: Sequence[Result]) -> str:
    lines = [HEADINGS, *map(_render_row, _sort_results(results))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]])


def _render_row(result: Result) -> tuple[str, ...]:
    killed = (result.host_kills, result.container_kills)
    numbers = (*killed, result.events, result.lost, result.repeated, result.ambiguous, result.ambiguous_extra)
    left = result.open_claims + result.orphan_containers + result.unfinished + result.odd
    verify = "failed" if result.verify_failures else "ok"
    return (result.name, "yes" if result.idempotent else "no", *map(str, (*numbers, left)), verify)


def _sort_results(results: Iterable[Result]) -> list[Result]:
    """Points in the order of a message's way, with keys before without; random kills come last."""
    place = {name: number for number, name in enumerate(POINTS)}
    return sorted(results, key=lambda one: (place.get(one.name, len(place)), one.name, not one.idempotent))
