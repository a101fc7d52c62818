"""Which model an agent group's agents think with: a question of money, so that a person says yes."""

from __future__ import annotations

from pydantic import Field

from nanohost import quoting
from nanohost.actions.registry import About, Action, Arguments, Request
from nanohost.guard.ruling import Ruling
from nanohost.store import agent_groups
from nanohost.store.database import Queries, Transaction
from nanohost_protocol.actions import ActionName


class OtherModel(Arguments):
    """`model`: as the provider calls it."""

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}$")


async def _describe(db: Queries, request: Request, wanted: OtherModel) -> About:
    del db
    model, group = quoting.name(wanted.model), request.agent_group
    now = "the host's default" if group.model is None else quoting.name(group.model)
    return About(
        title=f"Think with another model: {model} (now: {now})",
        scope=wanted.model,
        scope_words=f"changing to {wanted.model}, for {group.folder}",
    )


async def _change(tx: Transaction, request: Request, wanted: OtherModel) -> str:
    await agent_groups.set_model(tx, request.agent_group.id, wanted.model)
    return f"From the next start of your container you think with {wanted.model}."


ACTIONS = (
    Action(
        name=ActionName.MODEL_CHANGE,
        title="Think with another model",
        arguments=OtherModel,
        effect=_change,
        usual=Ruling.HOLD,
        describe=_describe,
    ),
)
