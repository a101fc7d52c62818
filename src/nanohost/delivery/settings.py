"""Declares the settings of delivery: what is sent again, and how much of a session is collected in an hour."""

from __future__ import annotations

from typing import ClassVar, Literal

from nanohost.config.section import Section, setting


class DeliverySettings(Section):
    table: ClassVar = "host"

    ambiguous: Literal["resend", "ask"] = setting(
        "resend",
        order=140,
        title="A message that may have been sent, on a platform that cannot tell a repeat: send it again, or ask you.",
        expected="resend or ask",
    )
    session_rows_per_hour: int = setting(
        7_200,
        order=170,
        title="How many messages and requests of one session are taken over in an hour; what is more waits.",
        expected="a whole number, 60 or more",
        ge=60,
    )
    """Twice what the fastest chat platform accepts from one sender in an hour (one message per second and chat)."""
    session_mb_per_hour: int = setting(
        24,
        order=180,
        title="How many MiB of messages of one session are taken over in an hour; what is more waits.",
        expected="a whole number of MiB, 1 or more",
        ge=1,
    )
    """At this rate, `keep_days` of 30 is 17 GB; a person reads 0.1 MB in an hour."""
    session_requests_per_hour: int = setting(
        600,
        order=190,
        title="How many requests of one session, and messages that are refused, are taken over in an hour; more waits.",
        expected="a whole number, 6 or more",
        ge=6,
    )
    """One in six seconds. Each costs a transaction, an entry of the audit log, and an answer to the agent."""
