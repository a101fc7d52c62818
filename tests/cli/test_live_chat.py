"""nanohost chat in a terminal, as people see it: screens of a pseudo-terminal as text."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell
from tests.cli.terminal import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    ENTER,
    LEFT,
    UP,
    Terminal,
    bracketed_paste,
    run_nanohost_in_terminal,
)

SPINNER = re.compile("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] ")
SLOW = [
    {"match": "^slow", "actions": [{"tool": "Bash", "takes_s": 600}, {"answer": "never"}]},
    {
        "match": "^gate",
        "actions": [{"tool": "Bash", "until_file": "go"}, {"answer": "**done** now"}],
    },
    {
        "match": "^question",
        "actions": [{"tool": "ask_user_question", "arguments": {"question": "Red?"}, "answer": "so: {result}"}],
    },
    {"match": "", "actions": [{"answer": "you said: {text}"}]},
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def scripted(home: Path) -> dict[str, str]:
    """An agent with slow turns."""
    folder = home / "groups" / "main"
    folder.mkdir(parents=True)
    (folder / "script.json").write_text(json.dumps(SLOW))
    return {"NANOHOST_PROVIDER": "scripted"}


def ready(chat: Terminal) -> Terminal:
    chat.wait_for_text("Talking to main", "you>")
    return chat


def after(text: str, marker: str) -> list[str]:
    """The non-empty lines below the one with the marker."""
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if marker in line), len(lines))
    return [line for line in lines[start + 1 :] if line]


@pytest.mark.behaviour("OP-20")
def test_the_screen_shows_who_speaks(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_line("are you there?")
        shown = chat.wait_for_text("You said: are you there?")
        assert after(shown, "you> are you there?")[:2] == ["main", "You said: are you there?"]
        chat.send_line("/status")
        shown = chat.wait_for_text("I am not doing anything.")
        assert after(shown, "you> /status")[0] == "nanohost"
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_during_a_turn_the_screen_shows_the_activity_and_accepts_input(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).send_line("gate")
        shown = chat.wait_until(lambda text: "Bash, " in text and "working, " in text)
        status, prompt = shown.splitlines()[-2:]
        assert re.fullmatch(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] working, \d+ s · Bash, \d+ s", status)
        assert prompt == "you>"
        chat.send_keys("typed ah")
        chat.wait_until(lambda text: text.endswith("you> typed ah"))
        (home / "groups" / "main" / "go").touch()
        chat.wait_for_text("done now")
        chat.send_keys("ead" + ENTER)
        shown = chat.wait_until(lambda text: "you said: typed ahead" in text and not SPINNER.search(text))
        assert [line for line in after(shown, "you> gate") if line][:5] == [
            "main",
            "done now",
            "you> typed ahead",
            "main",
            "you said: typed ahead",
        ]


@pytest.mark.behaviour("OP-20")
def test_lines_can_be_edited_recalled_pasted_and_span_several_rows(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_keys("helo" + LEFT + "l there" + LEFT * 6 + CTRL_C)  # drops the typed line only
        chat.wait_until(lambda text: text.endswith("you>"))
        chat.send_line("thee" + LEFT * 2 + "r")
        chat.wait_for_text("You said: three")
        chat.send_keys(bracketed_paste("one\ntwo") + ENTER)
        chat.wait_until(lambda text: after(text, "You said: one")[:1] == ["two"])
        chat.send_keys("first" + ALT_ENTER + "second\\" + ENTER + "third" + ENTER)
        chat.wait_until(lambda text: after(text, "You said: first")[:2] == ["second", "third"])
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_keys(UP * 6)  # through the rows of a multi-line entry
        chat.wait_until(lambda text: text.endswith("you> three"))
        chat.send_keys(CTRL_C + CTRL_C)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
@pytest.mark.parametrize("leaves", [CTRL_C, "/quit" + ENTER, CTRL_D])
def test_leaving_during_a_turn_explains_that_the_work_is_kept(home: Path, leaves: str) -> None:
    with run_nanohost_in_terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).send_line("slow")
        chat.wait_until(lambda text: "Bash, " in text)
        if leaves == CTRL_C:
            chat.send_keys(CTRL_C)
            chat.wait_until(lambda text: "/stop ends it. Ctrl-C once more leaves." in " ".join(text.split()))
        chat.send_keys(leaves)
        assert chat.ends() == 0
        assert "is kept: the next chat goes on with it." in chat.text()
        assert "Traceback" not in chat.text()


@pytest.mark.behaviour("OP-20")
def test_a_ctrl_d_typed_before_the_prompt_ends_the_chat(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_work_continues_after_a_chat_with_a_running_host_ends(shell: Shell) -> None:
    environ = scripted(shell.home)
    with (
        shell.start("run", NANOHOST_LOG="json", **environ) as run,
        run_nanohost_in_terminal(shell.home, "chat") as chat,
    ):
        ready(chat).send_line("gate")
        chat.wait_until(lambda text: "working, " in text)
        chat.send_keys(CTRL_C)
        chat.wait_for_text("The work goes on without you")
        chat.send_keys(CTRL_C)
        assert chat.ends() == 0
        (shell.home / "groups" / "main" / "go").touch()
        with run_nanohost_in_terminal(shell.home, "chat") as again:
            ready(again).wait_for_text("done now")
            again.send_keys(CTRL_D)
            assert again.ends() == 0
        run.terminate()
        run.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    shell.run("chat", "--once", "bye", **environ)  # it adopts and ends the container that is left


@pytest.mark.behaviour("OP-20")
def test_the_screen_shows_that_an_agent_waits_for_an_answer(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).send_line("question")
        chat.wait_until(lambda text: "Red?" in text and "waiting for your answer, " in text)
        chat.send_line("yes")
        chat.wait_for_text("so: ")
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_no_color_disables_colours(home: Path) -> None:
    coloured = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
    seen = []
    for environ in ({}, {"NO_COLOR": "1"}):
        with run_nanohost_in_terminal(home, "chat", **environ) as chat:
            ready(chat).send_line("try `this`")
            chat.wait_for_text("You said: try")
            chat.send_keys(CTRL_D)
            chat.ends()
            seen.append(bool(coloured.search(chat.raw)))
    assert seen == [True, False]


@pytest.mark.behaviour("OP-20")
def test_a_dumb_terminal_gets_plain_lines(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat", term="dumb") as chat:
        chat.wait_for_text("Talking to main", ">")
        chat.send_line("**bold**")
        shown = chat.wait_for_text("main: You said: **bold**")
        assert b"\x1b" not in chat.raw
        assert not SPINNER.search(shown)
        chat.send_line("/quit")
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_help_explains_how_to_leave_and_lists_all_commands_of_an_owner(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_line("/help")
        shown = chat.wait_for_text("/stop: ", "/pause: ", "/compact: ", "/quit: ")
        assert "Alt-Enter" in shown
        assert shown.index("/compact: ") < shown.index("/quit: ")
        chat.send_line("/quit")
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_a_mistyped_command_is_queried_and_a_path_goes_to_the_agent(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_line("/stauts")
        chat.wait_for_text("There is no command /stauts. Did you mean /status?")
        assert "You said: /stauts" not in chat.text()
        chat.send_line("/stauts")
        chat.wait_for_text("You said: /stauts")
        chat.send_line("/etc/hosts is what?")
        chat.wait_for_text("You said: /etc/hosts is what?")
        chat.send_line("/qiut")
        chat.wait_for_text("Did you mean /quit?")
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_chat_in_order_also_while_idle(home: Path, by: signal.Signals) -> None:
    with run_nanohost_in_terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).send_line("hello")
        chat.wait_for_text("you said: hello")
        chat.send_line("slow")
        chat.wait_until(lambda text: "working, " in text)
        chat.process.send_signal(by)
        assert chat.ends() == 0
        assert "is kept: the next chat goes on with it." in chat.text()
        assert "host_stopping" in (home / "run" / "chat.log").read_text()


@pytest.mark.behaviour("OP-20")
def test_the_screen_is_redrawn_for_another_width(home: Path) -> None:
    with run_nanohost_in_terminal(home, "chat") as chat:
        ready(chat).send_line("word " * 12)
        assert max(map(len, chat.wait_for_text("You said: word").splitlines()[-5:])) > 40
        chat.resize(40)
        chat.send_line("word " * 12)
        chat.wait_until(lambda text: text.count("You said: word") == 2)
        assert max(map(len, chat.lines()[-3:])) <= 40
        chat.send_keys(CTRL_D)
        assert chat.ends() == 0
