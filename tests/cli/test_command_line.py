"""The command line: arguments in, text or JSON out, exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanohost import __version__
from nanohost.cli.main import build_parser, main, print_error
from nanohost.commands.registry import commands
from nanohost.errors import NanohostError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell
from tests.cli.terminal import run_in_terminal


def leaves(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every complete command, with its parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words.strip(), parser
    for action in below:
        for word, inner in action.choices.items():
            yield from leaves(inner, f"{words} {word}")


PARSERS = dict(leaves(build_parser()))
"""Built once, because building takes longer than using one of them."""
EACH = pytest.mark.parametrize("words", PARSERS)


@EACH
def test_each_help_has_an_example_of_its_own_command(words: str) -> None:
    text = " ".join(PARSERS[words].format_help().split())
    _, _, example = text.partition("example: ")
    assert example.startswith("nanohost ")
    assert f" {words}" in example


@pytest.mark.parametrize("words", list(commands()))
def test_each_registered_command_offers_json(words: str) -> None:
    assert "--json" in PARSERS[words].format_help()


@pytest.mark.parametrize("words", list(commands()))
def test_a_boolean_option_takes_no_value(words: str) -> None:
    parser = PARSERS[words]
    for name, field in commands()[words].arguments.model_fields.items():
        if field.annotation is bool:
            [option] = [action for action in parser._actions if action.dest == name]
            assert option.nargs == 0


def test_nanohost_without_arguments_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "nanohost chat" in capsys.readouterr().out


def test_an_incomplete_command_shows_how_it_continues(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wirings"]) == 2
    assert "create" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["fly"], ["status", "--fast"], ["wirings", "create"], ["agents", "get"], ["chat", "--timeout", "soon"]]
)
def test_an_invalid_argument_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "usage: nanohost" in said
    assert "  hint: nanohost " in said


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["rolse", "list"], "there is no command 'rolse'", "nanohost roles"),
        (["roles", "lst"], "there is no command 'lst'", "nanohost roles list"),
        (["grups", "list"], "there is no command 'grups'", "nanohost agents"),
        (["roles", "gran"], "there is no command 'gran'", "nanohost roles create"),
        (["zzz"], "there is no command 'zzz'", "nanohost --help"),
        (["roles", "list", "now"], "unrecognized arguments: now", "nanohost roles list --help"),
        (["roles", "list", "--stauts", "x"], "unrecognized arguments: --stauts x", "nanohost roles list --help"),
        (["roles", "--stauts"], "unrecognized arguments: --stauts", "nanohost roles --help"),
        (["chat", "--onec", "hi"], "unrecognized arguments: --onec hi", "nanohost chat --help"),
        (["run", "now"], "unrecognized arguments: now", "nanohost run --help"),
        (["--stauts"], "unrecognized arguments: --stauts", "nanohost --help"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_nearest_one(
    words: list[str], said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert capsys.readouterr().err.splitlines()[-2:] == [f"nanohost: {said}", f"  hint: {hint}"]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"nanohost {__version__}\n"


def test_a_command_works_on_a_stopped_host_as_text_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    assert main([*home, "agents", "create", "work", "--name", "Ada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Ada"
    assert main([*home, "agents", "list"]) == 0
    assert "Ada" in capsys.readouterr().out


@EACH
def test_the_home_option_is_accepted_before_and_after_the_command(words: str) -> None:
    assert "--home" in PARSERS[words].format_help()


def test_a_home_given_after_the_command_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "create", "work", "--home", str(tmp_path)]) == 0
    assert (tmp_path / "groups" / "work" / "CLAUDE.md").exists()
    assert capsys.readouterr().err == ""


@pytest.mark.behaviour("OP-05")
def test_a_refusal_is_one_line_and_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nanohost.toml").touch()
    assert main(["--home", str(tmp_path), "agents", "get", "main"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "nanohost: there is no agent group 'main'\n  hint: nanohost agents create main\n"


def test_control_sequences_in_an_error_are_removed(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NanohostError("it was \x1b]0;mine\x07 that failed", hint="nanohost \x9b2J"))
    said = capsys.readouterr().err
    assert not [one for one in said if one in "\x1b\x07\x9b"]
    assert said.count("\n") == 2


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("advice", ["nanohost status", "did you mean max_containers?"])
def test_advice_follows_the_word_hint(advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NanohostError("it failed", hint=advice))
    assert capsys.readouterr().err == f"nanohost: it failed\n  hint: {advice}\n"


def test_without_a_hint_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(NanohostError("it failed"))
    assert capsys.readouterr().err == "nanohost: it failed\n"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("words", [["run"], ["chat", "--once", "hi"], ["status"]])
def test_an_invalid_setting_stops_every_command_that_needs_settings(shell: Shell, words: list[str]) -> None:
    shell.home.mkdir()
    (shell.home / "nanohost.toml").write_text("[host]\nmax_container = 1\n")
    typed = shell.run(*words)
    assert typed.code == 1
    assert typed.out == ""
    assert "[host] has no key max_container\n  hint: did you mean max_containers?\n" in typed.err
    assert "Traceback" not in typed.err


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("words", [["run"], ["chat", "--once", "hi"], ["status"]])
def test_misspelt_actions_and_channels_are_reported_before_a_host_starts_and_by_status(
    shell: Shell, words: list[str]
) -> None:
    assert shell.run("agents", "create", "main").code == 0
    (shell.home / "nanohost.toml").write_text(
        '[host]\nwatsh = true\n[guard]\n"tasks.creat" = "deny"\n[channels.telegrm]\ntoken = "x"\n'
    )
    typed = shell.run(*words)
    assert (typed.code, typed.out) == (1, "")
    assert "line 4: [guard] names tasks.creat, and there is no such action (did you mean tasks.create?)" in typed.err
    assert "line 5: [channels.telegrm] is of no channel that is here (did you mean telegram?)" in typed.err


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("words", [["run"], ["chat"], ["chat", "--once", "hi"], ["agents", "list"]])
def test_an_unusable_home_is_reported_without_a_traceback(shell: Shell, words: list[str]) -> None:
    shell.home.write_text("a file")
    typed = shell.run(*words)
    assert typed.code == 1
    assert "cannot be written" in typed.err
    assert "Traceback" not in typed.err


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("words", [["status"], ["verify"], ["agents", "list"], ["logs", "s1"]])
def test_a_read_only_command_without_an_install_creates_none(shell: Shell, words: list[str]) -> None:
    typed = shell.run(*words)
    assert typed.code == 1
    assert f"there is no nanohost in {shell.home}" in typed.err
    assert "nanohost chat" in typed.err
    assert not shell.home.exists()


def test_a_closed_pipe_is_not_an_error(shell: Shell) -> None:
    with shell.start("--help") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.behaviour("OP-05")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_reported_in_one_line(shell: Shell) -> None:
    assert shell.run("agents", "create", "main").code == 0
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nanohost", "--home", shell.home, "status"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=scaled_timeout(30),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "nanohost: this machine refuses: No space left on device\n  hint: df -h; ulimit -n\n"


def test_help_imports_no_platform_and_no_runtime() -> None:
    """The imports take most of a second, which nobody should wait who asks for help."""
    script = (
        "import sys; from nanohost.cli.main import build_parser; build_parser();"
        "print([name for name in ('docker', 'aiohttp', 'discord', 'telegram', 'slack_bolt') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("options", "is_json"), [(["--json"], True), (["-o", "json"], True), (["-o", "table"], False)])
def test_the_result_is_printed_in_the_requested_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], is_json: bool
) -> None:
    assert main(["--home", str(tmp_path), "agents", "create", "main", *options]) == 0
    assert capsys.readouterr().out.startswith("{") is is_json


def test_quiet_prints_errors_but_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path)]
    assert main([*home, "agents", "create", "main", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*home, "agents", "create", "main", "-q"]) == 2
    assert "already" in capsys.readouterr().err


@pytest.mark.parametrize("words", [words for words in commands() if words.endswith((" list", " get"))])
def test_a_command_that_only_prints_has_no_quiet_option(words: str) -> None:
    assert "--quiet" not in PARSERS[words].format_help()


def test_the_top_help_describes_a_noun_and_the_nouns_help_its_verbs() -> None:
    lines = build_parser().format_help().splitlines()
    [tasks] = [line for line in lines if line.split()[:1] == ["tasks"]]
    assert "what agents do at a time" in tasks
    assert "cancel" not in tasks


@pytest.mark.parametrize(("answer", "is_gone"), [("n", False), ("", False), ("y", True)])
def test_a_deletion_is_confirmed_at_a_terminal(tmp_path: Path, answer: str, is_gone: bool) -> None:
    home = ["--home", str(tmp_path)]
    assert main([*home, "agents", "create", "main"]) == 0
    command = [sys.executable, "-m", "nanohost", *home, "agents", "delete", "main"]
    with run_in_terminal(command, dict(os.environ)) as terminal:
        terminal.wait_for_text("Delete the agent group main", "[y/N]")
        terminal.send_line(answer)
        terminal.wait_for_text("deleted: main" if is_gone else "nothing was done")
    assert main([*home, "agents", "get", "main"]) == (2 if is_gone else 0)


def test_with_yes_or_without_a_terminal_no_confirmation_is_asked(shell: Shell) -> None:
    for folder, more in (("one", ["--yes"]), ("two", [])):
        assert shell.run("agents", "create", folder).code == 0
        typed = shell.run("agents", "delete", folder, *more)
        assert (typed.code, typed.err) == (0, "")
