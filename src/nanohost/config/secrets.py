"""Resolves the secrets of the settings: env:NAME, file:PATH relative to the install root, or the secret itself.

Promises: removes what editors and shells add to a secret (blanks, line ends, a byte order mark, zero-width characters,
UTF-16 as Windows writes it). An invalid secret is rejected with an error that says why and never shows it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nanohost.config.mistakes import ProblemCollector
from nanohost.errors import SettingsError

INVISIBLE_CHARS = "\ufeff\u200b\u200c\u200d\u2060"
"""Byte order mark and zero-width characters, which come with text that was copied from a web page."""
SINGLE_LINE_KEYS = re.compile(r"token|passw|api_key$", re.IGNORECASE)
"""Keys whose values have one line; other keys, as of an install's own channel, may need a PEM file."""
_ENCODING_BY_BOM = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def trim(text: str) -> str:
    """Returns the text without invisible characters around it."""
    previous = None
    while previous != text:
        previous, text = text, text.strip().strip(INVISIBLE_CHARS)
    return text


def secret_file(home: Path, name: str) -> Path:
    """Returns the path for file:NAME."""
    return home / Path(name).expanduser()


def find_problem(secret: str, *, is_multiline_allowed: bool = False) -> str:
    """Returns why this is no valid secret, without showing it; empty if it is valid. `is_multiline_allowed`: it may
    have several lines, like a key in a file."""
    if not secret:
        return "is empty"
    lines = secret.splitlines()
    if len(lines) > 1 and not is_multiline_allowed:
        return "has more than one line"
    if not all(line.isprintable() for line in lines):  # a blank is printable
        return "has a character in it that cannot be seen"
    return ""


@dataclass(frozen=True, slots=True)
class SecretResolver:
    """Resolves references to secrets; adds mistakes to `problems`."""

    home: Path
    environ: Mapping[str, str]
    problems: ProblemCollector

    def resolve(self, value: object, key: str, *, is_secret: bool = True) -> object:
        """Returns the secret of a reference, or a literal secret, trimmed; any other value as it is."""
        if not isinstance(value, str):
            return value
        kind, _, rest = value.partition(":")
        try:
            if kind == "env":
                return self._from_variable(rest, key)
            if kind == "file":
                return self._from_file(rest, key)
            return self._from_literal(value, key) if is_secret and value else value
        except SettingsError as error:
            if key in self.problems.lines or key in self.problems.variables:
                self.problems.add_for_key(key, str(error), hint=error.hint)
            else:
                self.problems.add(str(error), hint=error.hint)
            return value

    def _from_variable(self, name: str, key: str) -> str:
        found = self.environ.get(name)
        if not found:
            raise SettingsError(f"{key} points at the variable {name}, which is not set", hint=f"export {name}=…")
        return _validate(found, key, f"{key} points at the variable {name}, which", hint=f"export {name}=…")

    def _from_file(self, name: str, key: str) -> str:
        path = secret_file(self.home, name)
        try:
            found = _decode(path.read_bytes())
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(
                f"{key} points at {path}, which cannot be read: {reason}", hint=f"ls -l {path}"
            ) from None
        return _validate(found, key, f"{key} points at {path}, which", hint="put the secret into it, and nothing else")

    def _from_literal(self, value: str, key: str) -> str:
        return _validate(value, key, key, hint="write the secret between the quotes, env:NAME or file:PATH")


def _decode(content: bytes) -> str:
    """Decode UTF-8, or the encoding of the byte order mark. Raises UnicodeError."""
    for mark, encoding in _ENCODING_BY_BOM.items():
        if content.startswith(mark):
            return content.decode(encoding)
    return content.decode("utf-8")


def _validate(found: str, key: str, where: str, *, hint: str) -> str:
    secret = trim(found)
    if problem := find_problem(secret, is_multiline_allowed=not SINGLE_LINE_KEYS.search(key)):
        raise SettingsError(f"{where} {problem}", hint=hint)
    return secret
