"""Named places in host and runner where a process may be killed, so that tests can kill it just there.

Promises: without NANOHOST_CRASH_AT in the environment `crash_point` compares one constant and returns. With it, `name`
or `name:n`, the process ends itself by SIGKILL at that point's n-th passage: nothing is said, nothing is tidied.
NANOHOST_CRASH_RUNNER_AT, set for a host, becomes the NANOHOST_CRASH_AT of the runners it starts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

ENV_VARIABLE = "NANOHOST_CRASH_AT"
RUNNER_ENV_VARIABLE = "NANOHOST_CRASH_RUNNER_AT"

HOST_POINTS: Mapping[str, str] = {
    "inbox.open": "an event is written, its transaction is open",
    "inbox.committed": "the event is committed, the platform not yet told",
    "host_requests.open": "what the host itself was asked is done, its transaction is open",
    "host_requests.committed": "it is committed, nobody is notified yet",
    "answers.claimed": "who answered a question is on record, the session does not have it yet",
    "routing.written": "the message is in the mailbox, not yet on record",
    "routing.recorded": "the route is on record, nobody is woken yet",
    "collector.open": "the ledger's entries are written, the transaction is open",
    "collector.committed": "the ledger has the entries, nobody sends them yet",
    "actions.entered": "a request of the agent is on record, nothing is done yet",
    "actions.held": "a request waits for an approval and that is committed, nobody is asked yet",
    "approvals.asking": "a card for an approver is written, its transaction is open",
    "approvals.asked": "the card is committed, nobody sends it yet",
    "approvals.open": "an approval is decided and took effect, the transaction is open",
    "actions.done": "its outcome is committed, the agent is not notified",
    "sender.intended": "the intent is committed, the channel not yet asked",
    "sender.sent": "the platform has the message, its outcome is not written",
    "sender.open": "the outcome is written, its transaction is open",
    "sender.settled": "the outcome is committed",
    "scheduler.decided": "a run is on record, the session has nothing yet",
    "scheduler.written": "the run's message is in the mailbox, not yet on record",
    "scheduler.recorded": "the run has begun on record, nobody is woken yet",
    "containers.leased": "the lease is committed, no container is started",
    "containers.started": "the container runs, its state is not committed",
    "containers.reaping": "a container is dead, its lease still on record",
    "containers.reaped": "the lease is released, its final acks are not processed",
    "acks.applied": "acks are in the mailbox, not yet in the central database",
}
"""Every point of the host, and what is true there."""

RUNNER_POINTS: Mapping[str, str] = {
    "runner.locked": "the runner has its lock, no file is open",
    "runner.begun": "earlier claims are given up, nothing is claimed",
    "runner.claimed": "the turn is claimed",
    "runner.asked": "the provider has the prompt",
    "runner.said": "a tool's message is committed, in the middle of the turn",
    "runner.answered": "the answer is there, not yet written",
    "runner.finishing": "the answer is written, the transaction that ends the turn is open",
    "runner.finished": "the turn's end is committed",
    "runner.pruning": "old rows are deleted, the transaction is open",
}
"""Every point of the runner."""


class CrashTrigger:
    """The point where this process is to end, and at which passage."""

    def __init__(self, text: str) -> None:
        """`text`: NAME or NAME:N. Raises ValueError for a point that does not exist."""
        name, _, passage = text.partition(":")
        if name not in HOST_POINTS and name not in RUNNER_POINTS:
            raise ValueError(f"{ENV_VARIABLE}: there is no crash point {name!r}")
        self._name = name
        self._remaining_hits = int(passage or 1)

    def hit(self, name: str) -> None:
        """The process is at the point `name`."""
        if name == self._name:
            self._remaining_hits -= 1
            if self._remaining_hits <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


_trigger = CrashTrigger(os.environ[ENV_VARIABLE]) if os.environ.get(ENV_VARIABLE) else None


def crash_point(name: str) -> None:
    """Say that the process is at this point."""
    if _trigger is not None:
        _trigger.hit(name)


def runner_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a runner is to be given of the host's environment: nothing, but for a test that kills runners."""
    wanted = environment.get(RUNNER_ENV_VARIABLE)
    return {ENV_VARIABLE: wanted} if wanted else {}
