"""The parts of the documentation that are generated from the tests. `make docs` writes them, test_pages compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.pages import content, incoming, outgoing
from tests.support.cases import ROOT

_DOCS = ROOT / "docs"
_END = "<!-- end -->"
_PAGES: Mapping[str, str] = {
    "telegram": "telegram.md",
    "discord": "discord.md",
    "slack": "slack.md",
    "whatsapp": "whatsapp.md",
    "whatsapp_linked": "whatsapp-linked.md",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a page between two marks, or the whole page. `render` takes a while."""

    page: Path
    render: Callable[[], str]
    about: str = ""

    def current_text(self) -> str:
        """The current text of the page."""
        return self._split()[1]

    def write(self) -> None:
        """Write the generated text."""
        self._split()  # raises before anything is generated
        self.replace_with(self.render())

    def replace_with(self, text: str) -> None:
        """Replace the text."""
        before, _, after = self._split()
        self.page.write_text(before + text + after, encoding="utf-8")

    def _split(self) -> tuple[str, str, str]:
        text = self.page.read_text(encoding="utf-8") if self.page.exists() else ""
        if not self.about:
            return "", text, ""
        begin = f"<!-- {self.about}: generated -->\n"
        before, found, rest = text.partition(begin)
        block, end, after = rest.partition(f"\n{_END}")
        if not (found and end):
            raise ValueError(f"{self.page.name} has no {begin.strip()} … {_END}")
        return before + found, block, end + after

    def __str__(self) -> str:
        return f"{self.page.stem} {self.about}".strip().replace(" ", "-")


def all_blocks() -> list[Block]:
    """Every generated part."""
    made = [Block(page=_DOCS / "reference" / "content.md", render=content.render_page)]
    for platform, name in _PAGES.items():
        page = _DOCS / "channels" / name
        made.append(Block(page=page, render=partial(incoming.render_table, platform), about="what arrives as what"))
        made.append(Block(page=page, render=partial(outgoing.render_table, platform), about="what is said as what"))
    return made
