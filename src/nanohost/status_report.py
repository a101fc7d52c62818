"""Builds the live part of `nanohost status` as plain JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from nanohost import __version__
from nanohost.channels.manager import ChannelManager
from nanohost.clock import Clock
from nanohost.commands.tables import Json, to_json
from nanohost.containers.disk_monitor import LowDisk
from nanohost.containers.disk_space import DiskResource
from nanohost.containers.manager import ContainerManager
from nanohost.gateway.model_health import ModelStatus
from nanohost.model import SessionId
from nanohost.runtimes.runtime_api import Runtime
from nanohost.work.supervisor import Service, ServiceState
from nanohost_protocol.times import to_text

RECENT_RESTART_WINDOW = timedelta(minutes=15)
"""For how long the status shows a service that was restarted, in case it fails again."""


def build_status(
    *,
    runtime: Runtime,
    provider: str,
    connections: ChannelManager,
    containers: ContainerManager,
    model: ModelStatus,
    throttled: Mapping[SessionId, str],
    low_disks: Sequence[LowDisk],
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
        "channels": [to_json(state) for state in connections.connection_states()],
        "containers": [
            {
                "session": slot.session_id,
                "state": str(slot.state),
                "busy": slot.is_busy,
                "for_s": round(now - slot.started_at),
            }
            for slot in containers.containers()
        ],
        "sessions_in_trouble": [
            {
                "session": session,
                "failures": trouble.count,
                "next_try_in_s": max(0, round(trouble.retry_at - now)),
                "reason": trouble.reason,
            }
            for session, trouble in containers.failures().items()
        ],
        "conversations_not_kept": [
            {"session": session, "since": since.isoformat(timespec="seconds")}
            for session, since in containers.unsaved_conversations().items()
        ],
        "model_wrong": _model_problem(model),
        "model_good_at": None if model.last_success_at is None else to_text(model.last_success_at),
        "disks_short": [_low_disk(short) for short in low_disks],
        "folders_large": [
            {
                "whose": watched.owner,
                "folder": str(watched.path),
                "size_mb": size // 1024**2,
                "limit_mb": watched.limit_bytes // 1024**2,
                "setting": watched.setting,
            }
            for watched, size in containers.folders_over_limit()
        ],
        "sessions_slowed": [{"session": session, "reason": reason} for session, reason in throttled.items()],
        "waiting_for_a_container": list(containers.queued()),
        "services_in_trouble": [to_json(service) for service in services if _is_unhealthy(service, clock.now())],
    }


def _model_problem(model: ModelStatus) -> list[Json]:
    if model.problem is None or model.since is None:
        return []
    since = model.since.isoformat(timespec="seconds")
    return [{"problem": model.problem.message, "since": since, "do": model.problem.hint}]


def _low_disk(disk: LowDisk) -> Json:
    space = disk.space
    left = (
        f"{space.free_bytes // 1024**2:,} MiB"
        if disk.main_resource is DiskResource.BYTES
        else f"{space.free_inodes:,} files"
    )
    return {"folder": str(disk.folder), "left": left, "grew_most": disk.largest_growth or "not known"}


def _is_unhealthy(service: Service, now: datetime) -> bool:
    """Whether the service is not running, or was restarted recently."""
    is_recently_restarted = service.restarts > 0 and now - service.since < RECENT_RESTART_WINDOW
    return service.state is not ServiceState.RUNNING or is_recently_restarted
