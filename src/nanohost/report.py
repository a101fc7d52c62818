"""What `nanohost status` shows of a running host: plain JSON, from what its parts say of themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from nanohost import __version__
from nanohost.channels.connections import Connections
from nanohost.clock import Clock
from nanohost.commands.show import Json, plain
from nanohost.gateway.health import Standing
from nanohost.keeper.disk import Short
from nanohost.keeper.keeper import Keeper
from nanohost.keeper.space import Scarce
from nanohost.model import SessionId
from nanohost.runtimes.port import Runtime
from nanohost.supervisor import Service, ServiceState
from nanohost_protocol.times import to_text

TROUBLED_FOR = timedelta(minutes=15)
"""For how long a service that was started again is shown, in case it fails once more."""


def report(
    *,
    runtime: Runtime,
    provider: str,
    connections: Connections,
    keeper: Keeper,
    model: Standing,
    slowed: Mapping[SessionId, str],
    disks_short: Sequence[Short],
    services: Sequence[Service],
    clock: Clock,
) -> dict[str, Json]:
    now = clock.monotonic()
    return {
        "version": __version__,
        "pid": os.getpid(),
        "runtime": runtime.name,
        "isolation": str(runtime.isolation),
        "provider": provider,
        "channels": [plain(state) for state in connections.report()],
        "containers": [
            {
                "session": slot.session_id,
                "state": str(slot.state),
                "busy": slot.busy,
                "for_s": round(now - slot.since),
            }
            for slot in keeper.containers()
        ],
        "sessions_in_trouble": [
            {
                "session": session,
                "failures": trouble.failures,
                "next_try_in_s": max(0, round(trouble.until - now)),
                "reason": trouble.reason,
            }
            for session, trouble in keeper.troubles().items()
        ],
        "conversations_not_kept": [
            {"session": session, "since": since.isoformat(timespec="seconds")}
            for session, since in keeper.unkept().items()
        ],
        "model_wrong": _complaint(model),
        "model_good_at": None if model.good_at is None else to_text(model.good_at),
        "disks_short": [_short(short) for short in disks_short],
        "folders_large": [
            {
                "whose": watched.whose,
                "folder": str(watched.path),
                "size_mb": size // 1024**2,
                "limit_mb": watched.limit // 1024**2,
                "setting": watched.setting,
            }
            for watched, size in keeper.large_folders()
        ],
        "sessions_slowed": [{"session": session, "reason": reason} for session, reason in slowed.items()],
        "waiting_for_a_container": list(keeper.waiting()),
        "services_in_trouble": [plain(service) for service in services if _is_in_trouble(service, clock.now())],
    }


def _complaint(model: Standing) -> list[Json]:
    if model.complaint is None or model.since is None:
        return []
    since = model.since.isoformat(timespec="seconds")
    return [{"problem": model.complaint.problem, "since": since, "do": model.complaint.do}]


def _short(short: Short) -> Json:
    space = short.space
    left = f"{space.free // 1024**2:,} MiB" if short.what is Scarce.BYTES else f"{space.free_inodes:,} files"
    return {"folder": str(short.folder), "left": left, "grew_most": short.grew or "not known"}


def _is_in_trouble(service: Service, now: datetime) -> bool:
    """It does not run, or has not run for long since it failed."""
    lately = service.restarts > 0 and now - service.since < TROUBLED_FOR
    return service.state is not ServiceState.RUNNING or lately
