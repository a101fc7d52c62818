"""nanohost: the command line. Registry commands become subcommands by themselves; `run`, `chat` and `completion` are
here.

Exit codes: 0 done · 1 it failed, or the result reports a failure · 2 wrong usage · 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

from nanohost import __version__
from nanohost.cli.command_parser import add_home_option, add_registry_commands
from nanohost.cli.wrapping import print_wrapped
from nanohost.commands.old_words import as_typed_now, old_words_after
from nanohost.config.install_root import find_root
from nanohost.errors import NanohostError, UsageError
from nanohost.text.terminal_safe import replace_control_chars

TYPE_CHECKING = False
if TYPE_CHECKING:  # each short command waits for what is imported here: a test counts it
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, NoReturn

    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]
    Action = Callable[[argparse.Namespace, str], int]

EXIT_INTERRUPTED = 130
DEFAULT_COLUMNS = 80
REPLY_TIMEOUT_S = 120.0
SHELLS = ("bash", "zsh", "fish")
"""The shells of shtab whose completion is tested."""
SYSTEM_LIMIT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
"""Errors of the machine, not of nanohost: one line is printed instead of a traceback."""


class HelpFormatter(argparse.HelpFormatter):
    """Formats help as wide as the terminal, without shutil, which imports three compression modules."""

    def __init__(self, prog: str, **arguments: Any) -> None:
        super().__init__(prog, width=_terminal_columns() - 2, **arguments)


def _terminal_columns() -> int:
    """Returns the terminal's width, as shutil.get_terminal_size does."""
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", "0"))) > 0:
            return columns
    with suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or DEFAULT_COLUMNS  # type: ignore[union-attr]
    return DEFAULT_COLUMNS


class Parser(argparse.ArgumentParser):
    """Reports usage errors in the format of all other errors, with what to type next."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **arguments})

    def error(self, message: str) -> NoReturn:
        self.exit_with_usage_error(message, hint=f"{self.prog} --help")

    def exit_with_usage_error(self, message: str, *, hint: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print_error(UsageError(message, hint=hint))
        self.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Reports a misspelt command with the nearest one, instead of a list of all."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            import difflib

            program, _, nouns = self.prog.partition(" ")
            known = {word: f"{nouns} {word}".lstrip() for word in action.choices} | old_words_after(nouns)
            near = difflib.get_close_matches(value, known, 1)
            hint = f"{program} {known[near[0]]}" if near else f"{self.prog} --help"
            self.exit_with_usage_error(f"there is no command {value[:80]!r}", hint=hint)
        super()._check_value(action, value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code. argparse raises SystemExit for help and wrong usage."""
    _tolerate_encoding_errors()
    try:
        try:
            return _dispatch(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has closed it
        _discard_stdout()
        return 0
    except OSError as error:
        if error.errno not in SYSTEM_LIMIT_ERRNOS:
            raise
        _discard_stdout()
        place = f" ({error.filename})" if error.filename else ""
        print_error(NanohostError(f"this machine refuses: {error.strerror}{place}", hint="df -h; ulimit -n"))
        return 1


def _discard_stdout() -> None:
    """Redirects stdout, so that Python reports no error when it flushes at exit."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: Sequence[str] | None) -> int:
    typed, hints = as_typed_now(sys.argv[1:] if arguments is None else arguments)
    for hint in hints:
        print_wrapped(f"hint: {replace_control_chars(hint)}", sys.stderr)
    parser = build_parser(typed)
    options, unknown = parser.parse_known_args(typed)
    if unknown:  # the parser of the typed command reports it
        options.help_of.error(f"unrecognized arguments: {' '.join(unknown)}")
    action: Action | None = getattr(options, "action", None)
    if action is None:
        options.help_of.print_help()
        return 0 if options.help_of is parser else 2
    try:
        return action(options, find_root(options.home, os.environ))
    except NanohostError as error:
        print_error(error)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _tolerate_encoding_errors() -> None:
    """Makes the standard streams replace characters that this locale cannot decode or encode."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_error(error: NanohostError) -> None:
    """Prints one line with the error, and one with what to do or to type next."""
    print_wrapped(f"nanohost: {replace_control_chars(str(error))}", sys.stderr)
    if error.hint:
        print_wrapped(f"  {replace_control_chars(error.advice)}", sys.stderr)


def build_parser(arguments: Collection[str] | None = None) -> argparse.ArgumentParser:
    """Builds the parser of the command line; with `arguments`, only the parts that they need."""
    parser: argparse.ArgumentParser = Parser(
        prog="nanohost",
        description="A host for personal AI assistants.",
        epilog="Begin with: nanohost chat",
    )
    parser.add_argument("--home", metavar="DIR", help="the install root (or NANOHOST_HOME)")
    parser.add_argument("--version", action="version", version=f"nanohost {__version__}")
    parser.set_defaults(help_of=parser)
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_home_option(_add_run(subcommands))
    add_home_option(_add_chat(subcommands))
    add_home_option(_add_completion(subcommands))
    add_registry_commands(subcommands, arguments)
    return parser


def _add_run(subcommands: Subcommands) -> argparse.ArgumentParser:
    run = subcommands.add_parser(
        "run",
        help="run the host until it is stopped",
        description="Runs the host until it is stopped. NANOHOST_LOG says how its log is: plain, json, quiet, debug.",
        epilog="example: nanohost --home /srv/nanohost run",
    )
    how_much = run.add_mutually_exclusive_group()
    how_much.add_argument("-q", "--quiet", action="store_const", const="quiet", dest="level", help="log errors only")
    how_much.add_argument("-v", "--verbose", action="store_const", const="debug", dest="level", help="log debug lines")
    run.set_defaults(action=_run_host, help_of=run, level="")
    return run


def _add_chat(subcommands: Subcommands) -> argparse.ArgumentParser:
    chat = subcommands.add_parser(
        "chat",
        help="talk to your assistant in this terminal",
        description="Talks to the running host; starts one in this process if there is none.",
        epilog='example: nanohost chat --once "What is on my list?"',
    )
    chat.add_argument("--once", metavar="TEXT", help="say this, print the reply alone, and leave; - reads stdin")
    chat.add_argument(
        "--timeout",
        type=_parse_timeout,
        default=REPLY_TIMEOUT_S,
        metavar="S",
        help="seconds to wait for the reply (%(default)g)",
    )
    chat.set_defaults(action=_run_chat, help_of=chat)
    return chat


def _add_completion(subcommands: Subcommands) -> argparse.ArgumentParser:
    completion = subcommands.add_parser(
        "completion",
        help="print what makes a shell complete these commands at Tab",
        description="Prints a script for your shell, which then completes commands, options and choices at Tab.",
        epilog="example: nanohost completion bash > ~/.local/share/bash-completion/completions/nanohost",
    )
    completion.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")
    completion.set_defaults(action=_print_completion, help_of=completion)
    return completion


def _parse_timeout(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _print_completion(options: argparse.Namespace, root: str) -> int:
    from nanohost.cli.completion import completion_script

    print(completion_script(build_parser(), options.shell))
    return 0


def _run_host(options: argparse.Namespace, root: str) -> int:
    from nanohost.config.home import announce_daemon, make_home

    home = make_home(root)
    with announce_daemon(home):  # before slow imports, so that a chat waits instead of taking the home's lock
        from nanohost.cli import time_zone_prompt
        from nanohost.cli.run import run

        time_zone_prompt.ensure_time_zone(home)
        return run(home, level=options.level)


def _run_chat(options: argparse.Namespace, root: str) -> int:
    from nanohost.chat_commands.registry import extension_names
    from nanohost.cli.chat import chat, chat_once
    from nanohost.cli.chat_input import suggest_command
    from nanohost.config.home import make_home

    home = make_home(root)
    if options.once is None:
        from nanohost.cli import time_zone_prompt

        time_zone_prompt.ensure_time_zone(home)
        return chat(home)
    text = sys.stdin.read() if options.once == "-" else options.once
    if not text.strip():
        raise UsageError("there is nothing to say", hint='nanohost chat --once "hello"')
    if (meant := suggest_command(text, extension_names(home.chat_commands))) is not None:
        raise UsageError(f"there is no command {text.split()[0]}", hint=f'nanohost chat --once "/{meant}"')
    return chat_once(home, text, timeout_s=options.timeout)


if __name__ == "__main__":
    sys.exit(main())
