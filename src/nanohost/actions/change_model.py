"""Defines the action that changes the model of an agent group. It may cost money, so it needs an approval."""

from __future__ import annotations

from pydantic import Field

from nanohost.actions.registry import Action, ActionRequest, Arguments, RequestSummary
from nanohost.db import agent_groups
from nanohost.db.database import Queries, Transaction
from nanohost.guard.guard import Permission
from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.actions import ActionName


class ChangeModel(Arguments):
    """`model`: the provider's name for it."""

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}$")


async def _describe(db: Queries, request: ActionRequest, arguments: ChangeModel) -> RequestSummary:
    del db
    model, group = quoting.name(arguments.model), request.agent_group
    now = _("the host's default") if group.model is None else quoting.name(group.model)
    return RequestSummary(
        title=_("Use another model: {model} (now: {current})", model=model, current=now),
        scope=arguments.model,
        scope_words=_("changing to {model}, for {agent}", model=arguments.model, agent=group.folder),
    )


async def _change_model(tx: Transaction, request: ActionRequest, arguments: ChangeModel) -> str:
    await agent_groups.set_model(tx, request.agent_group.id, arguments.model)
    return f"From the next start of your container you think with {arguments.model}."


ACTIONS = (
    Action(
        name=ActionName.MODEL_CHANGE,
        title=gettext_noop("Use another model"),
        arguments=ChangeModel,
        effect=_change_model,
        default_permission=Permission.HOLD,
        summarize=_describe,
    ),
)
