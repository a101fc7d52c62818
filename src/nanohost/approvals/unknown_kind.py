"""Handles approvals whose kind no longer exists, because its file was removed after the request."""

from __future__ import annotations

from nanohost.approvals import held_messages
from nanohost.approvals.kind import ExpiryContext
from nanohost.db import actions, approvals
from nanohost.text.translation import gettext_noop

UNKNOWN_KIND = gettext_noop("this host does not know any more what was asked about")


async def expire_unknown_kind(expiry: ExpiryContext) -> None:
    """Ends what waits for it: refuses an agent's request, drops messages with a record, and notifies their senders."""
    tx, approval = expiry.tx, expiry.approval
    await actions.reject_held(tx, approval.id, reason=expiry.reason, now=expiry.now)
    if await approvals.count_held_messages(tx, approval.id):
        await held_messages.reject_held_messages(tx, approval, expiry.reason, expiry.now)
        await held_messages.notify_requester(expiry)
