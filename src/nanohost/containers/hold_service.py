"""Places holds on sessions that fill the disk or block their mailbox, and notifies the chats that wait for a held one.

A hold is a row that is read when a container starts, in the transaction that takes its lease (see db/holds.py). Each
chat is notified once for a hold: the hold's row lists the notified chats.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from nanohost.access.notify import notify_owners
from nanohost.clock import Clock
from nanohost.containers.disk_usage import WatchedFolder, size_warning
from nanohost.containers.notices import Notice, notice_delivery
from nanohost.containers.stuck_policy import DISK, Stuck
from nanohost.db import deliveries, holds, sessions
from nanohost.db.database import Store
from nanohost.db.holds import HOST_ACTOR, Hold
from nanohost.db.notice_numbers import ON_HOLD_NOTICE
from nanohost.errors import MailboxError, NanohostError, StoreError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session, SessionId
from nanohost.text.translation import _, gettext_noop, lazy, lazy_gettext, translate
from nanohost_protocol.ids import derive_id
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import ChatId, MessageIn
from nanohost_protocol.times import to_text

TERMINAL = "terminal"
"""The channel of the terminal, by its type."""
HOLD_NOTICE = gettext_noop(
    "I am on hold and do not work right now. I keep your message; whoever runs me can release me."
)
OPERATOR_HOLD_NOTICE = gettext_noop(
    "I am on hold and do not work right now. I keep your message. To release me: nanohost {command}"
)
OPERATOR_HOLD_NOTICE_WITH_REASON = gettext_noop(
    "I am on hold and do not work right now: {reason}. I keep your message. To release me: nanohost {command}"
)
"""For the terminal: only the operator can write there, and there may be no owner to notify."""

_log = structlog.get_logger()

UNSAVED_NOTICE = gettext_noop(
    "Session {session} answers, but its conversation is not kept: it is gone when its container ends. Its state folder"
    " is full or cannot be written to: make room, or correct its permissions. See: nanohost status"
)


class SessionHeld(NanohostError):
    """No container is started for a session that is held."""

    reason = "held"


class HoldService:
    """One per container manager."""

    def __init__(self, *, store: Store, mailboxes: Mailboxes, clock: Clock) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock

    async def notify_waiting(self, session: Session, hold: Hold) -> bool:
        """Notify the chats that wait for the session and were not notified yet. Returns False if its mailbox cannot be
        read."""
        try:
            waiting = await self._mailboxes.update(session, _latest_messages)
        except MailboxError as error:
            _log.error("notify_failed", session=session.id, error=str(error), hint=error.hint)
            return False
        latest = {one.origin.chat: one for one in waiting if one.origin is not None}
        unnotified = {chat: message for chat, message in latest.items() if chat not in hold.notified_chats}
        if not unnotified:
            return True
        now = self._clock.now()
        notices = [
            notice_delivery(
                session, Notice(message=one, number=ON_HOLD_NOTICE, text=hold_notice(session, hold, chat)), now
            )
            for chat, one in unnotified.items()
        ]
        async with self._store.transaction() as tx:
            for notice in notices:
                await deliveries.add(tx, notice)
            await holds.mark_notified(tx, hold, unnotified)
        return True

    async def place_hold(self, session: Session, stuck: Stuck) -> None:
        """Hold the session, or its agent group if `stuck` is group-wide, and tell the owners. Emits HoldChanged. Does
        nothing if the session was deleted. Raises StoreError."""
        now = self._clock.now()
        text = held_text(session, stuck)
        async with self._store.transaction() as tx:
            if await sessions.find(tx, session.id) is None:
                return  # deleted, and its agent perhaps too: a retry would fail for ever
            if stuck.is_group_wide:
                await holds.hold_group(tx, session.agent_group_id, by=HOST_ACTOR, at=now, reason=stuck.detail)
            else:
                await holds.hold_session(tx, session.id, by=HOST_ACTOR, at=now, reason=stuck.detail)
            cause = derive_id("hold", session.id, to_text(now))
            await notify_owners(tx, text, exclude=(), cause=cause, now=now)

    async def notify_unsaved(self, session: SessionId) -> None:
        """Tell the owners, once for each session, that its conversation is not saved. Raises StoreError."""
        text = _(UNSAVED_NOTICE, session=session)
        async with self._store.transaction() as tx:
            await notify_owners(tx, text, exclude=(), cause=f"not kept: {session}", now=self._clock.now())

    async def warn_about_size(self, session: Session, watched: WatchedFolder, size_bytes: int) -> bool:
        """Tell the owners, once for each folder and limit, about a folder over its limit that causes no hold. Returns
        False if the disk is too full to record the notice."""
        now = self._clock.now()
        detail = size_warning(watched, size_bytes)
        text = _("{subject} goes on, but {problem}.", subject=_subject(session, watched), problem=translate(detail))
        _log.warning("folder_over_limit", session=session.id, sentence=str(detail))
        cause = derive_id("large", str(watched.path), str(watched.limit_bytes))
        try:
            async with self._store.transaction() as tx:
                await notify_owners(tx, text, exclude=(), cause=cause, now=now)
        except StoreError as error:
            _log.warning("owner_notify_failed", error=str(error), hint=error.hint)
            return False
        return True


def hold_notice(session: Session, hold: Hold, chat: ChatId) -> str:
    """Returns the notice for people who wait in this chat. Pure."""
    if chat.channel_type != TERMINAL:
        return HOLD_NOTICE
    command = release_command(session, is_group_wide=hold.is_group_hold)
    if not hold.reason:
        return lazy_gettext(OPERATOR_HOLD_NOTICE, command=command)
    return lazy_gettext(OPERATOR_HOLD_NOTICE_WITH_REASON, reason=lazy(hold.reason), command=command)


def held_text(session: Session, stuck: Stuck) -> str:
    """What the owners are told of a hold, and of what ends it. Pure."""
    values = {
        "subject": _subject(session, stuck),
        "reason": translate(stuck.detail),
        "command": release_command(session, is_group_wide=stuck.is_group_wide),
    }
    if stuck.reason == DISK:
        return _("{subject} is on hold: {reason}. When that is done: nanohost {command}", **values)
    return _("{subject} is on hold: {reason}. To release it: nanohost {command}", **values)


def _subject(session: Session, held: Stuck | WatchedFolder) -> str:
    if held.is_group_wide:
        return _("The agent {agent}", agent=session.group_folder)
    return _("Session {session}", session=session.id)


def release_command(session: Session, *, is_group_wide: bool) -> str:
    """Returns the command, to type after `nanohost`, that ends a hold."""
    return f"agents release {session.group_folder}" if is_group_wide else f"sessions release {session.id}"


def _latest_messages(box: InboundWriter) -> Sequence[MessageIn]:
    return list(box.latest_per_chat())
