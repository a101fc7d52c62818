"""Derives ids from their causes: the same cause gives the same id, so a repeated step changes nothing."""

from __future__ import annotations

import base64
import hashlib
import secrets

DERIVED_LENGTH = 24
"""Characters after the letter: 120 bits, and with the letter 25, the most that Discord takes as a nonce."""


def derive_id(letter: str, *parts: str) -> str:
    """Returns an id that is a hash of its parts. Parts are length-prefixed: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return letter + _base32(digest.digest()[:15])


def random_id(letter: str) -> str:
    """Returns a random id of the same form, for sessions and leases, which have no recorded cause."""
    return letter + _base32(secrets.token_bytes(10))


def channel_message_id(
    *,
    channel_type: str,
    instance: str,
    platform_id: str,
    platform_message_id: str,
    event_kind: str,
    wiring: int,
) -> str:
    """Returns the id of the messages_in row of a platform event for a wiring."""
    return derive_id("m", channel_type, instance, platform_id, platform_message_id, event_kind, str(wiring))


def turn_id(first_message_id: str) -> str:
    """Returns the id of the turn that starts with this message. A retried turn has the same batch and so the same
    id."""
    return derive_id("t", first_message_id)


def out_id(*, turn: str, kind: str, destination: str, content: str, occurrence: int) -> str:
    """Returns the id of an outbound row. `occurrence` counts equal messages in one attempt of the turn, from 0."""
    return derive_id("o", turn, kind, destination, content, str(occurrence))


TASK_ID_LENGTH = 13
"""A task's id is typed by people and repeated by agents: short, and 60 bits are plenty for one install."""


def task_id(*, session: str, request: str) -> str:
    """Returns the id of the task that an outbound row requests. Both sides derive it, so the agent does not wait for
    it."""
    return derive_id("j", session, request)[:TASK_ID_LENGTH]


def notice_id(*, session: str, request: str) -> str:
    """Returns the id of the messages_in row that tells an agent the outcome of its request."""
    return derive_id("a", session, request)


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()
