"""Ids that are worked out instead of drawn: the same cause gives the same id, so doing it again changes nothing."""

from __future__ import annotations

import base64
import hashlib
import secrets

DERIVED_LENGTH = 24
"""Characters after the letter: 120 bits, and with the letter 25, the most that Discord takes as a nonce."""


def derive_id(letter: str, *parts: str) -> str:
    """An id from its causes. Parts are length-prefixed: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return letter + _base32(digest.digest()[:15])


def random_id(letter: str) -> str:
    """A new random id of the same form, for things that have no cause in a file: sessions, leases."""
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
    """The id of the messages_in row that one platform event makes for one wiring."""
    return derive_id("m", channel_type, instance, platform_id, platform_message_id, event_kind, str(wiring))


def turn_id(first_message_id: str) -> str:
    """The id of the turn that a batch starts. A turn that is tried again keeps its batch and so its id."""
    return derive_id("t", first_message_id)


def out_id(*, turn: str, kind: str, destination: str, content: str, occurrence: int) -> str:
    """The id of an outbound row. `occurrence` counts equal messages in one run of the turn, from 0."""
    return derive_id("o", turn, kind, destination, content, str(occurrence))


TASK_ID_LENGTH = 13
"""A task's id is typed by people and repeated by agents: short, and 60 bits are plenty for one install."""


def task_id(*, session: str, request: str) -> str:
    """The id of the task that an outbound row asks for. Both sides work it out, so the agent need not wait for it."""
    return derive_id("j", session, request)[:TASK_ID_LENGTH]


def notice_id(*, session: str, request: str) -> str:
    """The id of the messages_in row that tells an agent the outcome of its request."""
    return derive_id("a", session, request)


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()
