"""Runs the runner of one session: python -m agent_runner --install I --session S --lease L.

Exit codes: 0 asked to stop, idle, or the session is deleted · 64 wrong arguments · 74 a file cannot be used ·
75 another runner has this session · 78 the mailbox has another version.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from agent_runner import providers, tools
from agent_runner.log import log
from agent_runner.loop import Runner, utc_now
from agent_runner.mailbox import Mailbox
from agent_runner.settings import Settings, read_settings
from agent_runner.signals import RunnerSignals
from agent_runner.writer_lock import WriterLockHeld, hold_writer_lock
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.errors import ProtocolError, VersionMismatch
from nanohost_protocol.heartbeat import run_heartbeat
from nanohost_protocol.layout import PROVIDERS, TOOLS

EX_USAGE, EX_IOERR, EX_TEMPFAIL, EX_CONFIG = 64, 74, 75, 78


def main() -> int:
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        if settings.extensions is not None:
            providers.add_search_folder(settings.extensions / PROVIDERS)
            tools.add_search_folder(settings.extensions / TOOLS)
        if settings.provider not in providers.provider_names():
            raise ValueError(
                f"NANOHOST_PROVIDER is {settings.provider!r}; there is {', '.join(providers.provider_names())}"
            )
    except ValueError as error:
        log("settings_invalid", error=error)
        return EX_USAGE
    try:
        with hold_writer_lock(settings.layout.writer_lock):
            crash_point("runner.locked")
            return _run_with_mailbox(settings)
    except WriterLockHeld as error:
        log("writer_lock_held", error=error)
        return EX_TEMPFAIL
    except VersionMismatch as error:
        log("version_mismatch_detected", error=error, update=_side_to_update(error))
        return EX_CONFIG
    except (ProtocolError, OSError) as error:
        log("mailbox_unusable", error=error)
        return EX_IOERR


def _run_with_mailbox(settings: Settings) -> int:
    mailbox = Mailbox(
        settings.layout, lease=settings.lease
    )  # first: it rolls back the unfinished writes of a dead runner
    try:
        mailbox.abandon_stale_claims(utc_now())
        crash_point("runner.begun")
        with run_heartbeat(settings.layout.heartbeat):
            return asyncio.run(_run(settings, mailbox))
    finally:
        mailbox.close()


async def _run(settings: Settings, mailbox: Mailbox) -> int:
    signals = RunnerSignals()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.stop)
    return await Runner(settings, mailbox, signals).run()


def _side_to_update(error: VersionMismatch) -> str:
    """Returns which side is older, the file or this container."""
    if error.found > error.expected:
        return "this container is older than the host: build the agent's image anew (nanohost image build)"
    return "the host is older than this container: update nanohost on the host"


if __name__ == "__main__":
    sys.exit(main())
