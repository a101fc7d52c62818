"""A language for tests: each sentence of the template in letters that no English text has, in brackets.

What is left in ordinary letters was not taken from the catalogue.
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from nanohost.text.po_file import quote_po

PSEUDO_LANGUAGE = "pseudo"
OPENING, CLOSING = "⟪", "⟫"
"""Not ⟦ and ⟧, which are the signs of the host's header."""
_LETTERS = {ord(letter): chr(ord(letter) + 0xFEE0) for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_PLACEHOLDER = re.compile(r"(\{[^{}]*\})")
_QUOTED = re.compile(r"(`+).+?\1|(?<!\w)/[a-z]+|\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", re.DOTALL)
"""What is typed as it is: code, commands, one-time codes."""
_WORD = re.compile(r"[A-Za-z]{2,}")
_PLURAL_FORMS = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"


def load_script(name: str) -> ModuleType:
    """A program of scripts/ as a module."""
    loader = SourceFileLoader(name, str(Path(__file__).parents[2] / "scripts" / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    loader.exec_module(module)
    return module


def pseudo(message: str) -> str:
    """A sentence in this language. Its placeholders are as they were."""
    parts = _PLACEHOLDER.split(message)
    return OPENING + "".join(one if one.startswith("{") else one.translate(_LETTERS) for one in parts) + CLOSING


def write_pseudo_language(locales: Path) -> None:
    """Put the language into an install's folder `locales`."""
    path = locales / PSEUDO_LANGUAGE / "LC_MESSAGES" / "nanohost.po"
    path.parent.mkdir(parents=True)
    entries = ['msgid ""', f"msgstr {quote_po(_PLURAL_FORMS)}"]
    for sentence in load_script("translations").find_sentences():
        entries.append(f"msgid {quote_po(sentence.message)}")
        if sentence.plural:
            entries += [
                f"msgid_plural {quote_po(sentence.plural)}",
                f"msgstr[0] {quote_po(pseudo(sentence.message))}",
                f"msgstr[1] {quote_po(pseudo(sentence.plural))}",
            ]
        else:
            entries.append(f"msgstr {quote_po(pseudo(sentence.message))}")
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")


def english_words(text: str, *, known: frozenset[str]) -> list[str]:
    """The words of a text in ordinary letters that are neither typed as they are nor `known`, such as names."""
    shown = _QUOTED.sub(" ", text)
    return [word for word in _WORD.findall(shown) if word not in known]
