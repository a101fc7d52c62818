"""The time zone: asked for once, of a person at a terminal, where the machine's clock is in UTC."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

import pytest

from nanohost.cli.time_zone_prompt import (
    QUESTION,
    ask_time_zone,
    is_time_zone_unset,
    match_time_zone,
    save_time_zone,
    suggest_time_zones,
)
from nanohost.config.settings import load_settings
from nanohost.config.time_settings import TimeSettings
from nanohost.errors import UsageError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell

IN_UTC = {"TZ": "UTC"}


@dataclass
class Person:
    """Types prepared answers and collects the output."""

    answers: list[str | None]
    read: str = ""

    def say(self, text: str) -> None:
        self.read += f"{text}\n"

    def types(self, prompt: str) -> str | None:
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("berlin\n", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("asia/tokyo", "Asia/Tokyo"),
        ("\n", "UTC"),
        ("utc", "UTC"),
    ],
)
def test_a_time_zone_is_found_by_its_name_or_city_and_empty_input_keeps_utc(typed: str, zone: str) -> None:
    person = Person([typed])
    assert ask_time_zone(person.types, person.say) == zone
    assert person.read == f"{QUESTION}\n"


def test_an_invalid_time_zone_is_asked_for_again_with_the_nearest_match_a_limited_number_of_times() -> None:
    person = Person(["Berlinn", "hello there", "Mars"])
    assert ask_time_zone(person.types, person.say) is None
    assert "There is no time zone 'Berlinn'; did you mean Europe/Berlin?" in person.read
    assert "There is no time zone 'hello there'\n" in person.read
    assert ask_time_zone(Person([None]).types, person.say) is None


def test_every_time_zone_name_is_found() -> None:
    known = available_timezones()
    assert [name for name in known if match_time_zone(name, known) != name] == []
    assert suggest_time_zones("", known) == []


@pytest.mark.parametrize(
    ("toml", "environ", "is_to_be_asked"),
    [
        (None, IN_UTC, True),
        ('[host]\nruntime = "process"\n', IN_UTC, True),
        ('[host]\ntimezone = "UTC"\n', IN_UTC, False),
        (None, {"TZ": "Europe/Berlin"}, False),
        (None, {**IN_UTC, "NANOHOST_TIMEZONE": "UTC"}, False),
        ("[host\n", IN_UTC, False),
    ],
)
def test_the_time_zone_is_asked_for_where_it_is_not_set(
    tmp_path: Path, toml: str | None, environ: Mapping[str, str], is_to_be_asked: bool
) -> None:
    if toml is not None:
        (tmp_path / "nanohost.toml").write_text(toml)
    assert is_time_zone_unset(tmp_path, environ) is is_to_be_asked


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[host]\ntimezone = "Asia/Tokyo"\n'),
        ("[agent]\n# mine\ntools = 'none'\n", "[agent]\n# mine\ntools = 'none'\n\n[host]\ntimezone = \"Asia/Tokyo\"\n"),
        (
            '[host]  # here\nruntime = "process"\n[agent]\n',
            '[host]  # here\nruntime = "process"\ntimezone = "Asia/Tokyo"\n[agent]\n',
        ),
    ],
)
def test_the_chosen_time_zone_is_added_and_the_rest_of_the_file_stays(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "nanohost.toml").write_text(before)
    path = save_time_zone(tmp_path, "Asia/Tokyo")
    assert path.read_text() == after
    assert load_settings(tmp_path, IN_UTC).section(TimeSettings).timezone == "Asia/Tokyo"
    assert not is_time_zone_unset(tmp_path, IN_UTC)


@pytest.mark.parametrize("text", ['host = { runtime = "process" }\n', 'host.runtime = "process"\n'])
def test_a_settings_file_in_an_unusual_form_is_not_changed(tmp_path: Path, text: str) -> None:
    (tmp_path / "nanohost.toml").write_text(text)
    with pytest.raises(UsageError, match="no command can change safely"):
        save_time_zone(tmp_path, "Asia/Tokyo")
    assert (tmp_path / "nanohost.toml").read_text() == text


@contextmanager
def in_a_terminal(home: Path, *words: str) -> Iterator[tuple[int, int]]:
    """`nanohost` with these arguments in a terminal: its process and the other end of the terminal."""
    environ = {
        "PATH": os.environ["PATH"],
        "NANOHOST_HOME": str(home),
        "NANOHOST_RUNTIME": "process",
        "NANOHOST_PROVIDER": "demo",
        "NANOHOST_DURABLE": "false",
        **IN_UTC,
    }
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "nanohost", *words], environ)
    try:
        yield pid, terminal
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        os.close(terminal)


def until(terminal: int, words: str) -> str:
    """Read the output up to and including this text. Raises OSError when the terminal closes."""
    shown = b""
    while words.encode() not in shown:
        assert select.select([terminal], [], [], scaled_timeout(HANG_TIMEOUT_S))[0], shown
        shown += os.read(terminal, 1000)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("words", "ready"), [(("run",), "host_ready"), (("chat",), "Ctrl-D")])
def test_a_host_started_at_a_terminal_asks_for_the_time_zone_once(
    shell: Shell, words: tuple[str, ...], ready: str
) -> None:
    with in_a_terminal(shell.home, *words) as (_, terminal):
        shown = until(terminal, "time zone [UTC]: ")
        assert shown == f"{QUESTION}\ntime zone [UTC]: "
        os.write(terminal, b"Berlinn\n")
        until(terminal, "time zone [UTC]: ")
        os.write(terminal, b"berlin\n")
        assert "Europe/Berlin is in" in until(terminal, ready)
    assert tomllib.loads((shell.home / "nanohost.toml").read_text()) == {"host": {"timezone": "Europe/Berlin"}}
    with in_a_terminal(shell.home, *words) as (_, terminal):
        assert "time zone [UTC]" not in until(terminal, ready)


def test_a_start_without_a_terminal_asks_for_no_time_zone(shell: Shell) -> None:
    typed = shell.run("chat", stdin="hello\n", **IN_UTC)
    assert "Which time zone" not in typed.out + typed.err
    assert "Hello!" in typed.out
    assert not (shell.home / "nanohost.toml").exists()
