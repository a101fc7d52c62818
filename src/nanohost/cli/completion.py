"""Prints the shell completion script.

It is generated from the parsers, which know every command, option and choice. nanohost does not run at Tab: the words
are in the script, and values from a database are not completed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from nanohost.cli.command_catalogue import read_catalogue

BASH_COLON_WORDS = """
# bash parts words at colons, which are in every user's id; the program takes such a word as one.
_nanohost_whole_words() {
  local index last=-1 place=0 words=()
  for ((index = 0; index < ${#COMP_WORDS[@]}; index++)); do
    if ((index > 0)) && [[ ${COMP_WORDS[index]} == :* || ${COMP_WORDS[index - 1]} == *: ]]; then
      words[last]+=${COMP_WORDS[index]}
    else
      words[++last]=${COMP_WORDS[index]}
    fi
    ((index == COMP_CWORD)) && place=$last
  done
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$place
  _shtab_nanohost
}
complete -o bashdefault -F _nanohost_whole_words nanohost
"""
"""Appended to shtab's script for bash, which splits words at colons."""


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell that shtab knows.

    `parser`: the complete command line. It is changed: the choices of its options are added.
    """
    choices = {
        entry["words"]: {one["name"]: one["choices"] for one in entry["arguments"]}
        for entry in read_catalogue()["commands"]
    }
    for words, below in _walk_parsers(parser):
        for action in below._actions:
            if action.dest == "home":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif found := choices.get(words, {}).get(action.dest):
                action.choices = found
    return str(shtab.complete(parser, shell=shell)) + (BASH_COLON_WORDS if shell == "bash" else "")


def _walk_parsers(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every parser with the words that lead to it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from _walk_parsers(below, f"{words} {word}".strip())
