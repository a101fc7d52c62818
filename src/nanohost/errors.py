"""The tree of expected errors.

    NanohostError
    ├── UsageError          the caller asked for something that cannot be done as asked
    ├── SettingsError       nanohost.toml, an environment variable or a secret is wrong
    ├── HomeError           the install root is busy, read-only or of another version
    ├── StoreError          the central database refuses
    ├── MailboxError        a session's two files refuse, or are not what they claim to be
    ├── ChannelLoadError    a channel file cannot be used
    ├── ExtensionError      the file of another extension (a provider, a runtime) is not there or cannot be used
    ├── RuntimeUnavailable  no engine, no image, no sandbox
    └── SpawnError          the engine is there and still no container came up

Each speaks to three readers: `str(error)` is a sentence for the person, `hint` is what to do or type next, `reason` is
a short word for counters and logs. An error of this tree is printed in one line, never as a traceback.
What a channel raises while sending is another tree: see channel_api.
"""

from __future__ import annotations


class NanohostError(Exception):
    """Something expected went wrong. `reason` is a stable word; `hint` is the next thing to type, or empty."""

    reason = "error"

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.hint = hint

    @property
    def advice(self) -> str:
        """The hint as it is shown; empty without one."""
        return f"hint: {self.hint}" if self.hint else ""


class UsageError(NanohostError):
    """The caller asked for something that cannot be done as asked: unknown name, bad value, already there."""

    reason = "usage"


class SettingsError(NanohostError):
    """A setting has a wrong type, an unknown name, or points at a secret that is not there."""

    reason = "settings"


class HomeError(NanohostError):
    """The install root cannot be used: another host holds it, it is read-only, or a newer version wrote it."""

    reason = "home"


class StoreError(NanohostError):
    """The central database cannot be opened, migrated or written."""

    reason = "store"


class MailboxError(NanohostError):
    """A session's file cannot be used: unknown version, not a database, not ours."""

    reason = "mailbox"


class ChannelLoadError(NanohostError):
    """A channel file has no readable header, or its name is taken by another file."""

    reason = "channel"


class ExtensionError(NanohostError):
    """An extension that is no channel has no file, no readable header, or a file that is taken twice."""

    reason = "extension"


class RuntimeUnavailable(NanohostError):
    """This way of starting containers cannot be used on this machine now."""

    reason = "runtime"


class SpawnError(NanohostError):
    """The engine was reached and the container still did not start."""

    reason = "spawn"


class ChannelError(Exception):
    """Why a message was not surely sent. `reason` is a short stable word, the text is for the operator.

    `server_error`: the platform answered, and said that the failure is its own (an HTTP status of 500 and above, or a
    page where its answer should be), in a NotSent or an Ambiguous. While nothing at all goes through, the platform
    counts as down: what waits for it is tried until it is back.
    """

    reason = "error"

    def __init__(self, text: str = "", *, server_error: bool = False) -> None:
        super().__init__(text)
        self.server_error = server_error
