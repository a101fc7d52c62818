"""Defines how a turn fails: the error class, and the sentence for people. One table, so that every class has one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost_protocol.rows import ErrorClass, TurnError

SENTENCES: dict[ErrorClass, str] = {
    ErrorClass.AUTH: "I cannot reach my model: its key is missing or no longer valid. The operator has to renew it.",
    ErrorClass.RATE_LIMITED: "My model is limiting how much I may ask of it right now.",
    ErrorClass.OVERLOADED: "My model is overloaded at the moment.",
    ErrorClass.CONTEXT_FULL: "Our conversation has become too long for my model. I am starting it afresh.",
    ErrorClass.BUDGET: "The budget for this conversation is used up. The operator can raise it.",
    ErrorClass.INVALID_SESSION: "I lost the thread of our conversation and could not pick it up again.",
    ErrorClass.TRANSIENT: "Something went wrong while I was working on this.",
    ErrorClass.PERMANENT: "My model refuses this request, and trying again will not help.",
}


TURN_LIMIT_REACHED = "This took more steps than I may take for one answer, so I stopped. Ask me to go on if I should."
INPUT_TOO_LARGE = (
    "This is more than my model can take in at once, so I stopped. Send it in smaller parts, or ask for less of it at a"
    " time."
)
"""For a message that is too long or too large even in a new conversation."""
OUTPUT_TOO_LONG = "My answer became longer than my model may write, so it ends here. Ask me to go on if I should."
MODEL_REFUSED = "My model declined to answer this: its safety check stopped it. Put it in other words, or leave it out."
MODEL_NOT_FOUND = "I cannot reach my model: there is none of its name at its address. The operator has to look at it."
"""For a 404 of the service: the model's name or the address is wrong."""
MODEL_UNREACHABLE = "I cannot reach my model right now."
"""For failures of the connection to the model: no network, a wrong address. Their class is overload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure that a provider reports.

    `detail`: for the log. `retry_at`: known for some rate limits. `sentence`: replaces that of the class.
    `should_keep_text`: a limit was reached, and the text before it is still sent; only for classes that are not
    retried, or people would read it twice. `history`: the model refuses the content or size of the conversation, and
    this is its text, with which a new one can be started.
    """

    error_class: ErrorClass
    detail: str = ""
    retry_at: datetime | None = None
    sentence: str = ""
    should_keep_text: bool = False
    history: str | None = None

    def to_turn_error(self) -> TurnError:
        sentence = self.sentence or SENTENCES[self.error_class]
        return TurnError(error_class=self.error_class, sentence=sentence, retry_at=self.retry_at)


class ProviderFailed(Exception):
    """Raised by a provider that cannot continue; any other exception counts as transient."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail or failure.error_class)
        self.failure = failure


def to_failure(error: Exception) -> Failure:
    """Converts an exception of a provider into a failure."""
    if isinstance(error, ProviderFailed):
        return error.failure
    return Failure(error_class=ErrorClass.TRANSIENT, detail=f"{type(error).__name__}: {error}")
