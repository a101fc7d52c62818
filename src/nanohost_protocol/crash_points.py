"""Defines crash points: named places in host and runner at which a test can kill the process.

Without NANOHOST_CRASH_AT in the environment, `crash_point` compares one constant and returns. If the variable is `name`
or `name:n`, the process kills itself by SIGKILL the n-th time that it reaches that point. A host passes the value of
its NANOHOST_CRASH_RUNNER_AT to the runners that it starts, as their NANOHOST_CRASH_AT.
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
    "host_requests.open": "a request to the host itself is carried out, its transaction is open",
    "host_requests.committed": "it is committed, nobody is notified yet",
    "answers.claimed": "the answer to a question is on record, the session does not have it yet",
    "routing.written": "the message is in the mailbox, not yet on record",
    "routing.recorded": "the route is on record, nobody is woken yet",
    "collector.open": "the ledger's entries are written, the transaction is open",
    "collector.committed": "the ledger has the entries, nobody sends them yet",
    "actions.entered": "a request of the agent is on record, nothing is done yet",
    "actions.held": "a request waits for an approval and that is committed, nobody is asked yet",
    "approvals.asking": "a card for an approver is written, its transaction is open",
    "approvals.asked": "the card is committed, nobody sends it yet",
    "approvals.open": "an approval is decided and took effect, the transaction is open",
    "actions.done": "the outcome of a request is committed, the agent is not notified",
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
"""The crash points of the host, and the state at each."""

RUNNER_POINTS: Mapping[str, str] = {
    "runner.locked": "the runner has its lock, no file is open",
    "runner.begun": "claims of earlier containers are abandoned, nothing is claimed",
    "runner.claimed": "the turn is claimed",
    "runner.asked": "the provider has the prompt",
    "runner.said": "a tool's message is committed, in the middle of the turn",
    "runner.answered": "the provider has answered, nothing of it is written",
    "runner.finishing": "the answer is written, the transaction that ends the turn is open",
    "runner.finished": "the turn's end is committed",
    "runner.pruning": "old rows are deleted, the transaction is open",
}
"""The crash points of the runner, and the state at each."""


class CrashTrigger:
    """Kills the process when it reaches one crash point for the n-th time."""

    def __init__(self, text: str) -> None:
        """`text`: NAME or NAME:N. Raises ValueError for an unknown crash point."""
        name, _, passage = text.partition(":")
        if name not in HOST_POINTS and name not in RUNNER_POINTS:
            raise ValueError(f"{ENV_VARIABLE}: there is no crash point {name!r}")
        self._name = name
        self._remaining_hits = int(passage or 1)

    def hit(self, name: str) -> None:
        """Record that the process is at the crash point `name`; kill it if this is the one."""
        if name == self._name:
            self._remaining_hits -= 1
            if self._remaining_hits <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


_trigger = CrashTrigger(os.environ[ENV_VARIABLE]) if os.environ.get(ENV_VARIABLE) else None


def crash_point(name: str) -> None:
    """Mark a crash point. Does nothing unless a test has chosen it."""
    if _trigger is not None:
        _trigger.hit(name)


def runner_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that a runner gets from the host's environment: the crash point of a test, if
    any."""
    wanted = environment.get(RUNNER_ENV_VARIABLE)
    return {ENV_VARIABLE: wanted} if wanted else {}
