"""Asking for a person's yes: a stranger in a known chat, an unknown chat, what an agent wants to do.

Each is called inside the transaction that holds back what it is about, and answers at once: held for this approval, or
turned away with the reason. What is asked for again while it is open is held for the same approval: one card, however
often. The caller pokes the engine once that is committed (`aftermath.approvals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.model import AgentGroup, ApprovalId, MessagingGroup
from nanohost.store.actions import ActionRow
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent


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
    runs. `title`: what it is, for a person. `environment`: the names of the variables it would get, never values.
    `scope`: what "Allow for 30 days" would be about, a rule's subject; None: it can only be allowed once.
    `scope_words`: the same for a person, after "Allow for 30 days: "."""

    row: ActionRow
    title: str
    agent_group: AgentGroup
    environment: Sequence[str] = ()
    scope: str | None = None
    scope_words: str = ""


async def about_sender(
    tx: Transaction, *, stored: StoredEvent, group: MessagingGroup, agent_group: AgentGroup, now: datetime
) -> Held | Turned:
    """Somebody without a role wants to talk to this agent in a known chat."""
    raise NotImplementedError


async def about_chat(tx: Transaction, *, stored: StoredEvent, now: datetime) -> Held | Turned:
    """The bot is addressed in a chat that is not known, or that no agent is wired to. Makes the messaging group, with
    policy request_approval, if there is none."""
    raise NotImplementedError


async def about_action(tx: Transaction, *, wanted: Wanted, now: datetime) -> Held | Turned:
    """An agent's request needs a yes. The caller's row is `held` with the approval's id, or refused for the reason.

    Approved: the row that the approval names (session_id, seq) is `pending` again; other rows that were held for the
    same approval are refused, for a yes is to one of them. See `decide.why_not` for the check when it is carried out.
    """
    raise NotImplementedError
