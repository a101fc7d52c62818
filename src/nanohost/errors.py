"""Defines the tree of expected errors.

    NanohostError
    ├── UsageError          the caller asked for something that cannot be done as asked
    ├── SettingsError       nanohost.toml, an environment variable or a secret is wrong
    ├── HomeError           the install root is busy, read-only or of another version
    ├── StoreError          the central database cannot be used
    ├── MailboxError        one of a session's two files cannot be used, or is not a valid mailbox file
    ├── ChannelLoadError    a channel file cannot be used
    ├── ExtensionError      the file of another extension (a provider, a runtime) is missing or cannot be used
    ├── RuntimeUnavailable  no engine, no image, no sandbox
    └── SpawnError          the engine works, but the container did not start

Each error has three texts: `str(error)` is a sentence for the person, `hint` is what to do or type next, `reason` is
a short word for counters and logs. An error of this tree is printed in one line, never as a traceback.
The errors that a channel raises while sending are a separate tree: see channel_api.
"""

from __future__ import annotations


class NanohostError(Exception):
    """An expected failure. `reason` is a stable word; `hint` is what to type next, or empty."""

    reason = "error"

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.hint = hint

    @property
    def advice(self) -> str:
        """The hint as people see it; empty if there is none."""
        return f"hint: {self.hint}" if self.hint else ""


class UsageError(NanohostError):
    """The caller asked for something that cannot be done: unknown name, bad value, already exists."""

    reason = "usage"


class SettingsError(NanohostError):
    """A setting has a wrong type, an unknown name, or refers to a secret that does not exist."""

    reason = "settings"


class HomeError(NanohostError):
    """The install root cannot be used: another host holds it, it is read-only, or a newer version wrote it."""

    reason = "home"


class StoreError(NanohostError):
    """The central database cannot be opened, migrated or written."""

    reason = "store"


class MailboxError(NanohostError):
    """A session's file cannot be used: unknown version, not a database, or of another session."""

    reason = "mailbox"


class ChannelLoadError(NanohostError):
    """A channel file has no readable header, or another file already has its name."""

    reason = "channel"


class ExtensionError(NanohostError):
    """An extension other than a channel has no file, no readable header, or more than one file."""

    reason = "extension"


class RuntimeUnavailable(NanohostError):
    """The runtime cannot be used on this machine now."""

    reason = "runtime"


class SpawnError(NanohostError):
    """The engine was reached, but the container did not start."""

    reason = "spawn"


class ChannelError(Exception):
    """A message was not sent, or perhaps not. `reason` is a short stable word, the text is for the operator.

    `server_error`: the platform answered with a failure of its own (an HTTP status of 500 and above, or a web page in
    place of an answer). Set on a NotSent or an Ambiguous. While no send at all succeeds, the host treats the platform
    as down and retries the waiting messages until it is back.
    """

    reason = "error"

    def __init__(self, text: str = "", *, server_error: bool = False) -> None:
        super().__init__(text)
        self.server_error = server_error
