"""Defines the settings of containers: how many run, their time limits, and their disk limits."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class ContainerSettings(Section):
    """Times in seconds."""

    table: ClassVar = "host"

    max_containers: int = setting(
        8,
        order=40,
        title="How many containers run at once; who waits is served in order of arrival.",
        expected="a whole number, 1 or more",
        ge=1,
    )
    idle_timeout_s: float = setting(
        600,
        order=50,
        title="After how long without work a container is stopped.",
        expected="seconds, more than 0",
        gt=0,
    )
    sweep_interval_s: float = setting(
        60,
        order=70,
        title="How often the host looks for work that no event told it of.",
        expected="seconds, more than 0",
        gt=0,
    )
    heartbeat_limit_s: float = setting(
        30,
        order=80,
        title="A container that gives no sign of life for so long is stopped; its start may take twice as long.",
        expected="seconds, more than 0",
        gt=0,
    )
    turn_limit_s: float = setting(
        1800,
        order=90,
        title="A turn in which nothing happens for so long is ended, unless a tool said that it takes longer.",
        expected="seconds, more than 0",
        gt=0,
    )
    answer_deadline_s: float = setting(
        900,
        order=100,
        title="After how long without an answer or a sign of work a person is told that their message still waits.",
        expected="seconds, more than 0",
        gt=0,
    )


class DiskSettings(Section):
    """Disk limits: for a session's folders `out` (its mailbox, and the files that it sends) and `state` (its
    conversation) each, for an agent group's folder, which may hold the work of many months, and the host's reserve."""

    table: ClassVar = "host"

    session_disk_mb: int = setting(
        2048,
        order=210,
        title="What each of a session's folders out and state may take of the disk, in MiB; beyond it is held.",
        expected="a whole number of MiB, 1 or more",
        ge=1,
    )
    workspace_mb: int = setting(
        10_240,
        order=220,
        title="What an agent group's folder may take of the disk, in MiB; beyond the group is held.",
        expected="a whole number of MiB, 1 or more",
        ge=1,
    )
    disk_reserve_mb: int = setting(
        512,
        order=230,
        title="Free MiB, and an inode for each 16 KiB, kept for the host: below it containers stop. At most a 20th.",
        expected="a whole number of MiB, 0 or more",
        ge=0,
    )

    @property
    def session_bytes(self) -> int:
        return self.session_disk_mb * 1024**2

    @property
    def workspace_bytes(self) -> int:
        return self.workspace_mb * 1024**2

    @property
    def reserve_bytes(self) -> int:
        return self.disk_reserve_mb * 1024**2
