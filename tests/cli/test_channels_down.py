"""A chat in the terminal begins with problems of the channels."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell, shell

__all__ = ["shell"]

PIGEON = """
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "pigeon"
# api = 1
# ///
from nanohost.channel_api import ChannelError


def create(context):
    raise ChannelError("the loft takes no such token")
"""


@pytest.mark.behaviour("OP-05")
def test_a_failed_channel_is_mentioned_when_a_chat_begins(shell: Shell) -> None:
    (shell.home / "channels").mkdir(parents=True)
    (shell.home / "channels" / "pigeon.py").write_text(PIGEON)
    (shell.home / "nanohost.toml").write_text('[channels.pigeon]\ntoken = "coo"\n')
    typed = shell.run("chat", stdin="/pair pigeon\n")
    said = typed.out + typed.err
    assert "pigeon:default is not connected: the loft takes no such token. More: nanohost status" in said
    assert "But pigeon is not connected now, and nobody reads it there: failed (the loft takes no such token)" in said
