"""What the agent says, and what becomes of it on each platform: a host with a scripted agent, its real channels, and
the simulated platforms' screens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nanohost.commands.setup import MAIN
from nanohost.testing.simulated import find
from nanohost.testing.simulator import Shown, Simulator
from tests.channels.everywhere import Everywhere, hosted, platform_names, play
from tests.support.arrivals import code
from tests.support.hasty_clock import HastyClock

_PICTURE = bytes.fromhex("89504e470d0a1a0a") + b"made up"
FILES = {"report.txt": b"all is well", "garden.png": _PICTURE}
WORDS = {
    "marks": "**bold**, *italic*, ~~struck~~ and `code`",
    "heading": "# Plan\n\nMeet at noon.",
    "list": "- bread\n  - with butter\n- tea",
    "numbered list": "3. bread\n4. tea",
    "link": "see [the map](https://example.com/map)",
    "quotation": "> be quick\n\nshe said",
    "block of code": "```python\nprint(1 < 2)\n```",
    "table": "| city | °C |\n|---|---|\n| Lima | 19 |",
    "picture of the web": "![the way there](https://example.com/way.png)",
    "HTML": "<b>bold</b><br>R&D <u>and</u> 1 < 2",
    "names of everybody": "@everyone, @here and <!channel>: look",
}
TOOLS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "question with choices": (
        "ask_user_question",
        {"question": "Shall we?", "options": ["Yes", "No"], "wait_minutes": 0},
    ),
    "file": ("send_file", {"path": "report.txt", "caption": "The report."}),
    "picture": ("send_file", {"path": "garden.png", "caption": "Our garden."}),
}
FIRST = "first"
"""Of the first message the agent knows the number of each row."""
FIRST_CALLS: Sequence[tuple[str, Mapping[str, object]]] = [
    ("react", {"message": 2, "emoji": "👍"}),
    ("send_message", {"text": "half of it"}),
    ("edit_message", {"message": 5, "text": "all of it"}),
]


HEAD = "| what the agent does | | what people see |\n|---|---|---|"


def table(platform: str) -> str:
    """One line an example, as the platform's page shows it."""
    rows = said()[platform].items()
    lines = (f"| {name} | {_code(one.words.splitlines())} | {_code(one.shown)} |" for name, one in rows)
    return "\n".join([HEAD, *lines])


def _code(lines: Sequence[str]) -> str:
    return "<br>".join(code(line.translate(_UNSEEN)) for line in lines if line.strip())


_UNSEEN = {ord("\u200b"): None}
"""What keeps a platform from reading a name as one, and nobody sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the agent said, and what came of it on the screen."""

    words: str
    shown: Sequence[str]


@cache
def said() -> Mapping[str, Mapping[str, Said]]:
    """By platform (or form of it) and example. Not to be called where a loop runs."""
    return asyncio.run(_said())


async def _said() -> Mapping[str, Mapping[str, Said]]:
    plain = await _on({name: find(name) for name in platform_names()})
    linked = await _on({"whatsapp": find("whatsapp_linked")})  # another way to the same platform, so another host
    return {**plain, "whatsapp_linked": linked["whatsapp"]}


async def _on(platforms: Mapping[str, Simulator]) -> Mapping[str, Mapping[str, Said]]:
    world = Everywhere(platforms=platforms)
    with tempfile.TemporaryDirectory(prefix="nanohost-pages-") as folder:
        root = Path(folder)
        play(root, *_rules())
        for name, content in FILES.items():
            (root / "groups" / MAIN / name).write_bytes(content)
        async with hosted(root, world, clock=HastyClock()):
            found = await asyncio.gather(*(_talk(one) for one in platforms.values()))
    return dict(zip(platforms, found, strict=True))


def _rules() -> list[Mapping[str, object]]:
    def rule(name: str, *actions: Mapping[str, object]) -> Mapping[str, object]:
        return {"match": f"^{name}$", "actions": actions}

    def call(tool: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
        return {"tool": tool, "arguments": arguments}

    return [
        rule(FIRST, *(call(*one) for one in FIRST_CALLS)),
        *(rule(name, {"answer": text}) for name, text in WORDS.items()),
        *(rule(name, call(*one)) for name, one in TOOLS.items()),
    ]


async def _talk(platform: Simulator) -> Mapping[str, Said]:
    """One example after the other; each is over when something is new on the screen."""
    found = {}
    first = await platform.write(platform.dm, FIRST)
    await platform.until(lambda: "all of it" in platform.texts(platform.dm))
    await platform.until(lambda: bool(_reactions(platform, first)))
    found["reaction"] = Said(words="👍", shown=[f"{''.join(_reactions(platform, first))} below the message"])
    found["message that is changed"] = Said(
        words="half of it, then all of it", shown=_cells(platform.screen(platform.dm))
    )
    for name in (*WORDS, *TOOLS):
        before = len(platform.screen(platform.dm))
        await platform.write(platform.dm, name)
        shown = (await platform.until_shown(before + 1, platform.dm))[before:]
        found[name] = Said(words=WORDS.get(name) or _in_words(*TOOLS[name]), shown=_cells(shown))
    return found


def _reactions(platform: Simulator, id: str) -> Sequence[str]:
    return next(one.reactions for one in platform.screen(platform.dm, sender=None) if one.id == id)


def _in_words(tool: str, arguments: Mapping[str, object]) -> str:
    return " ".join([tool, *(f"{key}={value}" for key, value in arguments.items())])


def _cells(shown: Sequence[Shown]) -> Sequence[str]:
    return [line for one in shown for line in _lines(one)]


def _lines(one: Shown) -> list[str]:
    file = [f"file {one.file_name}"] if one.file_name else []
    buttons = [" ".join(f"[{label}]" for label in one.buttons)] if one.buttons else []
    edited = ["(changed)"] if one.edits else []
    return [*one.text.splitlines(), *file, *buttons, *edited]
