"""ask: a question with choices, as buttons where the platform has them."""

from __future__ import annotations

from agent_runner.markup import clean
from agent_runner.outbox import Outbox
from agent_runner.tools import RE, TO, Arguments, Tool, ToolRefused, optional_number, optional_text, sent, text_of

FEWEST, MOST = 2, 10
LONGEST_OPTION = 200
"""Characters; it is to be read on a button."""


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    question, options = text_of(arguments, "question"), _options(arguments.get("options"))
    to, re = optional_text(arguments, "to"), optional_number(arguments, "re")
    return sent(await outbox.ask(question, options, to=to, re=re))


def _options(value: object) -> tuple[str, ...]:
    """Raises ToolRefused."""
    texts = [clean(one).strip() for one in value if isinstance(one, str)] if isinstance(value, list) else []
    is_good = isinstance(value, list) and len(texts) == len(value) and FEWEST <= len(texts) <= MOST
    if not (is_good and all(0 < len(text) <= LONGEST_OPTION for text in texts) and len({*texts}) == len(texts)):
        raise ToolRefused(
            f"options must be {FEWEST} to {MOST} different texts of {LONGEST_OPTION} characters at the most."
        )
    return tuple(texts)


TOOL = Tool(
    name="ask",
    description=(
        "Ask a person something with choices: buttons, or numbers where there are none. This does not wait: what they"
        " choose comes as a later message of theirs, so end your turn unless there is something else to do."
    ),
    schema={
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "The question, in Markdown."},
            "options": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": FEWEST,
                "maxItems": MOST,
                "description": "What there is to choose from, a few words each.",
            },
            "to": {"type": "string", "description": TO},
            "re": {"type": "integer", "description": RE},
        },
        "required": ["question", "options"],
        "additionalProperties": False,
    },
    run=_run,
)
