"""What the agent's messages become on each platform: a host with a scripted agent, its real channels, and the simulated
platforms' screens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nanohost.commands.setup import MAIN_GROUP
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import ScreenMessage, Simulator
from tests.channels.everywhere import AllPlatforms, platform_names, run_host, write_agent_script
from tests.support.agent_view import inline_code
from tests.support.fast_clock import AcceleratedClock

_PICTURE = bytes.fromhex("89504e470d0a1a0a") + b"made up"
FILES = {"report.txt": b"all is well", "garden.png": _PICTURE}
MARKDOWN_EXAMPLES = {
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
TOOL_EXAMPLES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "question with choices": (
        "ask_user_question",
        {"question": "Shall we?", "options": ["Yes", "No"], "wait_minutes": 0},
    ),
    "file": ("send_file", {"path": "report.txt", "caption": "The report."}),
    "picture": ("send_file", {"path": "garden.png", "caption": "Our garden."}),
}
FIRST_CHAT = "first"
"""The number of each row of the first message, which the agent knows."""
FIRST_CALLS: Sequence[tuple[str, Mapping[str, object]]] = [
    ("react", {"message": 2, "emoji": "👍"}),
    ("send_message", {"text": "half of it"}),
    ("edit_message", {"message": 5, "text": "all of it"}),
]


HEAD = "| what the agent does | | what people see |\n|---|---|---|"


def render_table(platform: str) -> str:
    """One row for each example, as the platform's page shows it."""
    rows = collect_examples()[platform].items()
    lines = (f"| {name} | {_code(one.words.splitlines())} | {_code(one.shown)} |" for name, one in rows)
    return "\n".join([HEAD, *lines])


def _code(lines: Sequence[str]) -> str:
    return "<br>".join(inline_code(line.translate(_INVISIBLE_CHARS)) for line in lines if line.strip())


_INVISIBLE_CHARS = {ord("\u200b"): None}
"""Invisible characters that keep a platform from parsing a mention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingExample:
    """The agent's message, and its result on the screen."""

    words: str
    shown: Sequence[str]


@cache
def collect_examples() -> Mapping[str, Mapping[str, OutgoingExample]]:
    """By platform (or form of it) and example. Not to be called from a running loop."""
    return asyncio.run(_collect_examples())


async def _collect_examples() -> Mapping[str, Mapping[str, OutgoingExample]]:
    plain = await _run_on({name: find_simulator(name) for name in platform_names()})
    linked = await _run_on(
        {"whatsapp": find_simulator("whatsapp_linked")}
    )  # a second channel of the same platform, so another host
    return {**plain, "whatsapp_linked": linked["whatsapp"]}


async def _run_on(platforms: Mapping[str, Simulator]) -> Mapping[str, Mapping[str, OutgoingExample]]:
    world = AllPlatforms(platforms=platforms)
    with tempfile.TemporaryDirectory(prefix="nanohost-pages-") as folder:
        root = Path(folder)
        write_agent_script(root, *_rules())
        for name, content in FILES.items():
            (root / "groups" / MAIN_GROUP / name).write_bytes(content)
        async with run_host(root, world, clock=AcceleratedClock()):
            found = await asyncio.gather(*(_play_examples(one) for one in platforms.values()))
    return dict(zip(platforms, found, strict=True))


def _rules() -> list[Mapping[str, object]]:
    def rule(name: str, *actions: Mapping[str, object]) -> Mapping[str, object]:
        return {"match": f"^{name}$", "actions": actions}

    def call(tool: str, arguments: Mapping[str, object]) -> Mapping[str, object]:
        return {"tool": tool, "arguments": arguments}

    return [
        rule(FIRST_CHAT, *(call(*one) for one in FIRST_CALLS)),
        *(rule(name, {"answer": text}) for name, text in MARKDOWN_EXAMPLES.items()),
        *(rule(name, call(*one)) for name, one in TOOL_EXAMPLES.items()),
    ]


async def _play_examples(platform: Simulator) -> Mapping[str, OutgoingExample]:
    """One example after the other; each ends when something new is on the screen."""
    found = {}
    first = await platform.write(platform.dm, FIRST_CHAT)
    await platform.wait_until(lambda: "all of it" in platform.texts(platform.dm))
    await platform.wait_until(lambda: bool(_reactions(platform, first)))
    found["reaction"] = OutgoingExample(words="👍", shown=[f"{''.join(_reactions(platform, first))} below the message"])
    found["message that is changed"] = OutgoingExample(
        words="half of it, then all of it", shown=_cells(platform.screen(platform.dm))
    )
    for name in (*MARKDOWN_EXAMPLES, *TOOL_EXAMPLES):
        before = len(platform.screen(platform.dm))
        await platform.write(platform.dm, name)
        shown = (await platform.wait_for_messages(before + 1, platform.dm))[before:]
        found[name] = OutgoingExample(
            words=MARKDOWN_EXAMPLES.get(name) or _in_words(*TOOL_EXAMPLES[name]), shown=_cells(shown)
        )
    return found


def _reactions(platform: Simulator, id: str) -> Sequence[str]:
    return next(one.reactions for one in platform.screen(platform.dm, sender=None) if one.id == id)


def _in_words(tool: str, arguments: Mapping[str, object]) -> str:
    return " ".join([tool, *(f"{key}={value}" for key, value in arguments.items())])


def _cells(shown: Sequence[ScreenMessage]) -> Sequence[str]:
    return [line for one in shown for line in _lines(one)]


def _lines(one: ScreenMessage) -> list[str]:
    file = [f"file {one.file_name}"] if one.file_name else []
    buttons = [" ".join(f"[{label}]" for label in one.buttons)] if one.buttons else []
    edited = ["(changed)"] if one.edit_count else []
    return [*one.text.splitlines(), *file, *buttons, *edited]
