"""nanohost chat in a terminal, as people see it: screens of a pseudo-terminal as text."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from nanohost.testing.limits import HANG_S, seconds
from tests.cli.conftest import Shell
from tests.cli.terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, LEFT, UP, Terminal, pasted, terminal

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
    """An agent that takes its time."""
    folder = home / "groups" / "main"
    folder.mkdir(parents=True)
    (folder / "script.json").write_text(json.dumps(SLOW))
    return {"NANOHOST_PROVIDER": "scripted"}


def ready(chat: Terminal) -> Terminal:
    chat.shows("Talking to main", "you>")
    return chat


def after(text: str, marker: str) -> list[str]:
    """The lines below the one with the marker that are not empty."""
    lines = text.splitlines()
    start = next((place for place, line in enumerate(lines) if marker in line), len(lines))
    return [line for line in lines[start + 1 :] if line]


@pytest.mark.behaviour("OP-20")
def test_it_is_seen_who_speaks(home: Path) -> None:
    with terminal(home, "chat") as chat:
        ready(chat).says("are you there?")
        shown = chat.shows("You said: are you there?")
        assert after(shown, "you> are you there?")[:2] == ["main", "You said: are you there?"]
        chat.says("/status")
        shown = chat.shows("I am not doing anything.")
        assert after(shown, "you> /status")[0] == "nanohost"
        chat.types(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_while_a_turn_runs_the_screen_shows_what_is_being_done_and_typing_ahead_works(home: Path) -> None:
    with terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).says("gate")
        shown = chat.until(lambda text: "Bash, " in text and "working, " in text)
        status, prompt = shown.splitlines()[-2:]
        assert re.fullmatch(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] working, \d+ s · Bash, \d+ s", status)
        assert prompt == "you>"
        chat.types("typed ah")
        chat.until(lambda text: text.endswith("you> typed ah"))
        (home / "groups" / "main" / "go").touch()
        chat.shows("done now")
        chat.types("ead" + ENTER)
        shown = chat.until(lambda text: "you said: typed ahead" in text and not SPINNER.search(text))
        assert [line for line in after(shown, "you> gate") if line][:5] == [
            "main",
            "done now",
            "you> typed ahead",
            "main",
            "you said: typed ahead",
        ]


@pytest.mark.behaviour("OP-20")
def test_lines_are_edited_remembered_pasted_and_may_be_several(home: Path) -> None:
    with terminal(home, "chat") as chat:
        ready(chat).types("helo" + LEFT + "l there" + LEFT * 6 + CTRL_C)  # what is typed is dropped, and no more
        chat.until(lambda text: text.endswith("you>"))
        chat.says("thee" + LEFT * 2 + "r")
        chat.shows("You said: three")
        chat.types(pasted("one\ntwo") + ENTER)
        chat.until(lambda text: after(text, "You said: one")[:1] == ["two"])
        chat.types("first" + ALT_ENTER + "second\\" + ENTER + "third" + ENTER)
        chat.until(lambda text: after(text, "You said: first")[:2] == ["second", "third"])
        chat.types(CTRL_D)
        assert chat.ends() == 0
    with terminal(home, "chat") as chat:
        ready(chat).types(UP * 6)  # through the lines of what has several
        chat.until(lambda text: text.endswith("you> three"))
        chat.types(CTRL_C + CTRL_C)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
@pytest.mark.parametrize("leaves", [CTRL_C, "/quit" + ENTER, CTRL_D])
def test_who_leaves_in_a_turn_is_told_what_becomes_of_the_work(home: Path, leaves: str) -> None:
    with terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).says("slow")
        chat.until(lambda text: "Bash, " in text)
        if leaves == CTRL_C:
            chat.types(CTRL_C)
            chat.until(lambda text: "/stop ends it. Ctrl-C once more leaves." in " ".join(text.split()))
        chat.types(leaves)
        assert chat.ends() == 0
        assert "is kept: the next chat goes on with it." in chat.text()
        assert "Traceback" not in chat.text()


@pytest.mark.behaviour("OP-20")
def test_a_ctrl_d_that_is_typed_before_the_prompt_is_there_ends_the_chat(home: Path) -> None:
    with terminal(home, "chat") as chat:
        chat.types(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_beside_a_host_that_runs_the_work_goes_on(shell: Shell) -> None:
    environ = scripted(shell.home)
    with shell.start("run", NANOHOST_LOG="json", **environ) as run, terminal(shell.home, "chat") as chat:
        ready(chat).says("gate")
        chat.until(lambda text: "working, " in text)
        chat.types(CTRL_C)
        chat.shows("The work goes on without you")
        chat.types(CTRL_C)
        assert chat.ends() == 0
        (shell.home / "groups" / "main" / "go").touch()
        with terminal(shell.home, "chat") as again:
            ready(again).shows("done now")
            again.types(CTRL_D)
            assert again.ends() == 0
        run.terminate()
        run.communicate(timeout=seconds(HANG_S))
    shell.types("chat", "--once", "bye", **environ)  # it adopts and ends the container that is left


@pytest.mark.behaviour("OP-20")
def test_it_is_seen_that_an_agent_waits_for_an_answer(home: Path) -> None:
    with terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).says("question")
        chat.until(lambda text: "Red?" in text and "waiting for your answer, " in text)
        chat.says("yes")
        chat.shows("so: ")
        chat.types(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_no_color_means_no_colour(home: Path) -> None:
    coloured = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
    seen = []
    for environ in ({}, {"NO_COLOR": "1"}):
        with terminal(home, "chat", **environ) as chat:
            ready(chat).says("try `this`")
            chat.shows("You said: try")
            chat.types(CTRL_D)
            chat.ends()
            seen.append(bool(coloured.search(chat.raw)))
    assert seen == [True, False]


@pytest.mark.behaviour("OP-20")
def test_a_dumb_terminal_gets_plain_lines(home: Path) -> None:
    with terminal(home, "chat", term="dumb") as chat:
        chat.shows("Talking to main", ">")
        chat.says("**bold**")
        shown = chat.shows("main: You said: **bold**")
        assert b"\x1b" not in chat.raw
        assert not SPINNER.search(shown)
        chat.says("/quit")
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_help_tells_of_leaving_and_of_all_that_an_owner_may_use(home: Path) -> None:
    with terminal(home, "chat") as chat:
        ready(chat).says("/help")
        shown = chat.shows("/stop: ", "/pause: ", "/compact: ", "/quit: ")
        assert "Alt-Enter" in shown
        assert shown.index("/compact: ") < shown.index("/quit: ")
        chat.says("/quit")
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
def test_a_mistyped_command_is_asked_about_and_a_path_goes_to_the_agent(home: Path) -> None:
    with terminal(home, "chat") as chat:
        ready(chat).says("/stauts")
        chat.shows("There is no command /stauts. Did you mean /status?")
        assert "You said: /stauts" not in chat.text()
        chat.says("/stauts")
        chat.shows("You said: /stauts")
        chat.says("/etc/hosts is what?")
        chat.shows("You said: /etc/hosts is what?")
        chat.says("/qiut")
        chat.shows("Did you mean /quit?")
        chat.types(CTRL_D)
        assert chat.ends() == 0


@pytest.mark.behaviour("OP-20")
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_in_order_also_between_two_lines(home: Path, by: signal.Signals) -> None:
    with terminal(home, "chat", **scripted(home)) as chat:
        ready(chat).says("hello")
        chat.shows("you said: hello")
        chat.says("slow")
        chat.until(lambda text: "working, " in text)
        chat.process.send_signal(by)
        assert chat.ends() == 0
        assert "is kept: the next chat goes on with it." in chat.text()
        assert "host_stopping" in (home / "run" / "chat.log").read_text()


@pytest.mark.behaviour("OP-20")
def test_it_is_drawn_anew_for_another_width(home: Path) -> None:
    with terminal(home, "chat") as chat:
        ready(chat).says("word " * 12)
        assert max(map(len, chat.shows("You said: word").splitlines()[-5:])) > 40
        chat.resized(40)
        chat.says("word " * 12)
        chat.until(lambda text: text.count("You said: word") == 2)
        assert max(map(len, chat.lines()[-3:])) <= 40
        chat.types(CTRL_D)
        assert chat.ends() == 0
