"""Loads the catalogue of a language: the sentences that people read in chats, in another language than English.

A language is a file, LANG/LC_MESSAGES/nanohost.po, in the folder `locales` of nanohost or of an install. A translation
whose placeholders are not those of its sentence is left out, with a warning in the log: that one is said in English.
"""

from __future__ import annotations

import gettext
import string
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import structlog

from nanohost.errors import SettingsError
from nanohost.text.po_file import PoEntry, compile_entries, parse_po
from nanohost.text.translation import ENGLISH

SOURCE_LANGUAGE = "en"
SHIPPED_LOCALES = Path(__file__).parent.parent / "locales"
"""One folder a language. The template with all sentences is beside them."""
TEMPLATE = SHIPPED_LOCALES / "nanohost.pot"

_log = structlog.get_logger()


def load_translations(language: str, folder: Path | None = None) -> gettext.NullTranslations:
    """The catalogue of a language: of `folder`, an install's own, before the one that is shipped. Reads the disk.

    Raises SettingsError for a language that has no file, and for a file that cannot be read.
    """
    found = [path for path in (_po_path(root, language) for root in _roots(folder)) if path.is_file()]
    if not found:
        if language == SOURCE_LANGUAGE:
            return ENGLISH
        known = ", ".join(available_languages(folder))
        raise SettingsError(f"there is no language {language[:40]!r}", hint=f"languages here: {known}")
    first, *others = [_load_file(path) for path in found]
    for other in others:
        first.add_fallback(other)
    return first


def available_languages(folder: Path | None = None) -> Sequence[str]:
    """The names of all languages, sorted. Reads the disk."""
    named = {path.parts[-3] for root in _roots(folder) for path in root.glob("*/LC_MESSAGES/nanohost.po")}
    return sorted({SOURCE_LANGUAGE, *named})


def placeholders(message: str) -> frozenset[str]:
    """Each `{name}` of a message, with its format. Raises ValueError for braces that do not match."""
    parsed = string.Formatter().parse(message)
    return frozenset(
        f"{name}!{conversion or ''}:{spec}" for _text, name, spec, conversion in parsed if name is not None
    )


def translation_problem(entry: PoEntry) -> str:
    """Why a translation cannot be used, or ""."""
    try:
        expected = placeholders(entry.plural or entry.message)
        for form in entry.translations:
            found = placeholders(form)
            missing = expected - found - ({"count!:"} if entry.plural else set())
            if wrong := sorted(one.partition("!")[0] for one in (found - expected) | missing):
                return f"{{{wrong[0]}}} is not in both the sentence and its translation"
    except ValueError as error:
        return str(error)
    return ""


def _roots(folder: Path | None) -> list[Path]:
    return [SHIPPED_LOCALES] if folder is None else [folder, SHIPPED_LOCALES]


def _po_path(root: Path, language: str) -> Path:
    """Raises SettingsError for a name that is a path."""
    if not language.replace("_", "").replace("-", "").replace("@", "").isalnum():
        raise SettingsError(f"{language[:40]!r} is not the name of a language", hint="such as de, or pt_BR")
    return root / language / "LC_MESSAGES" / "nanohost.po"


def _load_file(path: Path) -> gettext.GNUTranslations:
    try:
        entries = parse_po(path.read_text(encoding="utf-8"))
        usable = [entry for entry in entries if not _log_problem(path, entry)]
        return gettext.GNUTranslations(BytesIO(compile_entries(usable)))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", hint="msgfmt --check finds what is wrong") from error


def _log_problem(path: Path, entry: PoEntry) -> bool:
    """Log why a translation is left out. False: it is not."""
    problem = translation_problem(entry) if entry.message else ""
    if problem:
        _log.warning("translation_rejected", file=str(path), line=entry.line, message=entry.message, problem=problem)
    return bool(problem)
