"""Completion at Tab, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanohost.cli.command_catalogue import read_catalogue
from nanohost.cli.main import SHELLS, main
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell
from tests.cli.terminal import Terminal, run_in_terminal

START = {
    "bash": ("bash", "--noprofile", "--norc", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
SET_UP = {
    "bash": "PS1='ready> '; bind 'set enable-bracketed-paste off'; source {script}; clear",
    "zsh": "PROMPT='ready> '; autoload -Uz compinit; compinit -u -D; eval \"$(<{script})\"; clear",
    "fish": "function fish_prompt; echo 'ready> '; end; set -g fish_autosuggestion_enabled 0; source {script}; clear",
}


def installed(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


IN_EACH_SHELL = pytest.mark.parametrize("shell", [pytest.param(shell, marks=installed(shell)) for shell in SHELLS])


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each shell's script, as the program prints it."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        done = subprocess.run(
            [sys.executable, "-m", "nanohost", "completion", shell],
            stdout=subprocess.PIPE,
            check=True,
            timeout=scaled_timeout(HANG_TIMEOUT_S),
        )
        (folder / shell).write_bytes(done.stdout)
    return folder


@contextmanager
def typing_in(shell: str, scripts: Path, folder: Path) -> Iterator[Terminal]:
    """The shell at its prompt, in this folder, with the script loaded."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    with run_in_terminal(START[shell], environ, folder=folder) as terminal:
        terminal.send_line(SET_UP[shell].format(script=scripts / shell))
        terminal.wait_until(lambda text: text.startswith("ready>"))
        yield terminal


@IN_EACH_SHELL
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("nanohost rol", "nanohost roles"),
        ("nanohost chats cre", "nanohost chats create"),
        ("nanohost roles list --lim", "nanohost roles list --limit"),
        ("nanohost roles list --role ow", "nanohost roles list --role owner"),
        ("nanohost roles create telegram:7 mem", "nanohost roles create telegram:7 member"),
        ("nanohost --home . sta", "nanohost --home . status"),
        ("nanohost --home fol", "nanohost --home folder/"),
        ("nanohost run --home fol", "nanohost run --home folder/"),
        ("nanohost chat --on", "nanohost chat --once"),
        ("nanohost completion ba", "nanohost completion bash"),
    ],
)
def test_tab_completes_a_command_an_option_a_choice_and_a_folder(
    shell: str, typed: str, completed: str, scripts: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with typing_in(shell, scripts, tmp_path) as terminal:
        terminal.send_keys(f"{typed}\t")
        terminal.wait_for_text(f"ready> {completed}")


@IN_EACH_SHELL
def test_tab_twice_lists_what_can_follow(shell: str, scripts: Path, tmp_path: Path) -> None:
    with typing_in(shell, scripts, tmp_path) as terminal:
        terminal.send_keys("nanohost roles \t\t")
        terminal.wait_for_text("create", "delete", "list")


@IN_EACH_SHELL
def test_each_shell_accepts_its_completion_script(shell: str, scripts: Path) -> None:
    done = subprocess.run(
        [shell, "-n", str(scripts / shell)], capture_output=True, text=True, timeout=scaled_timeout(HANG_TIMEOUT_S)
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_names_every_command_and_every_option(shell: str, scripts: Path) -> None:
    script = (scripts / shell).read_text(encoding="utf-8")
    for entry in read_catalogue()["commands"]:
        for word in entry["words"].split():
            assert word in script
        for argument in entry["arguments"]:
            if not argument["positional"]:
                assert argument["name"].replace("_", "-") in script
            for choice in argument["choices"]:
                assert choice in script


def test_an_unknown_shell_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion", "tcsh"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(shell in said for shell in SHELLS)
    assert said.endswith("  hint: nanohost completion --help\n")


def test_completion_needs_no_install(shell: Shell) -> None:
    assert shell.run("completion", "bash").code == 0
    assert not shell.home.exists()
