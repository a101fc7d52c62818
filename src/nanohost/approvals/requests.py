"""Asking for a person's yes: a stranger in a known chat, an unknown chat, what an agent wants to do.

Each is called inside the transaction that holds back what it is about, and answers at once: held for this approval, or
turned away with the reason. What is asked for again while it is open is held for the same approval: one card, however
often. The engine is told of it once that is committed (ApprovalChanged).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from nanohost import quoting
from nanohost.access.refusals import refused_by
from nanohost.approvals import ending
from nanohost.approvals.card import LONGEST, arguments_in_words, digest_of, facts, place_in_words
from nanohost.approvals.ending import End
from nanohost.approvals.kind import Kind
from nanohost.approvals.kinds import action, chat, sender
from nanohost.channel_api import EventKind
from nanohost.errors import UsageError
from nanohost.event_words import in_words
from nanohost.model import AgentGroup, AgentGroupId, ApprovalId, MessagingGroup, SessionId, UnknownSender
from nanohost.phrases import day_and_time
from nanohost.store import agent_groups, approvals, audit, events, messaging_groups, pieces, roles, rules, users
from nanohost.store.actions import ActionRow
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.rules import Rule, RuleEffect
from nanohost_protocol.ids import derive
from nanohost_protocol.rows import Origin

MOST_HELD = 10
"""Messages that wait for one approval. What comes after those is counted."""
AGAIN_AFTER = timedelta(hours=1)
"""After nobody could be reached."""
MOST_OF_ONE = 5
"""Open requests of one stranger, of a kind: whoever adds the bot to chat after chat takes nobody else's place."""
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Without what looks alike."""
ID_LENGTH = 6
GAVE_WAY = "too many others came after it before anybody was shown it"
NOBODY = "there is nobody who could be asked: no owner, and no admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """It waits for this approval. `new`: nobody was asked about it before."""

    id: ApprovalId
    new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Nobody is asked. `reason`: in a sentence, without a full stop. `nobody`: there is nobody to ask at all, no
    owner and no admin."""

    reason: str
    nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an agent asks for. `row` holds its arguments as the container wrote them: they are shown whole, and are what
    runs. `title`: what it is, for a person. `zone`: of the times people read. `scope`: what a rule would be about.
    `environment`: the names of the variables it would get, never values. `scope_words`: the scope for a person, after
    "Allow for 30 days: "; "": nothing is allowed but this. `beyond`: it is not for the admins of this agent group alone
    to decide."""

    row: ActionRow
    title: str
    agent_group: AgentGroup
    zone: tzinfo
    scope: str
    environment: Sequence[str] = ()
    scope_words: str = ""
    beyond: bool = False


async def about_sender(
    tx: Transaction,
    *,
    stored: StoredEvent,
    group: MessagingGroup,
    agent_group: AgentGroup,
    now: datetime,
) -> Held | Turned:
    """Somebody without a role wants to talk to this agent in a known chat."""
    user, event = stored.user, stored.event
    if (rule := await refused_by(tx, user, agent_group.id, now)) is not None:
        return await _refused(tx, rule, "the sender", now)
    identities = [one.user_id for one in await users.identities(tx, user)] or [user]
    for identity in identities:
        if (open_one := await approvals.open_about(tx, sender.NAME, f"{identity} {agent_group.folder}")) is not None:
            return await _one_more(tx, open_one)
    asking = _Asking(
        kind=sender.KIND,
        subject=f"{user} {agent_group.folder}",
        agent_group=agent_group.id,
        requested_by=user,
        origin=_origin(stored),
        options=(sender.LET_IN, sender.REFUSE),
        shown=facts(
            f"May {quoting.name(event.sender.name)} talk to {agent_group.folder}?",
            [
                *_message(stored, event.chat_name or group.name),
                (
                    sender.LET_IN,
                    f"they become a member of {agent_group.folder}: it answers this and whatever they write to it from"
                    f" now on, wherever it listens. {_shares(agent_group.folder)}",
                ),
                (sender.REFUSE, "it never answers them, and you are not asked again"),
            ],
        ),
        payload={
            "user": user,
            "name": event.sender.name,
            "agent_group": agent_group.folder,
            "is_group": event.is_group,
        },
    )
    return await _ask(tx, asking, now)


async def about_chat(tx: Transaction, *, stored: StoredEvent, now: datetime) -> Held | Turned:
    """The bot is addressed in a chat that is not known, or that no agent is wired to. Makes the messaging group, with
    policy request_approval, if there is none."""
    subject, event = chat.subject_of(stored.chat), stored.event
    rule = await rules.that_applies(tx, kind=chat.NAME, subject=subject, agent_group=None, now=now)
    if rule is not None and rule.effect is RuleEffect.DENY:
        return await _refused(tx, rule, "the chat", now)
    rule = await refused_by(tx, stored.user, None, now)
    if rule is not None and not await roles.of_user(tx, stored.user):
        return await _refused(tx, rule, "the sender", now)
    if (open_one := await approvals.open_about(tx, chat.NAME, subject)) is not None:
        return await _one_more(tx, open_one)
    user, options = stored.user, chat.options_for(await agent_groups.every(tx), is_group=event.is_group)
    named = event.chat_name if event.is_group else event.chat_name or event.sender.name
    outcome = await _ask(
        tx,
        _Asking(
            kind=chat.KIND,
            subject=subject,
            agent_group=None,
            requested_by=user,
            origin=_origin(stored),
            options=options,
            shown=_chat_shown(stored, options),
            payload={"user": user, "name": event.sender.name, "chat_name": named, "is_group": event.is_group},
        ),
        now,
    )
    if isinstance(outcome, Held):
        await _know(tx, stored, named, now)
    return outcome


async def about_edit(db: Queries, stored: StoredEvent) -> Held | Turned | None:
    """What is held of a chat was edited: the edit waits with it. None: it is no edit of such a message."""
    if stored.event.kind is not EventKind.EDIT or stored.event.refers_to is None:
        return None
    message = await pieces.whole_of(db, stored.chat, stored.event.refers_to)
    id = await events.held_for(db, stored.chat, message)
    waits_for = None if id is None else await approvals.find(db, id)
    return None if waits_for is None else await _one_more(db, waits_for)


async def about_action(tx: Transaction, *, wanted: Wanted, now: datetime) -> Held | Turned:
    """An agent's request needs a yes. The caller's row is `held` with the approval's id, or refused for the reason.

    Approved: the row that the approval names (session_id, seq) is `pending` again. See `decide.why_not` for the check
    when it is carried out.
    """
    row = wanted.row
    subject = f"{row.name} {derive('w', row.session_id, row.name, row.arguments)[:13]}"
    if (open_one := await approvals.open_about(tx, action.NAME, subject)) is not None:
        return await _one_more(tx, open_one)
    try:
        shown = await _action_shown(tx, wanted)
    except UsageError as error:
        return Turned(reason=f"no person can be asked about it: {error}")
    if len(shown) > LONGEST:
        return Turned(
            reason=f"it is too long to be shown to a person, who has to read all of it: {len(shown):,} characters"
            f" and not more than {LONGEST:,}"
        )
    asking = _Asking(
        kind=action.KIND,
        subject=subject,
        agent_group=wanted.agent_group.id,
        requested_by=audit.agent(row.session_id),
        origin=row.origin,
        session=row.session_id,
        seq=row.seq,
        options=action.options_for(for_a_month=bool(wanted.scope_words)),
        shown=shown,
        payload={
            "action": row.name,
            "arguments": row.arguments,
            "scope": wanted.scope,
            "environment": list(wanted.environment),
            "group": wanted.agent_group.folder,
            "beyond": wanted.beyond,
        },
        beyond=wanted.beyond,
    )
    return await _ask(tx, asking, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """What becomes an approval, if somebody can be asked. The last of `options` is the no. `beyond`: see Wanted."""

    kind: Kind
    subject: str
    agent_group: AgentGroupId | None
    requested_by: str
    origin: Origin | None
    options: tuple[str, ...]
    shown: str
    payload: Mapping[str, object]
    session: SessionId | None = None
    seq: int | None = None
    beyond: bool = False


async def _ask(tx: Transaction, asking: _Asking, now: datetime) -> Held | Turned:
    """Nobody was asked about this, or it is over."""
    if not asking.kind.may_decide(await roles.deciding(tx), None if asking.beyond else asking.agent_group):
        return Turned(reason=NOBODY, nobody=True)
    last = await approvals.last_about(tx, asking.kind.name, asking.subject)
    if last is not None and _reached_nobody(last, now):
        return Turned(reason=last.reason or "it failed not long ago")
    most = asking.kind.most_open
    if most is not None and await approvals.count_open(tx, asking.kind.name, by=asking.requested_by) >= MOST_OF_ONE:
        return Turned(reason=f"they wait for {MOST_OF_ONE} decisions already")
    is_full = most is not None and await approvals.count_open(tx, asking.kind.name) >= most
    if is_full and not await _oldest_gives_way(tx, asking.kind, now):
        return Turned(reason=f"{most} others wait for a decision already")
    return Held(id=await _enter(tx, asking, now), new=True)


async def _oldest_gives_way(tx: Transaction, kind: Kind, now: datetime) -> bool:
    """Of those that nobody was shown the oldest expires, so that who writes now has a place, and whoever asked for it
    hears that nobody decides it any more. False: all were shown, and are somebody's to decide."""
    oldest = await approvals.oldest_unseen(tx, kind.name)
    if oldest is None:
        return False
    end = End(status=ApprovalStatus.EXPIRED, outcome=f"{GAVE_WAY}.", reason=GAVE_WAY)
    return await ending.lapse(tx, oldest, kind.lapse, end, now=now, zone=UTC)


def _reached_nobody(last: Approval, now: datetime) -> bool:
    """Whether it failed not long ago because nobody could be asked: where somebody said yes to what could not be, a
    person was there. What failed in the future is old: the clock was set back since."""
    if last.status is not ApprovalStatus.FAILED or last.decided_by is not None:
        return False
    return timedelta() <= now - (last.decided_at or now) < AGAIN_AFTER


async def _enter(tx: Transaction, asking: _Asking, now: datetime) -> ApprovalId:
    payload = json.dumps(asking.payload, sort_keys=True)
    while True:
        approval = Approval(
            id=ApprovalId("".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))),
            kind=asking.kind.name,
            subject=asking.subject,
            agent_group_id=asking.agent_group,
            shown=asking.shown,
            options=asking.options,
            payload=payload,
            requested_by=asking.requested_by,
            origin=asking.origin,
            session_id=asking.session,
            seq=asking.seq,
            created_at=now,
            expires_at=now + asking.kind.lifetime,
            digest=digest_of(asking.shown, payload),
        )
        if await approvals.add(tx, approval):
            break
    await audit.record(
        tx,
        who=asking.requested_by,
        what="approval.asked",
        about=approval.id,
        origin=audit.chat(asking.origin),
        outcome=AuditOutcome.HELD,
        now=now,
        details={"kind": approval.kind, "subject": approval.subject},
    )
    return approval.id


async def _one_more(db: Queries, approval: Approval) -> Held | Turned:
    if await approvals.held(db, approval.id) >= MOST_HELD:
        return Turned(reason=f"{MOST_HELD} messages wait for a decision already")
    return Held(id=approval.id)


async def _refused(tx: Transaction, rule: Rule, whom: str, now: datetime) -> Turned:
    await rules.use(tx, rule, now)
    return Turned(reason=f"{whom} was refused on {rule.created_at:%Y-%m-%d}")


async def _know(tx: Transaction, stored: StoredEvent, named: str, now: datetime) -> None:
    if await messaging_groups.of_chat(tx, stored.chat) is None:
        policy = UnknownSender.REQUEST_APPROVAL
        is_group = stored.event.is_group
        place = stored.chat.columns
        await messaging_groups.add(tx, **place, is_group=is_group, name=named, unknown_sender=policy, now=now)


def _origin(stored: StoredEvent) -> Origin:
    """Where it was written; a DM is one conversation whatever its threads."""
    return Origin(
        channel_type=stored.chat.channel_type,
        instance=stored.chat.instance,
        platform_id=stored.chat.platform_id,
        thread_id=stored.event.thread_id if stored.event.is_group else None,
    )


def _message(stored: StoredEvent, chat_name: str) -> list[tuple[str, str]]:
    """Who wrote what, where."""
    event, user = stored.event, stored.user
    lines = [
        ("Who", f"{quoting.name(event.sender.name)}, known there as {quoting.name(user)}"),
        ("Where", place_in_words(_origin(stored), chat_name, is_group=event.is_group)),
        ("They wrote", "\n" + quoting.quoted(in_words(event), limit=quoting.LONGEST_MESSAGE)),
    ]
    if event.attachments:
        lines.append(("Files with it", str(len(event.attachments))))
    return lines


def _shares(agent: str) -> str:
    """What letting somebody talk to an agent means for what it knows."""
    return f"What {agent} has in its files and notes is shared with them, and what they say may be noted there"


def _chat_shown(stored: StoredEvent, options: Sequence[str]) -> str:
    event = stored.event
    when = "whenever somebody mentions it" if event.is_group else "all that they write"
    lines = _message(stored, event.chat_name)
    new = (chat.NEW, f"one with files and notes of its own answers there, {when}: nothing of another agent's is shared")
    choices = [new]
    if any(option.startswith(chat.CONNECT) for option in options):
        connect = f"this agent answers there, {when}, and they become its member. {_shares('it')}"
        choices.insert(0 if event.is_group else 1, ("Connect", connect))
    lines += choices
    lines.append((chat.REFUSE, "nobody there is answered, and you are not asked again"))
    if event.is_group:
        title = f"May an agent answer in {quoting.name(event.chat_name or 'a group')}, on {stored.chat.channel_type}?"
    else:
        title = f"May {quoting.name(event.sender.name)} talk to an agent, on {stored.chat.channel_type}?"
    return facts(title, lines)


async def _action_shown(db: Queries, wanted: Wanted) -> str:
    """Raises UsageError for arguments that cannot be shown."""
    row = wanted.row
    lines = [
        *arguments_in_words(row.arguments),
        ("Action", quoting.name(row.name)),
        ("Asked in", await _chat_in_words(db, row.origin)),
        ("Asked at", day_and_time(row.asked_at, wanted.zone)),  # "in one hour" is counted from then
        ("Agent", f"{wanted.agent_group.folder}, in the conversation {quoting.name(row.session_id)}"),
        ("Environment", ", ".join(quoting.name(one, limit=200) for one in wanted.environment) or "no variables"),
    ]
    if wanted.scope_words:
        lines.append((action.FOR_A_MONTH, quoting.name(wanted.scope_words, limit=500)))
    return facts(f"{wanted.agent_group.folder} asks: {quoting.visible(wanted.title)}", lines)


async def _chat_in_words(db: Queries, origin: Origin | None) -> str:
    if origin is None:
        return "no chat"
    group = await messaging_groups.find(
        db, channel_type=origin.channel_type, instance=origin.instance, platform_id=origin.platform_id
    )
    is_group = group is not None and group.is_group
    return place_in_words(origin, group.name if group else "", is_group=is_group)
