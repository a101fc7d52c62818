"""Requests approvals: for an unknown sender, for an unknown chat, and for an action of an agent.

Each function is called inside the transaction that holds the message or action, and returns at once: the approval that
it waits for, or a rejection with the reason. A repeated request joins the open approval: one card, however often. The
engine is notified after the commit (ApprovalChanged).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from nanohost.access.denials import find_refusal
from nanohost.approvals import result
from nanohost.approvals.card import MAX_CARD_CHARS, compute_digest, describe_place, format_arguments, format_facts
from nanohost.approvals.kind import ApprovalKind
from nanohost.approvals.kinds import action, chat, sender
from nanohost.approvals.result import ApprovalResult
from nanohost.channel_api import EventKind
from nanohost.channels.event_summary import describe_event
from nanohost.db import agent_groups, album_parts, approvals, audit, events, messaging_groups, roles, rules, users
from nanohost.db.actions import ActionRow
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries, Transaction
from nanohost.db.events import StoredEvent
from nanohost.db.rules import Rule, RuleEffect
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, ApprovalId, MessagingGroup, SessionId, UnknownSender
from nanohost.text import quoting
from nanohost.text.phrases import format_datetime
from nanohost.text.translation import _, gettext_noop, translate
from nanohost_protocol.ids import derive_id
from nanohost_protocol.rows import Origin

MAX_HELD_MESSAGES = 10
"""Messages that wait for one approval. Later ones are only counted."""
RETRY_AFTER = timedelta(hours=1)
"""How long no new approval is requested after nobody could be reached."""
MAX_OPEN_PER_SENDER = 5
"""Open requests of one unknown sender and kind: adding the bot to many chats must not displace others' requests."""
ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""No characters that look alike."""
ID_LENGTH = 6
EVICTED_REASON = gettext_noop("too many others came after it before anybody was shown it")
NO_APPROVERS = "there is nobody who could be asked: no owner, and no admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingApproval:
    """The approval that it waits for. `is_new`: it was created by this request."""

    id: ApprovalId
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """No approval is requested. `reason`: a sentence without a full stop. `has_no_approvers`: there is no owner and no
    admin."""

    reason: str
    has_no_approvers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionApprovalRequest:
    """An agent's request that needs an approval.

    `row`: holds the arguments as the container wrote them; they are shown in full and carried out unchanged. `title`:
    what it does, for people. `zone`: the time zone of times that people read. `scope`: the scope of a rule for it.
    `environment_names`: the names of the variables that it would get, never values. `scope_words`: the scope for
    people, after "Allow for 30 days: "; "": it can be allowed only once. `affects_other_groups`: admins of this agent
    group alone may not decide it.
    """

    row: ActionRow
    title: str
    agent_group: AgentGroup
    zone: tzinfo
    scope: str
    environment_names: Sequence[str] = ()
    scope_words: str = ""
    affects_other_groups: bool = False


async def request_sender_approval(
    tx: Transaction,
    *,
    stored: StoredEvent,
    group: MessagingGroup,
    agent_group: AgentGroup,
    now: datetime,
) -> PendingApproval | Rejected:
    """Requests approval for a sender without a role in a chat that has an agent."""
    user, event = stored.user_id, stored.event
    if (rule := await find_refusal(tx, user, agent_group.id, now)) is not None:
        return await _reject_by_rule(tx, rule, "the sender", now)
    identities = [one.user_id for one in await users.list_identities(tx, user)] or [user]
    for identity in identities:
        if (
            open_one := await approvals.find_open(tx, sender.KIND_NAME, f"{identity} {agent_group.folder}")
        ) is not None:
            return await _join_approval(tx, open_one)
    asking = _NewApproval(
        kind=sender.KIND,
        subject=f"{user} {agent_group.folder}",
        agent_group_id=agent_group.id,
        requested_by=user,
        origin=_origin_of(stored),
        options=(sender.APPROVE_LABEL, sender.REFUSE_LABEL),
        rendered_text=format_facts(
            _("May {sender} talk to {agent}?", sender=quoting.name(event.sender.name), agent=agent_group.folder),
            [
                *_message_facts(stored, event.chat_name or group.name),
                (
                    _(sender.APPROVE_LABEL),
                    _(
                        "they become a member of {agent}: it answers this and whatever they write to it from now on,"
                        " wherever it listens. What {agent} has in its files and notes is shared with them, and what"
                        " they say may be noted there",
                        agent=agent_group.folder,
                    ),
                ),
                (_(sender.REFUSE_LABEL), _("it never answers them, and you are not asked again")),
            ],
        ),
        payload={
            "user": user,
            "name": event.sender.name,
            "agent_group": agent_group.folder,
            "is_group": event.is_group,
        },
    )
    return await _request_approval(tx, asking, now)


async def request_chat_approval(tx: Transaction, *, stored: StoredEvent, now: datetime) -> PendingApproval | Rejected:
    """Requests approval for a chat that is unknown or has no agent, and in which the bot is addressed.

    Creates the messaging group, with policy request_approval, if there is none.
    """
    subject, event = chat.chat_subject(stored.chat), stored.event
    rule = await rules.find_applicable(tx, kind=chat.KIND_NAME, subject=subject, agent_group=None, now=now)
    if rule is not None and rule.effect is RuleEffect.DENY:
        return await _reject_by_rule(tx, rule, "the chat", now)
    rule = await find_refusal(tx, stored.user_id, None, now)
    if rule is not None and not await roles.list_for_user(tx, stored.user_id):
        return await _reject_by_rule(tx, rule, "the sender", now)
    if (open_one := await approvals.find_open(tx, chat.KIND_NAME, subject)) is not None:
        return await _join_approval(tx, open_one)
    user, options = stored.user_id, chat.card_options(await agent_groups.list_all(tx), is_group=event.is_group)
    named = event.chat_name if event.is_group else event.chat_name or event.sender.name
    outcome = await _request_approval(
        tx,
        _NewApproval(
            kind=chat.KIND,
            subject=subject,
            agent_group_id=None,
            requested_by=user,
            origin=_origin_of(stored),
            options=options,
            rendered_text=_render_chat_request(stored, options),
            payload={"user": user, "name": event.sender.name, "chat_name": named, "is_group": event.is_group},
        ),
        now,
    )
    if isinstance(outcome, PendingApproval):
        await _ensure_messaging_group(tx, stored, named, now)
    return outcome


async def join_pending_approval(db: Queries, stored: StoredEvent) -> PendingApproval | Rejected | None:
    """Holds an edit for the approval that its message waits for. Returns None if it is no edit of a held message."""
    if stored.event.kind is not EventKind.EDIT or stored.event.refers_to is None:
        return None
    message = await album_parts.find_whole_id(db, stored.chat, stored.event.refers_to)
    id = await events.find_holding_approval(db, stored.chat, message)
    waits_for = None if id is None else await approvals.find(db, id)
    return None if waits_for is None else await _join_approval(db, waits_for)


async def request_action_approval(
    tx: Transaction, *, request: ActionApprovalRequest, now: datetime
) -> PendingApproval | Rejected:
    """Requests approval for an action. The caller marks its row as `held` with the approval's id, or as refused.

    After an approval the row that it names (session_id, seq) is `pending` again. See `decision.find_approval_problem`
    for the check when it is carried out.
    """
    row = request.row
    subject = f"{row.name} {derive_id('w', row.session_id, row.name, row.arguments)[:13]}"
    if (open_one := await approvals.find_open(tx, action.KIND_NAME, subject)) is not None:
        return await _join_approval(tx, open_one)
    try:
        shown = await _render_action_request(tx, request)
    except UsageError as error:
        return Rejected(reason=f"no person can be asked about it: {error}")
    if len(shown) > MAX_CARD_CHARS:
        return Rejected(
            reason=f"it is too long to be shown to a person, who has to read all of it: {len(shown):,} characters"
            f" and not more than {MAX_CARD_CHARS:,}"
        )
    asking = _NewApproval(
        kind=action.KIND,
        subject=subject,
        agent_group_id=request.agent_group.id,
        requested_by=audit.agent_actor(row.session_id),
        origin=row.origin,
        session_id=row.session_id,
        seq=row.seq,
        options=action.card_options(can_allow_month=bool(request.scope_words)),
        rendered_text=shown,
        payload={
            "action": row.name,
            "arguments": row.arguments,
            "scope": request.scope,
            "environment": list(request.environment_names),
            "group": request.agent_group.folder,
            "beyond": request.affects_other_groups,
        },
        affects_other_groups=request.affects_other_groups,
    )
    return await _request_approval(tx, asking, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewApproval:
    """The data of a new approval. The last of `options` is the denial. `affects_other_groups`: see
    ActionApprovalRequest."""

    kind: ApprovalKind
    subject: str
    agent_group_id: AgentGroupId | None
    requested_by: str
    origin: Origin | None
    options: tuple[str, ...]
    rendered_text: str
    payload: Mapping[str, object]
    session_id: SessionId | None = None
    seq: int | None = None
    affects_other_groups: bool = False


async def _request_approval(tx: Transaction, new_approval: _NewApproval, now: datetime) -> PendingApproval | Rejected:
    """Creates an approval for a subject without an open one, or returns the rejection."""
    if not new_approval.kind.may_decide(
        await roles.list_deciders(tx), None if new_approval.affects_other_groups else new_approval.agent_group_id
    ):
        return Rejected(reason=NO_APPROVERS, has_no_approvers=True)
    last = await approvals.find_latest(tx, new_approval.kind.name, new_approval.subject)
    if last is not None and _failed_recently(last, now):
        return Rejected(reason=last.reason or "it failed not long ago")
    most = new_approval.kind.max_open
    if (
        most is not None
        and await approvals.count_open(tx, new_approval.kind.name, requested_by=new_approval.requested_by)
        >= MAX_OPEN_PER_SENDER
    ):
        return Rejected(reason=f"they wait for {MAX_OPEN_PER_SENDER} decisions already")
    is_full = most is not None and await approvals.count_open(tx, new_approval.kind.name) >= most
    if is_full and not await _evict_oldest(tx, new_approval.kind, now):
        return Rejected(reason=f"{most} others wait for a decision already")
    return PendingApproval(id=await _insert_approval(tx, new_approval, now), is_new=True)


async def _evict_oldest(tx: Transaction, kind: ApprovalKind, now: datetime) -> bool:
    """Ends the oldest approval without a card as expired, to make room for a new one, and notifies its requester.

    Returns False if all open approvals have cards.
    """
    oldest = await approvals.find_oldest_without_card(tx, kind.name)
    if oldest is None:
        return False
    end = ApprovalResult(status=ApprovalStatus.EXPIRED, outcome=f"{_(EVICTED_REASON)}.", reason=EVICTED_REASON)
    return await result.close_undecided(tx, oldest, kind.expire, end, now=now, zone=UTC)


def _failed_recently(last: Approval, now: datetime) -> bool:
    """Returns whether it failed recently because nobody could be reached, not because its effect was impossible.

    A failure in the future counts as old: the clock was set back since.
    """
    if last.status is not ApprovalStatus.FAILED or last.decided_by is not None:
        return False
    return timedelta() <= now - (last.decided_at or now) < RETRY_AFTER


async def _insert_approval(tx: Transaction, new_approval: _NewApproval, now: datetime) -> ApprovalId:
    payload = json.dumps(new_approval.payload, sort_keys=True)
    while True:
        approval = Approval(
            id=ApprovalId("".join(secrets.choice(ID_ALPHABET) for _letter in range(ID_LENGTH))),
            kind=new_approval.kind.name,
            subject=new_approval.subject,
            agent_group_id=new_approval.agent_group_id,
            rendered_text=new_approval.rendered_text,
            options=new_approval.options,
            payload=payload,
            requested_by=new_approval.requested_by,
            origin=new_approval.origin,
            session_id=new_approval.session_id,
            seq=new_approval.seq,
            created_at=now,
            expires_at=now + new_approval.kind.lifetime,
            digest=compute_digest(new_approval.rendered_text, payload),
        )
        if await approvals.add(tx, approval):
            break
    await audit.record(
        tx,
        actor=new_approval.requested_by,
        action="approval.asked",
        target=approval.id,
        origin=audit.chat_origin(new_approval.origin),
        outcome=AuditOutcome.HELD,
        now=now,
        details={"kind": approval.kind, "subject": approval.subject},
    )
    return approval.id


async def _join_approval(db: Queries, approval: Approval) -> PendingApproval | Rejected:
    if await approvals.count_held_messages(db, approval.id) >= MAX_HELD_MESSAGES:
        return Rejected(reason=f"{MAX_HELD_MESSAGES} messages wait for a decision already")
    return PendingApproval(id=approval.id)


async def _reject_by_rule(tx: Transaction, rule: Rule, subject_text: str, now: datetime) -> Rejected:
    await rules.record_use(tx, rule, now)
    return Rejected(reason=f"{subject_text} was refused on {rule.created_at:%Y-%m-%d}")


async def _ensure_messaging_group(tx: Transaction, stored: StoredEvent, name: str, now: datetime) -> None:
    if await messaging_groups.find_by_chat(tx, stored.chat) is None:
        policy = UnknownSender.REQUEST_APPROVAL
        is_group = stored.event.is_group
        place = stored.chat.columns
        await messaging_groups.add(tx, **place, is_group=is_group, name=name, unknown_sender=policy, now=now)


def _origin_of(stored: StoredEvent) -> Origin:
    """Returns the origin of the event; for a direct chat without the thread."""
    return Origin(
        channel_type=stored.chat.channel_type,
        instance=stored.chat.instance,
        platform_id=stored.chat.platform_id,
        thread_id=stored.event.thread_id if stored.event.is_group else None,
    )


def _message_facts(stored: StoredEvent, chat_name: str) -> list[tuple[str, str]]:
    """Returns the facts for the card: the sender, the text and the chat."""
    event, user = stored.event, stored.user_id
    lines = [
        (
            _("Who"),
            _("{name}, known there as {user}", name=quoting.name(event.sender.name), user=quoting.name(user)),
        ),
        (_("Where"), describe_place(_origin_of(stored), chat_name, is_group=event.is_group)),
        (_("They wrote"), "\n" + quoting.quote_block(describe_event(event), limit=quoting.MAX_MESSAGE_CHARS)),
    ]
    if event.attachments:
        lines.append((_("Files with it"), str(len(event.attachments))))
    return lines


def _render_chat_request(stored: StoredEvent, options: Sequence[str]) -> str:
    event, channel = stored.event, stored.chat.channel_type
    when = _("whenever somebody mentions it") if event.is_group else _("all that they write")
    lines = _message_facts(stored, event.chat_name)
    new = _(
        "one with files and notes of its own answers there, {when}: nothing of another agent's is shared", when=when
    )
    choices = [(_(chat.NEW_AGENT_LABEL), new)]
    if any(option.startswith(chat.CONNECT_PREFIX) for option in options):
        connect = _(
            "this agent answers there, {when}, and they become its member. What it has in its files and notes is shared"
            " with them, and what they say may be noted there",
            when=when,
        )
        choices.insert(0 if event.is_group else 1, (_("Connect"), connect))
    lines += choices
    lines.append((_(chat.REFUSE_LABEL), _("nobody there is answered, and you are not asked again")))
    if event.is_group:
        group = quoting.name(event.chat_name or _("a group"))
        title = _("May an agent answer in {chat}, on {channel}?", chat=group, channel=channel)
    else:
        title = _(
            "May {sender} talk to an agent, on {channel}?", sender=quoting.name(event.sender.name), channel=channel
        )
    return format_facts(title, lines)


async def _render_action_request(db: Queries, request: ActionApprovalRequest) -> str:
    """Returns the card's text. Raises UsageError for arguments that cannot be shown."""
    row, agent = request.row, request.agent_group.folder
    variables = ", ".join(quoting.name(one, limit=200) for one in request.environment_names)
    lines = [
        *format_arguments(row.arguments),
        (_("Action"), quoting.name(row.name)),
        (_("Asked in"), await _describe_chat(db, row.origin)),
        (_("Asked at"), format_datetime(row.requested_at, request.zone)),  # "in one hour" counts from this time
        (
            _("Agent"),
            _("{agent}, in the conversation {session}", agent=agent, session=quoting.name(row.session_id)),
        ),
        (_("Environment"), variables or _("no variables")),
    ]
    if request.scope_words:
        lines.append((_(action.ALLOW_MONTH_LABEL), quoting.name(request.scope_words, limit=500)))
    title = quoting.escape_invisible(translate(request.title))
    return format_facts(_("{agent} asks: {action}", agent=agent, action=title), lines)


async def _describe_chat(db: Queries, origin: Origin | None) -> str:
    if origin is None:
        return _("no chat")
    group = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    is_group = group is not None and group.is_group
    return describe_place(origin, group.name if group else "", is_group=is_group)
