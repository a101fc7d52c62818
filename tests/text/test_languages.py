"""Languages as files: what is read, what is refused, and what is in the template."""

from __future__ import annotations

import gettext
from pathlib import Path

import pytest
import structlog

from nanohost.errors import SettingsError
from nanohost.text.languages import SHIPPED_LOCALES, TEMPLATE, available_languages, load_translations
from nanohost.text.po_file import PoError, parse_po, quote_po
from nanohost.text.translation import installed, ngettext
from tests.support.pseudo_language import load_script, pseudo, write_pseudo_language

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n'


def write_language(folder: Path, text: str, language: str = "de") -> None:
    path = folder / language / "LC_MESSAGES" / "nanohost.po"
    path.parent.mkdir(parents=True)
    path.write_text(HEADER + text, encoding="utf-8")


def test_the_template_has_all_sentences_of_the_code() -> None:
    assert TEMPLATE.read_text(encoding="utf-8") == load_script("translations").render_template(), "run make docs"


def test_each_shipped_language_can_be_loaded_and_none_of_its_translations_is_refused() -> None:
    with structlog.testing.capture_logs() as logs:
        for language in available_languages():
            load_translations(language)
    assert logs == []
    assert TEMPLATE.parent == SHIPPED_LOCALES


def test_a_language_of_the_install_is_loaded(tmp_path: Path) -> None:
    write_pseudo_language(tmp_path)
    assert load_translations("pseudo", tmp_path).gettext("Stopped.") == pseudo("Stopped.")
    assert available_languages(tmp_path) == sorted({*available_languages(), "pseudo"})


def test_english_needs_no_file_and_an_install_may_word_a_sentence_otherwise(tmp_path: Path) -> None:
    assert load_translations("en", tmp_path).gettext("Stopped.") == "Stopped."
    write_language(tmp_path, 'msgid "Stopped."\nmsgstr "Halted."\n', "en")
    changed = load_translations("en", tmp_path)
    assert (changed.gettext("Stopped."), changed.gettext("Denied")) == ("Halted.", "Denied")


@pytest.mark.parametrize("language", ["xx", "../de", "", "de/LC_MESSAGES"])
def test_a_language_that_is_not_there_is_an_error(tmp_path: Path, language: str) -> None:
    write_language(tmp_path, 'msgid "Stopped."\nmsgstr "Angehalten."\n')
    with pytest.raises(SettingsError, match="language") as caught:
        load_translations(language, tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "translation",
    ["{agnet} darf es.", "Er darf es.", "{agent!r} darf es.", "{agent.folder} darf es.", "{agent} {more}", "{agent"],
)
def test_a_translation_with_wrong_placeholders_is_refused_and_logged_and_the_others_count(
    tmp_path: Path, translation: str
) -> None:
    write_language(
        tmp_path,
        f'msgid "{{agent}} may do it."\nmsgstr "{translation}"\n\nmsgid "Stopped."\nmsgstr "Angehalten."\n',
    )
    with structlog.testing.capture_logs() as logs:
        found = load_translations("de", tmp_path)
    assert found.gettext("{agent} may do it.") == "{agent} may do it."
    assert found.gettext("Stopped.") == "Angehalten."
    assert [(one["event"], one["log_level"], one["message"]) for one in logs] == [
        ("translation_rejected", "warning", "{agent} may do it.")
    ]


def test_the_form_for_one_need_not_say_the_count(tmp_path: Path) -> None:
    forms = 'msgid "{count} turn"\nmsgid_plural "{count} turns"\nmsgstr[0] "ein Zug"\nmsgstr[1] "{count} Züge"\n'
    write_language(tmp_path, forms)
    with installed(load_translations("de", tmp_path)):
        assert [ngettext("{count} turn", "{count} turns", count) for count in (1, 2)] == ["ein Zug", "2 Züge"]


@pytest.mark.parametrize("text", ['msgid "open\nmsgstr "x"', "msgid 1\n", 'msgtext "a"\n', 'msgctxt "a"\nmsgid "b"\n'])
def test_a_file_that_is_not_understood_is_an_error_that_names_it_and_the_line(tmp_path: Path, text: str) -> None:
    write_language(tmp_path, text)
    with pytest.raises(SettingsError, match=r"nanohost\.po cannot be read: line \d+"):
        load_translations("de", tmp_path)


def test_a_wrong_rule_for_plurals_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "de" / "LC_MESSAGES" / "nanohost.po"
    path.parent.mkdir(parents=True)
    path.write_text('msgid ""\nmsgstr "Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\\n"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_translations("de", tmp_path)


def test_fuzzy_and_missing_translations_are_left_out() -> None:
    fuzzy, missing = '#, fuzzy\nmsgid "a"\nmsgstr "b"\n\n', 'msgid "c"\nmsgstr ""\n\n'
    text = f'{fuzzy}{missing}#~ msgid "old"\n#~ msgstr "alt"\n\nmsgid "d"\nmsgstr "e"\n'
    assert [(one.message, one.translations) for one in parse_po(text)] == [("d", ("e",))]


@pytest.mark.parametrize("text", ["", "plain", 'a "quoted" word \\ and', "two\nlines", "ends\n", "ünï⟪"])
def test_what_is_written_into_a_file_is_read_back(text: str) -> None:
    [entry] = parse_po(f"msgid {quote_po('key')}\nmsgstr {quote_po(text or 'x')}\n")
    assert entry.translations == (text or "x",)


def test_what_stands_before_the_first_sentence_is_an_error() -> None:
    with pytest.raises(PoError, match="line 1"):
        parse_po('"text"\n')
    assert isinstance(load_translations("en"), gettext.NullTranslations)
