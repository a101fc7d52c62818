"""ask_user_question: ask a person something, with choices or without, and wait for the answer for a while."""

from __future__ import annotations

from agent_runner.markup import clean, element
from agent_runner.outbox import Outbox
from agent_runner.questions import Answered, Unanswered
from agent_runner.tools import RE, TO, Arguments, Tool, ToolRefused, optional_number, optional_text, text_of

FEWEST, MOST = 2, 10
LONGEST_OPTION = 200
"""Characters; it is to be read on a button."""
WAIT_MINUTES, MOST_MINUTES = 10, 60

_LATER = "The answer will come as a message of theirs; end your turn, unless there is something else to do."
_UNANSWERED = {
    Unanswered.NOT_YET: f"There is no answer yet. {_LATER}",
    Unanswered.UNDELIVERED: "The question did not arrive, so nobody will answer it. Ask in another place, or do"
    " without; a message of the host may say why.",
    Unanswered.INTERRUPTED: "Nobody has answered. Something else came instead, and you have it or get it next: see"
    " whether it settles the question. An answer that still comes will come as a message.",
}


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    question, options = text_of(arguments, "question"), _options(arguments.get("options"))
    to, re = optional_text(arguments, "to"), optional_number(arguments, "re")
    wait_s = _minutes(arguments.get("wait_minutes")) * 60
    asked = await outbox.ask(question, options, to=to, re=re)
    outcome = await outbox.answer_to(asked, wait_s)
    if outcome is Unanswered.OVER:
        raise ToolRefused("The turn is over; nobody waits for the answer any more.")
    if isinstance(outcome, Answered):
        return element("answer", outcome.text, from_=outcome.sender, id=outcome.number)
    return f"{_asked(asked.number, new=asked.new)} {_UNANSWERED[outcome] if wait_s else _LATER}"


def _asked(number: int, *, new: bool) -> str:
    if new:
        return f"Asked as message {number}."
    return f"This had been asked before this turn was interrupted, as message {number}; it was not asked again."


def _options(value: object) -> tuple[str, ...]:
    """Raises ToolRefused."""
    if value is None or value == []:
        return ()
    texts = [clean(one).strip() for one in value if isinstance(one, str)] if isinstance(value, list) else []
    is_good = isinstance(value, list) and len(texts) == len(value) and FEWEST <= len(texts) <= MOST
    if not (is_good and all(0 < len(text) <= LONGEST_OPTION for text in texts) and len({*texts}) == len(texts)):
        raise ToolRefused(
            f"options must be {FEWEST} to {MOST} different texts of {LONGEST_OPTION} characters at the most, or none."
        )
    return tuple(texts)


def _minutes(value: object) -> float:
    """Raises ToolRefused."""
    if value is None:
        return WAIT_MINUTES
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_MINUTES:
        raise ToolRefused(f"wait_minutes must be a number from 0 to {MOST_MINUTES}.")
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
                "maxItems": MOST,
                "description": f"What there is to choose from, {FEWEST} to {MOST}; left out: anything can be answered.",
            },
            "to": {"type": "string", "description": TO},
            "re": {"type": "integer", "description": RE},
            "wait_minutes": {
                "type": "number",
                "minimum": 0,
                "maximum": MOST_MINUTES,
                "description": f"How long to wait; left out: {WAIT_MINUTES}. 0: only ask.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    },
    run=_run,
)
