"""change_model: request another model from the next start on. A person approves or denies."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import DECISION_NOTICE, Arguments, Tool, require_text
from nanohost_protocol.actions import ActionName


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    await outbox.request_action(ActionName.MODEL_CHANGE, {"model": require_text(arguments, "model")})
    return f"Asked for. {DECISION_NOTICE}"


TOOL = Tool(
    name="change_model",
    description=(
        "Ask to think with another model in all your conversations, if somebody wants that. As a rule a person has to"
        " say yes first; it takes effect when you are started the next time."
    ),
    schema={
        "type": "object",
        "properties": {"model": {"type": "string", "description": "The model, as its provider calls it."}},
        "required": ["model"],
        "additionalProperties": False,
    },
    run=_run,
)
