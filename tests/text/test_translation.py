"""Sentences in the language of the install, and in English where they have no translation."""

from __future__ import annotations

import asyncio
import gettext
from collections.abc import Iterator
from io import BytesIO

import pytest

from nanohost.errors import UsageError
from nanohost.text.po_file import compile_entries, parse_po
from nanohost.text.translation import (
    _,
    english,
    gettext_noop,
    installed,
    known_forms,
    lazy,
    lazy_gettext,
    lazy_ngettext,
    ngettext,
    translate,
    translate_error,
)

GERMAN = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

msgid "{name} may write."
msgstr "{name} darf schreiben."

msgid "{count} message waits."
msgid_plural "{count} messages wait."
msgstr[0] "Eine Nachricht wartet."
msgstr[1] "{count} Nachrichten warten."

msgid "the agent {agent}"
msgstr "der Agent {agent}"

msgid "{subject} is late"
msgstr "{subject} ist spät"

msgid "Stopped."
msgstr "Angehalten."
"""


@pytest.fixture(autouse=True)
def german() -> Iterator[None]:
    with installed(gettext.GNUTranslations(BytesIO(compile_entries(parse_po(GERMAN))))):
        yield


def test_a_sentence_is_translated_with_its_values() -> None:
    assert _("{name} may write.", name="Ada {x}") == "Ada {x} darf schreiben."


def test_a_sentence_without_a_translation_is_said_in_english() -> None:
    assert _("Nobody is here, {name}.", name="Ada") == "Nobody is here, Ada."


@pytest.mark.parametrize(("count", "text"), [(1, "Eine Nachricht wartet."), (3, "3 Nachrichten warten.")])
def test_a_count_has_the_form_that_the_language_has_for_it(count: int, text: str) -> None:
    lazily = lazy_ngettext("{count} message waits.", "{count} messages wait.", count)
    assert ngettext("{count} message waits.", "{count} messages wait.", count) == text
    assert translate(lazily) == text
    assert str(lazily) == ("1 message waits." if count == 1 else "3 messages wait.")


def test_an_error_is_in_english_for_the_log_and_translated_with_all_its_values_for_a_chat() -> None:
    error = UsageError(lazy_gettext("{subject} is late", subject=lazy_gettext("the agent {agent}", agent="main")))
    assert str(error) == "the agent main is late"
    assert translate_error(error) == "der Agent main ist spät"
    assert translate_error(UsageError("of an extension")) == "of an extension"


def test_a_constant_is_translated_where_it_is_said() -> None:
    constant = gettext_noop("Stopped.")
    assert constant == "Stopped."
    assert (_(constant), translate(constant), translate(lazy(constant))) == ("Angehalten.",) * 3


def test_nothing_is_said_of_no_text() -> None:
    assert (_(""), translate(""), translate(lazy(""))) == ("", "", "")


def test_both_forms_of_a_sentence_are_known_in_any_task() -> None:
    with english():
        assert known_forms("Stopped.") == {"Stopped.", "Angehalten."}


async def test_a_task_that_speaks_english_changes_nothing_for_others() -> None:
    inside, done = asyncio.Event(), asyncio.Event()

    async def command() -> str:
        with english():
            inside.set()
            await done.wait()
            return _("Stopped.")

    task = asyncio.create_task(command())
    await inside.wait()
    assert _("Stopped.") == "Angehalten."
    done.set()
    assert await task == "Stopped."
