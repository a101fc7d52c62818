"""How a turn fails: the class, and the sentence a person reads. One table, so that no class is without words."""

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
"""Of a message that is too long, or too large, in a new conversation as well."""
OUTPUT_TOO_LONG = "My answer became longer than my model may write, so it ends here. Ask me to go on if I should."
MODEL_REFUSED = "My model declined to answer this: its safety check stopped it. Put it in other words, or leave it out."
MODEL_NOT_FOUND = "I cannot reach my model: there is none of its name at its address. The operator has to look at it."
"""Of a request that the service knows no way for: the name is wrong, or the address."""
MODEL_UNREACHABLE = "I cannot reach my model right now."
"""An overload whose cause is the way to the model: no network, a wrong address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a provider says went wrong. `detail` is for the log; `retry_at` is known for some rate limits; `sentence`
    replaces that of the class. `should_keep_text`: it is a limit that was reached, and what was said before is for
    people all the same; only for classes that are not tried again, or they would read it twice. `history`: the model
    refuses what it was sent, for what is in it or for its size, and this is what was said in the conversation, in
    words: a new one may be begun with it."""

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
    """Raised by a provider that cannot go on; anything else it raises counts as transient."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail or failure.error_class)
        self.failure = failure


def to_failure(error: Exception) -> Failure:
    """An exception out of a provider as a failure."""
    if isinstance(error, ProviderFailed):
        return error.failure
    return Failure(error_class=ErrorClass.TRANSIENT, detail=f"{type(error).__name__}: {error}")
