"""The registry: every command is complete, and explains invalid arguments."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from nanohost.cli.main import build_parser
from nanohost.commands.command import Command
from nanohost.commands.registry import commands
from nanohost.commands.tables import replace_control_chars
from nanohost.errors import UsageError
from tests.commands.conftest import Operator

PARSER = build_parser()
EACH = pytest.mark.parametrize("command", commands().values(), ids=list(commands()))


@EACH
def test_a_command_has_words_help_and_described_arguments(command: Command) -> None:
    assert re.fullmatch(r"[a-z-]+( [a-z-]+)?", command.words)
    assert command.help[0].islower()
    assert not command.help.endswith(".")
    assert all(field.description for field in command.arguments.model_fields.values())
    assert set(command.positional) <= set(command.arguments.model_fields)


@EACH
def test_the_example_of_a_command_can_be_typed(command: Command) -> None:
    program, *words = shlex.split(command.example)
    options = PARSER.parse_args(words)
    given = {name: getattr(options, name) for name in command.arguments.model_fields if hasattr(options, name)}
    command.arguments.model_validate(given)
    assert program == "nanohost"
    assert " ".join(words).startswith(command.words)


@pytest.mark.parametrize("words", [words for words in commands() if words.endswith((" list", "status"))])
async def test_every_report_of_an_empty_install_is_json_and_text(words: str, operator: Operator) -> None:
    result = await operator.run(words)
    assert json.loads(json.dumps(result)) == result
    assert await operator.render(words)


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("words", "arguments", "named"),
    [
        ("wirings create", {"channel": "t", "chat": "1"}, "group"),
        ("wirings create", {"channel": "t", "chat": "1", "group": "main", "session": "alone"}, "session"),
        ("wirings create", {"channel": "t", "chat": "1", "group": "main", "colour": "red"}, "colour"),
        ("wirings delete", {"id": "three"}, "id"),
        ("roles create", {"user": "t:1", "role": "king"}, "role"),
    ],
)
async def test_invalid_arguments_are_refused_by_their_name(
    operator: Operator, words: str, arguments: dict[str, object], named: str
) -> None:
    with pytest.raises(UsageError, match=f"{words}: {named}: ") as caught:
        await operator.run(words, **arguments)
    assert caught.value.hint == f"nanohost {words} --help"


@pytest.mark.behaviour("OP-05")
async def test_an_unknown_command_is_refused(operator: Operator) -> None:
    with pytest.raises(UsageError, match="there is no command 'fly'") as caught:
        await operator.run("fly")
    assert caught.value.hint == "nanohost --help"


def test_control_and_bidirectional_characters_are_replaced() -> None:
    for odd in ("\x1b[2J", "\x9b", "\r", "\x00", "\u202e", "\u2066", "\u200f", "\u061c"):
        assert "\N{REPLACEMENT CHARACTER}" in replace_control_chars(f"Ann{odd}owner")
        assert odd not in replace_control_chars(f"Ann{odd}owner")
    assert replace_control_chars("שלום\tAnn\n") == "שלום\tAnn\n"
