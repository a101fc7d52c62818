"""Lists slash commands of the model's own command line: which go to the agent, and which are dropped or refused.

The host's commands are files of this package and state who may use them. Any other word after a slash is an ordinary
message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nanohost.text.translation import gettext_noop


class Disposition(StrEnum):
    """What happens to a command that is not the host's."""

    DISCARDED = "vanishes"
    """It is dropped, whoever typed it."""
    ADMINS_ONLY = "admins"
    """It goes to the agent if an admin typed it; otherwise it is refused."""


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """A command of the model's command line. `description`: the reason for its disposition, for the docs."""

    disposition: Disposition
    description: str


AGENT_COMMANDS: Mapping[str, AgentCommand] = {
    "compact": AgentCommand(
        Disposition.ADMINS_ONLY, gettext_noop("makes the agent's conversation shorter, for all who talk to it")
    ),
    "config": AgentCommand(Disposition.DISCARDED, "would change the settings of the agent's program"),
    "context": AgentCommand(
        Disposition.ADMINS_ONLY, gettext_noop("shows what the agent keeps in mind, of all who talk to it")
    ),
    "doctor": AgentCommand(Disposition.DISCARDED, "would show the machine that the agent runs on"),
    "files": AgentCommand(Disposition.ADMINS_ONLY, gettext_noop("shows what the agent has read")),
    "login": AgentCommand(Disposition.DISCARDED, "would change the account that the agent runs under"),
    "logout": AgentCommand(Disposition.DISCARDED, "would take the agent its account"),
    "remote-control": AgentCommand(Disposition.DISCARDED, "would give the agent's program into other hands"),
}
"""By name, sorted. A text that begins with one counts as that command."""
