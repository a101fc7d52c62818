"""Collects the mistakes in the settings, so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nanohost.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsProblem:
    """A mistake in the settings. `line`: in the file; None: in a variable, or without a place. `hint`: what is
    expected."""

    message: str
    hint: str
    line: int | None = None
    is_in_file: bool = True


@dataclass(slots=True)
class ProblemCollector:
    """Collects the mistakes in one file and the variables that override it. `lines`: the line of each key, by its
    dotted name. `variables`: the variable that overrides a key."""

    path: Path
    lines: Mapping[str, int] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    problems: list[SettingsProblem] = field(default_factory=list)

    def add_for_key(self, name: str, sentence: str, *, hint: str) -> None:
        """Add a mistake in the key or section of this dotted name."""
        if (variable := self.variables.get(name)) is not None:
            self.add(f"the variable {variable}: {sentence}", hint=hint)
            return
        self.add_at_line(self.lines.get(name), sentence, hint=hint)

    def add_at_line(self, line: int | None, sentence: str, *, hint: str) -> None:
        place = str(self.path) if line is None else f"{self.path}, line {line}"
        self.problems.append(SettingsProblem(message=f"{place}: {sentence}", hint=hint, line=line))

    def add(self, sentence: str, *, hint: str) -> None:
        """Add a mistake whose sentence names its place, a variable."""
        self.problems.append(SettingsProblem(message=sentence, hint=hint, is_in_file=False))

    def raise_if_any(self) -> None:
        """Raise SettingsError if there are mistakes: a single one as it is, several in the order of the file."""
        if len(self.problems) == 1:
            raise SettingsError(self.problems[0].message, hint=self.problems[0].hint)
        if self.problems:
            by_line = sorted(self.problems, key=lambda one: one.line or 0)
            lines = [f"  {one.message.removeprefix(f'{self.path}, ')} ({one.hint})" for one in by_line]
            raise SettingsError("\n".join([f"{len(lines)} mistakes {self._location()}:", *lines]), hint=self._hint())

    def _location(self) -> str:
        if all(one.is_in_file for one in self.problems):
            return f"in {self.path}"
        return f"in {self.path} and the variables over it" if self._has_any_in_file() else "in variables of nanohost"

    def _hint(self) -> str:
        if all(one.is_in_file for one in self.problems):
            return f"correct them in {self.path}"
        variables = "the variables where they are set, or unset them"
        return f"correct them in {self.path}, and {variables}" if self._has_any_in_file() else f"correct {variables}"

    def _has_any_in_file(self) -> bool:
        return any(one.is_in_file for one in self.problems)
