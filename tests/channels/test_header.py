"""Headers of extension files: what is accepted, and how each mistake is reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nanohost.channels.header import ChannelHeader, ChannelSetting, parse_header, read_header
from nanohost.errors import ChannelLoadError

FILE = Path("channels/example.py")


def header(*lines: str) -> str:
    return "\n".join(["# /// script", *(f"# {line}" if line else "#" for line in lines), "# ///", "import anything"])


OURS = ("[tool.nanohost]", 'kind = "channel"', 'name = "example"', "api = 1")


def test_a_header_declares_name_api_and_dependencies() -> None:
    source = header('dependencies = ["httpx>=0.28", "rich"]', 'requires-python = ">=3.11"', "", *OURS)
    assert parse_header(source, FILE) == ChannelHeader(name="example", api=1, dependencies=("httpx>=0.28", "rich"))


def test_a_header_declares_the_settings_of_the_channel() -> None:
    tables = ("[[tool.nanohost.settings]]", 'name = "token"', 'help = "the bot\'s token"', "secret = true")
    more = ("[[tool.nanohost.settings]]", 'name = "base_url"', 'help = "where"', 'default = "https://x"')
    assert parse_header(header(*OURS, *tables, *more), FILE).settings == (
        ChannelSetting(name="token", help="the bot's token", secret=True),
        ChannelSetting(name="base_url", help="where", default="https://x"),
    )


def test_a_header_needs_no_dependencies_and_may_be_anywhere_in_the_file() -> None:
    assert parse_header('#!/usr/bin/env python\n"""Words."""\n\n' + header(*OURS), FILE).dependencies == ()


def test_tables_of_other_tools_are_ignored() -> None:
    assert parse_header(header(*OURS, "[tool.uv]", 'index = "x"'), FILE).name == "example"


def test_windows_line_endings_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_bytes(b"\xef\xbb\xbf" + header(*OURS).replace("\n", "\r\n").encode())
    assert read_header(path).name == "example"


def test_the_header_ends_at_the_last_closing_line_of_its_comments() -> None:
    source = header('dependencies = ["""', "///", '"""]', *OURS)
    assert parse_header(source, FILE).dependencies == ("///\n",)


@pytest.mark.parametrize(
    ("source", "sentence", "hint"),
    [
        ("import os\n", "has no channel header", "start the file with"),
        ("# /// script\n# api = 1\nimport os\n", "starts in line 1 is never closed", "end it with"),
        (header(*OURS) + "\n\n" + header(*OURS), "second header in line 9", "keep one"),
        ("\n\n" + header(*OURS, "api ="), r"lines 3 to 9 is not TOML: .*line 8", "looks like this"),
        (header(*OURS, "api = 2"), r"is not TOML: .*overwrite", "looks like this"),
        (header("dependencies = []"), "tool in the header", "write a table"),
        (header("[tool.other]"), "tool.nanohost in the header", "write a table"),
        (header("dependencies = 'httpx'", *OURS), "dependencies in the header", "write a list"),
        (header("dependencies = [1]", *OURS), "dependencies in the header", "write a list"),
        (header("requires = 1", *OURS), "requires in the header", "remove it"),
        (header(*OURS, "colour = 1"), "tool.nanohost.colour in the header", "remove it"),
        (header(OURS[0], 'kind = "skill"', *OURS[2:]), "tool.nanohost.kind", 'write kind = "channel"'),
        (header(*OURS[:2], 'name = "My Channel"', OURS[3]), "tool.nanohost.name", "write name"),
        (header(*OURS[:2], 'name = "x\\n"', OURS[3]), "tool.nanohost.name", "write name"),
        (header(*OURS[:2], 'name = "../x"', OURS[3]), "tool.nanohost.name", "write name"),
        (header(*OURS[:3], 'api = "1"'), "tool.nanohost.api", "write the number"),
        (header(*OURS[:3], "api = true"), "tool.nanohost.api", "write the number"),
        (header(*OURS[:3]), "tool.nanohost.api", "write the number"),
    ],
)
def test_a_mistake_is_reported_with_the_file_the_line_and_a_remedy(source: str, sentence: str, hint: str) -> None:
    with pytest.raises(ChannelLoadError) as raised:
        parse_header(source, FILE)
    assert str(raised.value).startswith(str(FILE))
    assert re.search(sentence, str(raised.value))
    assert hint in raised.value.hint


def test_an_unreadable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# Grüße\n".encode("latin-1"))
    with pytest.raises(ChannelLoadError, match="is not UTF-8"):
        read_header(tmp_path / "latin.py")
    with pytest.raises(ChannelLoadError, match="cannot be read: No such file"):
        read_header(tmp_path / "missing.py")
