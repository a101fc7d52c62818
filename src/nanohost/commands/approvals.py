"""Approvals: pending ones, and the outcomes of earlier ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pydantic import Field, field_validator

from nanohost.approvals.decision import ApprovalDecision, decide
from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.host import local_actor
from nanohost.commands.resource import GetVerb, ListArguments, ListVerb, Number, Resource, Row, Verb
from nanohost.commands.tables import Json, render_result, replace_control_chars
from nanohost.db import agent_groups, approvals
from nanohost.db.approvals import Approval, ApprovalCard, ApprovalStatus
from nanohost.db.database import Queries, ReportReader
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId, ApprovalId

DEFAULT_LIMIT = 100


class ApprovalRow(Row):
    id: str = Field(description="its name, which is what people type")
    kind: str = Field(description="what is asked for")
    subject: str = Field(description="whom or what it is about")
    group: str | None = Field(description="the folder of the agent group that is concerned; empty: none")
    requested_by: str = Field(description="who asked: a user, or agent:SESSION")
    created_at: datetime = Field(description="when")
    expires_at: datetime = Field(description="until when it waits")
    status: ApprovalStatus = Field(
        description="pending, approved, denied, expired, withdrawn, or failed: nobody could be asked, or it could not"
        " be done"
    )
    decided_by: str | None = Field(description="who decided")
    outcome: str | None = Field(description="the outcome")


class ApprovalDetails(ApprovalRow):
    card: str = Field(description="what is shown to whoever decides")
    options: list[str] = Field(description="what can be chosen")
    origin: str | None = Field(description="the chat it was asked for in")
    choice: str | None = Field(description="what was chosen")
    decided_at: datetime | None = Field(description="when")
    reason: str | None = Field(description="the reason given with a denial, or why it failed")
    held: int = Field(description="how many messages wait for it")
    asked: list[str] = Field(description="who was asked, and whom it did not reach")


class DecisionResult(Row):
    id: str = Field(description="its name")
    answer: str = Field(description="the outcome")


class ListArgs(ListArguments):
    limit: Number | None = Field(
        DEFAULT_LIMIT, ge=1, description=f"at most so many, the latest first (default: {DEFAULT_LIMIT})"
    )
    status: ApprovalStatus | None = Field(None, description="only such: pending is what waits")
    kind: str | None = Field(None, description="only of this kind")


class ApprovalArgs(CommandArguments):
    id: str = Field(description="the approval's name, as nanohost approvals list shows it")

    @field_validator("id")
    @classmethod
    def _normalize_id(cls, id: str) -> str:
        """Converts the id to lower case, as in a chat: phones capitalize it."""
        return id.lower()


class ApproveArgs(ApprovalArgs):
    choice: str | None = Field(None, description="which of its options, where there is more than one way to approve")


class DenyArgs(ApprovalArgs):
    reason: str = Field("", description="why; whoever asked is told")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionVerb(Verb):
    """Decides an approval, as a press on its card does, with the same audit entry. `run` gets `decide` with all
    arguments but the decision."""

    async def execute(self, resource: Resource, context: CommandContext, arguments: CommandArguments) -> Json:
        assert isinstance(arguments, ApprovalArgs)
        async with context.store.transaction() as tx:
            decided = partial(
                decide,
                tx,
                ApprovalId(arguments.id),
                actor=local_actor(context),
                now=context.clock.now(),
                zone=context.settings.zone,
            )
            try:
                answer = await self.run(decided, arguments)
            except UsageError as error:  # its hint is for a chat
                raise UsageError(str(error), hint=await _next_step(tx, self.name, arguments.id)) from None
        _, _, outcome = answer.partition("\n")
        return DecisionResult(id=arguments.id, answer=outcome or answer).as_json()


async def _next_step(db: Queries, word: str, id: str) -> str:
    """Returns what to type if the decision was not possible."""
    found = await approvals.find(db, ApprovalId(id))
    if found is None:
        return "nanohost approvals list --status pending"
    if word == "approve" and found.status is ApprovalStatus.PENDING:
        return f'nanohost approvals approve {id} --choice "{found.options[0]}"'
    return f"nanohost approvals get {id}"


async def _approve(apply_decision: Callable[..., Awaitable[str]], arguments: ApproveArgs) -> str:
    return await apply_decision(decision=ApprovalDecision.APPROVE, choice=arguments.choice)


async def _deny(apply_decision: Callable[..., Awaitable[str]], arguments: DenyArgs) -> str:
    return await apply_decision(decision=ApprovalDecision.DENY, reason=arguments.reason)


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[ApprovalRow]:
    found = await approvals.latest(
        db, limit=arguments.limit or DEFAULT_LIMIT, status=arguments.status, kind=arguments.kind
    )
    folders = await agent_groups.list_folders(db)
    return [_make_row(one, folders) for one in found]


async def _get(context: CommandContext, db: Queries, arguments: ApprovalArgs) -> ApprovalDetails | None:
    one = await approvals.find(db, ApprovalId(arguments.id))
    if one is None:
        return None
    return ApprovalDetails(
        **dict(_make_row(one, await agent_groups.list_folders(db))),
        card=one.rendered_text,
        options=list(one.options),
        origin=f"{one.origin.channel_type}:{one.origin.platform_id}" if one.origin else None,
        choice=one.choice,
        decided_at=one.decided_at,
        reason=one.reason,
        held=await approvals.count_held_messages(db, one.id),
        asked=[_describe_recipient(card) for card in await approvals.list_cards(db, one.id)],
    )


def _make_row(one: Approval, folders: Mapping[AgentGroupId, str]) -> ApprovalRow:
    return ApprovalRow(
        id=one.id,
        kind=one.kind,
        subject=one.subject,
        group=None if one.agent_group_id is None else folders[one.agent_group_id],
        requested_by=one.requested_by,
        created_at=one.created_at,
        expires_at=one.expires_at,
        status=one.status,
        decided_by=one.decided_by,
        outcome=one.outcome,
    )


def _render_with_card(result: Json) -> str:
    """Renders the approval, and below it the card as the approver reads it."""
    assert isinstance(result, Mapping)
    head = render_result({name: value for name, value in result.items() if name != "card"})
    return f"{head}\n\n{replace_control_chars(str(result['card']))}"


def _describe_recipient(card: ApprovalCard) -> str:
    return card.user_id if card.problem is None else f"{card.user_id} ({card.problem})"


RESOURCE = Resource(
    name="approvals",
    singular="approval",
    description="requests that wait for approval, and the outcome of earlier ones",
    row=ApprovalRow,
    verbs=(
        ListVerb(
            help="list pending approvals and earlier ones", example="--status pending", arguments=ListArgs, run=_list
        ),
        GetVerb(
            help="show one approval with its card",
            example="k3f7qd",
            arguments=ApprovalArgs,
            run=_get,
            result=ApprovalDetails,
            render=_render_with_card,
            positional=("id",),
        ),
        DecisionVerb(
            name="approve",
            help="approve what waits; it is done at once",
            example="k3f7qd",
            arguments=ApproveArgs,
            run=_approve,
            result=DecisionResult,
            positional=("id",),
        ),
        DecisionVerb(
            name="deny",
            help="deny what waits",
            example='k3f7qd --reason "not today"',
            arguments=DenyArgs,
            run=_deny,
            result=DecisionResult,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()
