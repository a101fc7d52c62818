"""Translates the sentences that people read in chats.

A sentence stands in English where it is used, and is looked up in the catalogue of the install's language when it is
used, never at import: `_("{name} may talk to {agent} now.", name=name, agent=agent)`. Constants are marked with
`gettext_noop` and given to `_` where they are said. What is told to people and is logged or stored as well is a
`lazy_gettext`: a `str` in English that knows its translation. A sentence without a translation is said in English.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

ENGLISH = gettext.NullTranslations()
_installed: gettext.NullTranslations = ENGLISH
_speaks_english: ContextVar[bool] = ContextVar("speaks_english", default=False)


class TranslatableText(str):
    """An English sentence that can be translated later: `str` of it is English."""

    __slots__ = ("_message", "_plural", "_values")

    _message: str
    _plural: str
    _values: Mapping[str, object]

    def translated(self) -> str:
        """The sentence in the language of the install."""
        if self._plural:
            return _format(_current().ngettext(self._message, self._plural, self._count), self._values)
        return _format(_look_up(self._message), self._values)

    @property
    def _count(self) -> int:
        return int(str(self._values["count"]))


def _(message: str, /, **values: object) -> str:
    """The sentence in the language of the install, with the values in place of `{name}`."""
    return _format(_look_up(message), values)


def ngettext(singular: str, plural: str, count: int, /, **values: object) -> str:
    """The form of a sentence for this many, with `{count}` and the other values inserted."""
    return _format(_current().ngettext(singular, plural, count), {"count": count, **values})


def gettext_noop(message: str) -> str:
    """Mark a constant for the catalogue. Returns it as it is."""
    return message


def lazy_gettext(message: str, /, **values: object) -> TranslatableText:
    """A sentence that is logged or stored in English and translated where a person reads it. See `translate`."""
    text = TranslatableText(message.format(**values) if values else message)
    text._message, text._plural, text._values = message, "", values
    return text


def lazy_ngettext(singular: str, plural: str, count: int, /, **values: object) -> TranslatableText:
    """The same as `lazy_gettext` for a sentence with a count."""
    given = {"count": count, **values}
    text = TranslatableText((singular if count == 1 else plural).format(**given))
    text._message, text._plural, text._values = singular, plural, given
    return text


def lazy(text: str) -> TranslatableText:
    """A text as a value of another one: what can be translated is, together with it."""
    return text if isinstance(text, TranslatableText) else lazy_gettext(text)


def translate(text: str) -> str:
    """What was made by `lazy_gettext`, or a constant of the catalogue, in the language of the install. Any other text
    is returned as it is."""
    return text.translated() if isinstance(text, TranslatableText) else _look_up(text)


def translate_error(error: Exception) -> str:
    """The sentence of an error, for a chat."""
    first = error.args[0] if error.args else ""
    return translate(first) if isinstance(first, str) else str(error)


def known_forms(message: str) -> set[str]:
    """A sentence in English and in the language of the install."""
    return {message, _installed.gettext(message)}


@contextmanager
def english() -> Iterator[None]:
    """Have sentences in English within this task, for whoever reads them on the command line."""
    token = _speaks_english.set(True)
    try:
        yield
    finally:
        _speaks_english.reset(token)


@contextmanager
def installed(translations: gettext.NullTranslations) -> Iterator[None]:
    """Have sentences in this language while entered, in the whole process."""
    global _installed
    before, _installed = _installed, translations
    try:
        yield
    finally:
        _installed = before


def _current() -> gettext.NullTranslations:
    return ENGLISH if _speaks_english.get() else _installed


def _look_up(message: str) -> str:
    return _current().gettext(message) if message else ""  # of an empty message a catalogue has its header


def _format(message: str, values: Mapping[str, object]) -> str:
    if not values:
        return message
    shown = {name: one.translated() if isinstance(one, TranslatableText) else one for name, one in values.items()}
    return message.format(**shown)
