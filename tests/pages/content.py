"""docs/reference/content.md: kinds of content by platforms, and what tests each.

What counts as a test: a case of tests/cases/ whose `kind` it is, a test in tests/channels/PLATFORM/ that is marked
`content(Content.…)`, and an example of the platform's simulator, which tests/channels/test_kinds.py sends.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from nanohost.testing.content import UNSUPPORTED_CONTENT, ContentKind
from nanohost.testing.simulated_chat import find_simulator, simulator_names
from tests.support.cases import ROOT, load_cases
from tests.support.marks import tests_with_mark

COLUMNS: Mapping[str, str] = {
    "telegram": "Telegram",
    "discord": "Discord",
    "slack": "Slack",
    "whatsapp": "WhatsApp (Cloud API)",
    "whatsapp_linked": "WhatsApp (linked)",
    "terminal": "terminal",
}
_CHANNELS = ROOT / "tests" / "channels"
_HEAD = """\
# Kinds of content

What people send, on which platform, and which tests show that it reaches the agent as what it is. Made by `make docs`;
a test compares it with what there is, and a kind that a platform has and nothing tests is an error.

* *Words in italics* are a case of `tests/cases/*.json`, run by `tests/channels/PLATFORM/test_cases.py`, or by the test
  that is marked with its name.
* `/send EXAMPLE` is an example of the platform's simulator (`nanohost channels simulate PLATFORM`), sent by
  `tests/channels/test_kinds.py`; what the agent reads of it is on the page of the platform.
* `FILE::TEST` is a test of its own, in `tests/channels/PLATFORM/` where no folder is named.
* *not there*: nobody can send it there, or no bot is told of it.
"""


def render_page() -> str:
    """The whole page."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    for kind in ContentKind:
        lines.append(f"| **{kind}** | {' | '.join(_cell(kind, platform) for platform in COLUMNS)} |")
    return "\n".join([_HEAD, *lines]) + "\n"


def find_untested() -> list[str]:
    """Supported kinds of a platform without a test."""
    return [
        f"{platform}: {kind}"
        for platform in COLUMNS
        for kind in ContentKind
        if kind not in UNSUPPORTED_CONTENT[platform] and not test_names(kind, platform)
    ]


def test_names(kind: ContentKind, platform: str) -> Sequence[str]:
    """The tests of this kind on this platform, as the page names them."""
    return [*_cases(kind, platform), *_examples(kind, platform), *_tests_by_kind(platform).get(kind, ())]


def _cell(kind: ContentKind, platform: str) -> str:
    if kind in UNSUPPORTED_CONTENT[platform]:
        because = UNSUPPORTED_CONTENT[platform][kind]
        return f"not there: {because}" if because else "not there"
    return "<br>".join(test_names(kind, platform))


def _cases(kind: ContentKind, platform: str) -> Iterator[str]:
    for one in load_cases():
        if one.platform == platform and one.case.get("kind") == kind:
            yield f"*{one.case['name']}*"


def _examples(kind: ContentKind, platform: str) -> Iterator[str]:
    if platform in simulator_names():
        for name in find_simulator(platform).content_examples().get(kind, ()):
            yield f"`/send {name}`"


@cache
def _tests_by_kind(platform: str) -> Mapping[ContentKind, Sequence[str]]:
    """The tests of each kind."""
    found: dict[ContentKind, list[str]] = {}
    for path in test_files(platform):
        for test, kind in content_marks(path):
            found.setdefault(kind, []).append(f"`{path.name}::{test}`")
    return found


def test_files(platform: str) -> Sequence[Path]:
    """The files with the tests of this platform."""
    folder = _CHANNELS / platform
    return sorted(folder.glob("test_*.py")) if folder.is_dir() else [_CHANNELS / f"test_{platform}.py"]


def content_marks(path: Path) -> Iterator[tuple[str, ContentKind]]:
    """The test (or class of tests) and the kind, of each `@pytest.mark.content(Content.KIND, …)`."""
    for test, given in tests_with_mark(path, "content"):
        if isinstance(given, ast.Attribute):
            yield test, ContentKind[given.attr]
