"""Applies the policy for unknown senders: whether an approval is requested, and what the sender is told meanwhile.

Promises: everything happens in the transaction that records the outcome of the message. In a group, only a command of
somebody with a role is answered; bots get no reply. If there is nobody to ask, a direct message is answered once a day.
The reply that somebody was asked comes from approvals/held_messages.py, after the card was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nanohost.access.decision import check_access
from nanohost.approvals import requests
from nanohost.approvals.requests import PendingApproval, Rejected
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.classify import is_chat_command
from nanohost.chat_commands.help import host_command_lines
from nanohost.db import host_messages, roles
from nanohost.db.database import Transaction
from nanohost.db.domain_events import ApprovalChanged
from nanohost.db.events import StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost.db.routes import Route, RouteOutcome
from nanohost.model import AgentGroup, MessagingGroup, UnknownSender, Wiring
from nanohost.routing.engagement import SENT_BY_BOT, is_addressed
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

CHAT_UNKNOWN = "the chat is not known; wire it with: nanohost wirings create"
CHAT_UNWIRED = "no agent is wired to the chat; wire one with: nanohost wirings create"
STRICT_CHAT = "the chat is strict, the sender has no role, and no agent is wired to it"
NO_AGENT_HERE = gettext_noop(
    "No agent listens here yet; write to me, and somebody is asked which one should. What I understand until then:"
)
HELD_FOR_APPROVAL = "it is held until somebody approves its sender"
NO_APPROVER_YET = gettext_noop(
    "Nobody is set up yet who could let you in. If I am your own assistant, type this on the machine that I run on:"
    " nanohost pair {channel}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSenderPolicy:
    """Handles unknown senders, in the transaction that records the outcome of their message."""

    tx: Transaction
    now: datetime

    async def hold(
        self, route: Route, stored: StoredEvent, *, group: MessagingGroup, wiring: Wiring, agent_group: AgentGroup
    ) -> Route | None:
        """Requests approval for the sender and returns the updated route.

        Returns None if the sender was approved meanwhile: the event is to be routed again.
        """
        grants = await roles.list_for_user(self.tx, stored.user_id)
        if check_access(grants, group.unknown_sender, wiring.agent_group_id, wiring.sender_scope).is_allowed:
            return None
        answer = await requests.request_sender_approval(
            self.tx, stored=stored, group=group, agent_group=agent_group, now=self.now
        )
        await self._after_request(stored, answer)
        if isinstance(answer, PendingApproval):
            return replace(route, reason=HELD_FOR_APPROVAL, approval_id=answer.id)
        return replace(route, outcome=RouteOutcome.DENIED, reason=answer.reason, message_id=None)

    async def check(self, stored: StoredEvent, group: MessagingGroup | None) -> PendingApproval | Rejected:
        """Holds or rejects an event of a chat without an agent. `group`: the chat, if it is known."""
        if (with_it := await requests.join_pending_approval(self.tx, stored)) is not None:
            return with_it
        grants = await roles.list_for_user(self.tx, stored.user_id)
        reason = why_not_requested(stored.event, group, grants)
        if reason is not None:
            return Rejected(reason=reason)
        if grants and is_chat_command(stored.event.text) and stored.event.kind is EventKind.MESSAGE:
            words = "\n".join([_(NO_AGENT_HERE), *host_command_lines({grant.role for grant in grants})])
            await self._reply(stored, words, derive_id("h", "no agent", str(stored.id)), also_in_groups=True)
            return Rejected(reason=CHAT_UNWIRED)
        answer = await requests.request_chat_approval(self.tx, stored=stored, now=self.now)
        await self._after_request(stored, answer)
        return answer

    async def _after_request(self, stored: StoredEvent, outcome: PendingApproval | Rejected) -> None:
        match outcome:
            case PendingApproval(id=id):
                self.tx.emit(ApprovalChanged(id))
            case Rejected(has_no_approvers=True):
                day = derive_id("h", "nobody", *_reply_address(stored)[:3], self.now.date().isoformat())
                await self._reply(stored, _(NO_APPROVER_YET, channel=stored.chat.channel_type), day)

    async def _reply(self, stored: StoredEvent, text: str, out_id: str, *, also_in_groups: bool = False) -> None:
        if (stored.event.is_group and not also_in_groups) or stored.event.sender.is_bot:
            return
        channel_type, instance, platform_id, thread_id = _reply_address(stored)
        place = Origin(
            channel_type=channel_type,
            instance=instance,
            platform_id=platform_id,
            thread_id=thread_id,
            platform_message_id=stored.event.platform_message_id if stored.event.kind is EventKind.MESSAGE else None,
        )
        await host_messages.enqueue(self.tx, place, ChatOut(text=text), out_id=out_id, now=self.now)


def why_not_requested(event: InboundEvent, group: MessagingGroup | None, grants: Sequence[RoleGrant]) -> str | None:
    """Returns why no approval is requested for a chat without an agent; None if one is to be requested. Pure."""
    if event.sender.is_bot:
        return SENT_BY_BOT
    if not _may_request_approval(event):
        return CHAT_UNKNOWN if group is None else CHAT_UNWIRED
    if group is not None and group.unknown_sender is UnknownSender.STRICT and not grants:
        return STRICT_CHAT
    return None


def _may_request_approval(event: InboundEvent) -> bool:
    """Returns whether the event addresses the bot: also an edit that adds the mention, but no other edit."""
    if event.kind is EventKind.EDIT:
        return event.is_group and event.mentions_bot
    return event.kind is EventKind.MESSAGE and is_addressed(event)


def _reply_address(stored: StoredEvent) -> tuple[str, str, str, str | None]:
    chat = stored.chat
    return chat.channel_type, chat.instance, chat.platform_id, stored.event.thread_id
