"""ask_user_question: ask a person a question, with choices or without, and wait some time for the answer."""

from __future__ import annotations

from agent_runner.markup import element, strip_control_chars
from agent_runner.outbox import Outbox
from agent_runner.questions import NoAnswerReason, UserAnswer
from agent_runner.tools import (
    RE_HELP,
    TO_HELP,
    Arguments,
    Tool,
    ToolRefused,
    optional_number,
    optional_text,
    require_text,
)

MIN_OPTIONS, MAX_OPTIONS = 2, 10
MAX_OPTION_CHARS = 200
"""Characters of an option, which has to be readable on a button."""
DEFAULT_WAIT_MINUTES, MAX_WAIT_MINUTES = 10, 60

_ANSWER_LATER_NOTICE = (
    "The answer will come as a message of theirs; end your turn, unless there is something else to do."
)
_NO_ANSWER_TEXTS = {
    NoAnswerReason.NOT_YET: f"There is no answer yet. {_ANSWER_LATER_NOTICE}",
    NoAnswerReason.UNDELIVERED: "The question did not arrive, so nobody will answer it. Ask in another place, or do"
    " without; a message of the host may say why.",
    NoAnswerReason.INTERRUPTED: "Nobody has answered. Something else came instead, and you have it or get it next: see"
    " whether it settles the question. An answer that still comes will come as a message.",
}


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    question, options = require_text(arguments, "question"), _parse_options(arguments.get("options"))
    to, re = optional_text(arguments, "to"), optional_number(arguments, "re")
    wait_s = _parse_wait_minutes(arguments.get("wait_minutes")) * 60
    sent = await outbox.ask_question(question, options, to=to, re=re)
    outcome = await outbox.wait_for_answer(sent, wait_s)
    if outcome is NoAnswerReason.TURN_ENDED:
        raise ToolRefused("The turn is over; nobody waits for the answer any more.")
    if isinstance(outcome, UserAnswer):
        return element("answer", outcome.text, from_=outcome.sender, id=outcome.number)
    notice = _asked_text(sent.seq, new=sent.is_new)
    return f"{notice} {_NO_ANSWER_TEXTS[outcome] if wait_s else _ANSWER_LATER_NOTICE}"


def _asked_text(number: int, *, new: bool) -> str:
    if new:
        return f"Asked as message {number}."
    return f"This had been asked before this turn was interrupted, as message {number}; it was not asked again."


def _parse_options(value: object) -> tuple[str, ...]:
    """Raises ToolRefused."""
    if value is None or value == []:
        return ()
    texts = (
        [strip_control_chars(one).strip() for one in value if isinstance(one, str)] if isinstance(value, list) else []
    )
    is_good = isinstance(value, list) and len(texts) == len(value) and MIN_OPTIONS <= len(texts) <= MAX_OPTIONS
    if not (is_good and all(0 < len(text) <= MAX_OPTION_CHARS for text in texts) and len({*texts}) == len(texts)):
        raise ToolRefused(
            f"options must be {MIN_OPTIONS} to {MAX_OPTIONS} different texts of {MAX_OPTION_CHARS} "
            "characters at the most, or none."
        )
    return tuple(texts)


def _parse_wait_minutes(value: object) -> float:
    """Raises ToolRefused."""
    if value is None:
        return DEFAULT_WAIT_MINUTES
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_WAIT_MINUTES:
        raise ToolRefused(f"wait_minutes must be a number from 0 to {MAX_WAIT_MINUTES}.")
    return value


TOOL = Tool(
    name="ask_user_question",
    description=(
        "Ask a person something and wait for the answer. With options they get buttons, or numbers where there are"
        " none; without, they write. You get who answered and what. If nobody has answered in time, or something else"
        " comes first, you are told so, and the answer comes as a later message."
    ),
    schema={
        "type": "object",
        "properties": {
            "question": {"type": "string", "description": "The question, in Markdown."},
            "options": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": MAX_OPTIONS,
                "description": (
                    f"What there is to choose from, {MIN_OPTIONS} to {MAX_OPTIONS}; left out: anything can be answered."
                ),
            },
            "to": {"type": "string", "description": TO_HELP},
            "re": {"type": "integer", "description": RE_HELP},
            "wait_minutes": {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_WAIT_MINUTES,
                "description": f"How long to wait; left out: {DEFAULT_WAIT_MINUTES}. 0: only ask.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    run=_run,
)
