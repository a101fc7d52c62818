"""Parses the registry's commands with the catalogue, and sends them to a running host without loading their code.

A running host answers with the text to print. The code of a command is loaded (nanohost.cli.run_command) only if no
host runs, or if the command or its rendering belongs to the client's process.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection

from nanohost.cli.command_catalogue import group_by_noun, read_catalogue
from nanohost.cli.wrapping import print_wrapped
from nanohost.config.install_root import CONTROL_SOCKET
from nanohost.errors import UsageError
from nanohost.text.terminal_safe import replace_control_chars

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is a fifth of the start
    from nanohost.cli.command_catalogue import Argument, Entry

    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

FORMS = ("json", "table")
PRINTING = frozenset({"list", "get", "logs", "cost", "pair"})
"""Verbs and one-word commands whose only purpose is their output, so that they have no --quiet."""
_PLACEHOLDER_PARSER = argparse.ArgumentParser(add_help=False)


def add_registry_commands(subcommands: Subcommands, arguments: Collection[str] | None) -> None:
    """Adds every command of the registry; `wirings create` becomes `create` below `wirings`.

    For commands that are not in `arguments`, adds only the name and the help. None: adds all of them completely.
    """
    catalogue = read_catalogue()
    for noun, entries in group_by_noun(catalogue["commands"]).items():
        is_command = entries[0]["words"] == noun
        meaning = entries[0]["help"] if is_command else catalogue["nouns"][noun]
        if arguments is not None and noun not in arguments:
            _add_name_only(subcommands, noun, _first_clause(meaning))
        elif is_command:
            _add_command(subcommands, noun, entries[0])
        else:
            parent = subcommands.add_parser(noun, help=_first_clause(meaning), description=as_sentence(meaning))
            parent.set_defaults(help_of=parent)
            _add_verbs(parent.add_subparsers(title="commands", metavar="COMMAND"), entries, arguments)


def _add_verbs(subcommands: Subcommands, entries: list[Entry], arguments: Collection[str] | None) -> None:
    for entry in entries:
        if arguments is not None and _verb_of(entry) not in arguments:
            _add_name_only(subcommands, _verb_of(entry), entry["help"])
        else:
            _add_command(subcommands, _verb_of(entry), entry)


def _add_name_only(subcommands: Subcommands, word: str, help: str) -> None:
    """Adds a word only to the list in the help: a parser for each would take a third of the start time."""
    subcommands._choices_actions.append(subcommands._ChoicesPseudoAction(word, (), help))
    subcommands._name_parser_map[word] = _PLACEHOLDER_PARSER


def add_home_option(parser: argparse.ArgumentParser) -> None:
    """Adds --home, which can be typed before and after the command."""
    parser.add_argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the install root (or NANOHOST_HOME)")


def as_sentence(words: str) -> str:
    """Formats a text as the first sentence of a help text."""
    return f"{words[0].upper()}{words[1:]}."


def _first_clause(meaning: str) -> str:
    """Returns the first clause of a meaning, for the list of nouns."""
    return meaning.partition("; ")[0]


def _verb_of(entry: Entry) -> str:
    return entry["words"].partition(" ")[2]


def _add_command(subcommands: Subcommands, word: str, entry: Entry) -> None:
    parser = subcommands.add_parser(
        word, help=entry["help"], description=as_sentence(entry["help"]), epilog=f"example: {entry['example']}"
    )
    for argument in entry["arguments"]:
        _add_argument(parser, argument)
    add_home_option(parser)
    if entry["follows"]:
        parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    if entry["confirm"]:
        parser.add_argument("--yes", action="store_true", help="do not ask before it is done")
    _add_output(parser, entry)
    parser.set_defaults(action=lambda options, root: _run_entry(entry, options, root), help_of=parser)


def _add_output(parser: argparse.ArgumentParser, entry: Entry) -> None:
    parser.add_argument(
        "-o", "--output", choices=FORMS, default="table", metavar="json|table", help="how the result is printed"
    )
    parser.add_argument("--json", action="store_const", const="json", dest="output", help="the same as -o json")
    parser.set_defaults(quiet=False)
    if entry["words"] not in PRINTING and _verb_of(entry) not in PRINTING:
        parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    name = argument["name"]
    shown = "|".join(argument["choices"]) or name.upper()
    help_text = argument["help"].replace("%", "%%")
    if argument["positional"]:
        if argument["required"]:
            parser.add_argument(name, help=help_text, metavar=shown)
        else:
            parser.add_argument(name, help=help_text, metavar=shown, nargs="?", default=argparse.SUPPRESS)
        return
    option = f"--{name.replace('_', '-')}"
    if argument["flag"]:
        parser.add_argument(option, dest=name, help=help_text, action="store_true", default=argparse.SUPPRESS)
        return
    if argument["repeated"]:
        parser.add_argument(
            option, dest=name, help=help_text, metavar="KEY=VALUE", action="append", default=argparse.SUPPRESS
        )
        return
    parser.add_argument(
        option, dest=name, help=help_text, metavar=shown, required=argument["required"], default=argparse.SUPPRESS
    )


def _run_entry(entry: Entry, options: argparse.Namespace, root: str) -> int:
    given = {one["name"]: getattr(options, one["name"]) for one in entry["arguments"] if hasattr(options, one["name"])}
    follow = entry["follows"] and options.follow
    as_json = options.output == "json"
    if entry["confirm"] and not options.yes:
        _ask(entry["confirm"].format_map(given))
    if not (entry["offline"] or entry["rendered_here"] or follow):
        from nanohost.control.client import HostNotRunning, send_command_for_text

        try:
            form = "json" if as_json else "text"
            text, failed = send_command_for_text(f"{root}/{CONTROL_SOCKET}", entry["words"], given, output_format=form)
        except HostNotRunning:
            pass
        else:
            if as_json and not options.quiet:
                print(text, flush=True)
            elif not options.quiet:
                print_wrapped(text)
            return 1 if failed else 0
    from nanohost.cli.run_command import run_command
    from nanohost.config.home import make_home

    return run_command(
        entry["module"],
        entry["words"],
        given,
        make_home(root),
        as_json=as_json,
        quiet=options.quiet,
        follow=follow,
    )


def _ask(question: str) -> None:
    """Asks for confirmation at a terminal; raises UsageError without it. Does not ask if there is no terminal."""
    import sys

    if not sys.stdin.isatty():
        return
    print(f"{replace_control_chars(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was done", hint="--yes does it without a question")
