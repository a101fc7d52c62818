"""Translates renamed commands of the previous version. Old names work until the next version, and give a hint.

Pure, and without slow imports: the command line imports it at each start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # each short command waits for what is imported here
    from collections.abc import Mapping, Sequence

LONG_NAMES = {"agent-groups": "agents", "messaging-groups": "chats"}
"""Long names of nouns, as in the documentation. They stay, and give no hint."""

OLD_WORDS = {
    "groups": "agents",
    "groups list": "agents list",
    "groups get": "agents get",
    "groups show": "agents get",
    "groups create": "agents create",
    "groups update": "agents update",
    "groups delete": "agents delete",
    "groups restart": "agents restart",
    "groups hold": "agents hold",
    "groups release": "agents release",
    "members": "roles",
    "members list": "roles list --role member",
    "members create": "roles create USER member",
    "members delete": "roles delete USER member",
    "roles grant": "roles create",
    "roles revoke": "roles delete",
    "channels add": "channels create",
    "channels remove": "channels delete",
    "deliveries show": "deliveries get",
    "sessions show": "sessions get",
    "tasks show": "tasks get",
    "dropped clear": "dropped delete",
}
"""Old commands, and the new ones with further arguments to type."""

OLD_SETTINGS = ("channels create", "channels update")
"""Commands that took their settings in one word, `--settings "a=1 b=2"`: now it is `--set a=1 --set b=2`."""

OLD_IN_AUDIT = {
    "agents": "groups",
    "chats": "messaging-groups",
    "roles": "members",
    "dropped.delete": "dropped.clear",
}
"""Prefixes of actions in the audit log, new and old."""


def old_words_after(nouns: str) -> dict[str, str]:
    """Return the old words that may be typed after these (after none for `""`), each with today's whole command."""
    start = f"{nouns} " if nouns else ""
    return {
        old[len(start) :]: now
        for old, now in OLD_WORDS.items()
        if old.startswith(start) and " " not in old[len(start) :]
    }


def as_typed_now(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of a command line with today's words in place of old ones, and a hint for each."""
    words = list(typed)
    at = _place_of_noun(words)
    if at is None:
        return words, []
    words[at] = LONG_NAMES.get(words[at], words[at])
    hints = []
    pair = " ".join(words[at : at + 2])
    old = pair if pair in OLD_WORDS else words[at]
    if old in OLD_WORDS:
        new, more = _parted(OLD_WORDS[old])
        words[at : at + len(old.split())] = new.split()
        words += [word for word in more if not word.isupper()]
        hints.append(hint(old))
    if " ".join(words[at : at + 2]) in OLD_SETTINGS:
        hints += _set_one_by_one(words)
    return words, hints


def command_now(words: str, arguments: Mapping[str, object]) -> tuple[str, dict[str, object], str]:
    """Return the command of these words, its arguments, and the hint; the hint is empty where the words are not old."""
    noun, space, verb = words.partition(" ")
    words = f"{LONG_NAMES.get(noun, noun)}{space}{verb}"
    if words not in OLD_WORDS:
        return words, dict(arguments), ""
    new, more = _parted(OLD_WORDS[words])
    return new, {**arguments, **({"role": more[-1]} if more else {})}, hint(words)


def hint(old: str) -> str:
    """Returns what to type instead of an old command."""
    return f'"nanohost {old}" is now "nanohost {OLD_WORDS[old]}"'


def other_names_in_audit(what: str) -> list[str]:
    """Return what the same is called in entries of an older version, or of a newer one."""
    both = [pair for new, old in OLD_IN_AUDIT.items() for pair in ((new, old), (old, new))]
    return [other + what[len(name) :] for name, other in both if f"{what}.".startswith(f"{name}.")]


def _parted(now: str) -> tuple[str, list[str]]:
    """Splits a command of one or two words from further arguments."""
    words = now.split()
    return " ".join(words[:2]), words[2:]


def _place_of_noun(words: Sequence[str]) -> int | None:
    """Returns the position of the first word that is no option and not the folder of --home."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        takes_next = len(words[at]) > 3 and "--home".startswith(words[at])  # argparse takes --ho for --home
        at += 2 if takes_next else 1
    return at if at < len(words) else None


def _set_one_by_one(words: list[str]) -> list[str]:
    """Replace --settings in place, and return the hint."""
    for at, word in enumerate(words):
        option, sign, value = word.partition("=")
        if option == "--settings" and (sign or at + 1 < len(words)):
            import shlex

            try:
                settings = shlex.split(value if sign else words[at + 1])
            except ValueError:  # a quote that is never closed: --set says what is wrong with it
                settings = [value if sign else words[at + 1]]
            words[at : at + (1 if sign else 2)] = [one for setting in settings for one in ("--set", setting)]
            return ['"--settings KEY=VALUE" is now "--set KEY=VALUE", once for each setting']
    return []
