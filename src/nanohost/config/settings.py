"""Loads the settings: nanohost.toml in the install root, overridden by NANOHOST_* variables.

Every key has a default, so the file may be missing. Unknown names and wrong values are rejected with the place, the
value and what is expected. Never: puts a secret (`env:NAME`, `file:PATH` relative to the install root, or the secret
itself) into a message, a log line or a repr; writes anything.

The parts of the host declare the keys that they use: see nanohost.config.section.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import TypeVar, cast
from zoneinfo import ZoneInfo

from pydantic import SecretStr, ValidationError

from nanohost.config.mistakes import ProblemCollector
from nanohost.config.secrets import SecretResolver
from nanohost.config.section import Section, open_sections, sections, tables
from nanohost.config.time_settings import TimeSettings, machine_timezone
from nanohost.config.toml_lines import parse_statements
from nanohost.errors import SettingsError
from nanohost.text.phrases import suggest_name

SETTINGS_FILE = "nanohost.toml"
ENV_PREFIX = "NANOHOST_"
ENABLED_KEY = "enabled"
"""The only key of a channel's table that the host reads: with false the channel is configured but not started."""
NON_SETTING_VARIABLES = frozenset(
    {
        "NANOHOST_CRASH_AT",
        "NANOHOST_CRASH_RUNNER_AT",
        "NANOHOST_HOME",
        "NANOHOST_LOG",
        "NANOHOST_REQUIRE_BUBBLEWRAP",
        "NANOHOST_REQUIRE_DOCKER",
        "NANOHOST_REQUIRE_PODMAN",
        "NANOHOST_TEST_TIME_FACTOR",
        "NANOHOST_WORKSPACE",
    }
)
"""Variables that are no settings: of crash points, the command line, logs, tests, a runner without mounts."""

Table = dict[str, object]
SectionT = TypeVar("SectionT", bound=Section)
ExtraCheck = Callable[[Mapping[str, object], ProblemCollector], None]
"""Checks the raw tables, [guard] flattened, and adds mistakes to the collector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings: each part of the host has a section of its own, `settings.section(StoreSettings).durable`. Channel
    tables belong to the channels: see `channel_instances`."""

    sections: Sequence[Section] = ()
    channels: Mapping[str, Table] = field(default_factory=dict, repr=False)

    def section(self, section_type: type[SectionT]) -> SectionT:
        """Returns the section, with its defaults if it was not loaded."""
        return next((section for section in self.sections if isinstance(section, section_type)), None) or section_type()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of times that people read and plan."""
        return self.section(TimeSettings).zone


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInstance:
    """One bot account: [channels.NAME] is the instance `default`, [channels.NAME.INSTANCE] another one. An instance
    that is not `is_enabled` is configured but not started."""

    name: str
    instance: str
    settings: Mapping[str, object] = field(repr=False)
    is_enabled: bool = True


def display_zone(home: Path, environ: Mapping[str, str]) -> tzinfo:
    """Returns the time zone for times that are shown; the machine's if the settings cannot be read, without an
    error."""
    try:
        return load_settings(home, environ, resolve_secrets=False).zone
    except (SettingsError, OSError):
        return ZoneInfo(machine_timezone(environ))


def load_settings(
    home: Path, environ: Mapping[str, str], *, resolve_secrets: bool = True, extra_check: ExtraCheck | None = None
) -> Settings:
    """Read the file and the variables. Raises SettingsError with all mistakes and their places, and never with
    a secret.

    `resolve_secrets=False` leaves `env:` and `file:` references as they are. `extra_check` finds mistakes in names that
    are not known here: see nanohost.commands.settings_check.
    """
    mistakes = ProblemCollector(home / SETTINGS_FILE)
    table = _read_toml(mistakes)
    _drop_unknown_names(table, mistakes)
    _normalize_open_sections(table)
    for variable, text in environ.items():
        if variable.startswith(ENV_PREFIX) and variable not in NON_SETTING_VARIABLES and text:
            with _collect_errors(mistakes):
                _override(table, variable, text, home, mistakes)
    _check_enabled(_subtable(table, "channels"), mistakes)
    for section in sections():
        for key, value in section.defaults(environ).items():
            _subtable(table, section.table).setdefault(key, value)
    if resolve_secrets:
        _resolve_secrets(table, SecretResolver(home, environ, mistakes))
    found = _validate_sections(table, home, mistakes)
    if extra_check is not None:
        extra_check(table, mistakes)
    mistakes.raise_if_any()
    return Settings(sections=found, channels=cast("dict[str, Table]", table["channels"]))


def make_settings(*, channels: Mapping[str, Table] | None = None, **raw_tables: Mapping[str, object]) -> Settings:
    """Returns settings from raw tables, without a file: `make_settings(host={"runtime": "process"})`. Raises
    SettingsError."""
    mistakes = ProblemCollector(Path(SETTINGS_FILE))
    table: Table = {name: dict(content) for name, content in raw_tables.items()}
    _drop_unknown_names(table, mistakes)
    _normalize_open_sections(table)
    found = _validate_sections(table, None, mistakes)
    mistakes.raise_if_any()
    return Settings(sections=found, channels=channels or {})


def _normalize_open_sections(table: Table) -> None:
    """Normalize the tables with arbitrary keys, which may be written in more than one way."""
    for name, section in open_sections().items():
        table[name] = section.normalize_keys(_subtable(table, name))


def _validate_sections(table: Table, home: Path | None, mistakes: ProblemCollector) -> Sequence[Section]:
    """Returns each section with its part of the tables. `home`: the install whose extensions may be named; None: names
    are not checked. Adds mistakes in the order of the reference page, each value once."""
    found: list[Section] = []
    wrong: list[tuple[str, str]] = []
    for section in sections():
        content = _subtable(table, section.table)
        fields = content if section.allows_unknown_keys() else section.model_fields
        try:
            values = {key: content[key] for key in fields if key in content}
            found.append(section.model_validate(values, context={"root": home}))
        except ValidationError as error:
            wrong += dict.fromkeys((section.table, str(one["loc"][0])) for one in error.errors(include_url=False))
    declared = [(name, key) for name, keys in tables().items() for key in keys]
    for name, key in sorted(wrong, key=lambda one: declared.index(one) if one in declared else len(declared)):
        sentence, hint = _describe_wrong_value(name, key, _subtable(table, name)[key])
        mistakes.add_for_key(f"{name}.{key}", sentence, hint=hint)
    return tuple(found)


@contextmanager
def _collect_errors(mistakes: ProblemCollector) -> Iterator[None]:
    """Add a SettingsError to the mistakes, to report all of them together."""
    try:
        yield
    except SettingsError as error:
        mistakes.add(str(error), hint=error.hint)


def channel_instances(settings: Settings) -> tuple[ChannelInstance, ...]:
    """Returns every configured bot account, in the order of the file. A table inside a channel's table is an
    instance."""
    found = []
    for name, table in settings.channels.items():
        inner = {key: cast("Table", value) for key, value in table.items() if isinstance(value, dict)}
        plain = {key: value for key, value in table.items() if key not in inner}
        if plain or not inner:
            found.append(_make_instance(name, "default", plain))
        found += [_make_instance(name, key, value) for key, value in inner.items()]
    return tuple(found)


def _make_instance(name: str, instance: str, table: Table) -> ChannelInstance:
    settings = {key: value for key, value in table.items() if key != ENABLED_KEY}
    return ChannelInstance(name=name, instance=instance, settings=settings, is_enabled=is_enabled(table))


def is_enabled(table: Mapping[str, object]) -> bool:
    """Whether the channel of this table is started."""
    return table.get(ENABLED_KEY, True) not in (False, "false")


def resolve_channel_secrets(home: Path, environ: Mapping[str, str], name: str, table: Mapping[str, object]) -> Table:
    """Returns a channel's table with its references replaced by the secrets. Raises SettingsError."""
    found, mistakes = dict(table), ProblemCollector(home / SETTINGS_FILE)
    _resolve_table(found, f"channels.{name}", SecretResolver(home, environ, mistakes))
    mistakes.raise_if_any()
    return found


def is_secret(key: str) -> bool:
    """Whether a key of a channel's table holds a secret, by its name."""
    return _SECRET_KEY.search(key) is not None


def is_reference(value: object) -> bool:
    """Whether this is a reference to a secret, and not a secret itself."""
    return str(value).startswith(("env:", "file:"))


def resolve_secret(home: Path, environ: Mapping[str, str], reference: str, name: str) -> str:
    """Returns the secret of a reference. `name`: its name in an error message. Raises SettingsError."""
    mistakes = ProblemCollector(home / SETTINGS_FILE)
    found = SecretResolver(home, environ, mistakes).resolve(reference, name)
    mistakes.raise_if_any()
    return str(found)


def collect_secrets(settings: Settings) -> tuple[str, ...]:
    """Returns the values that must never be shown: declared secrets, and values of channel tables whose keys
    look secret."""
    values = [value for section in settings.sections for _, value in section]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    for channel in channel_instances(settings):
        secrets += [str(value) for key, value in channel.settings.items() if is_secret(key)]
    return tuple(secret for secret in secrets if secret)


_SECRET_KEY = re.compile(r"token|secret|password|passwd|key", re.IGNORECASE)


# --- the file ---------------------------------------------------------------------------------------------------


def _read_toml(mistakes: ProblemCollector) -> Table:
    path = mistakes.path
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    statements = parse_statements(text)
    mistakes.lines = statements.lines
    for bad in statements.bad_lines:
        mistakes.add_at_line(bad.line, f"not TOML: {bad.message}", hint='a line looks like this: runtime = "docker"')
    return statements.table


def _drop_unknown_names(table: Table, mistakes: ProblemCollector) -> None:
    """Remove unknown names from the raw table and add them to the mistakes, before values are checked."""
    known = [*tables(), *open_sections(), "channels"]
    for section, content in list(table.items()):
        if section not in known:
            mistakes.add_for_key(section, f"there is no section [{section}]", hint=suggest_name(section, known))
            del table[section]
        elif not isinstance(content, dict):
            mistakes.add_for_key(section, f"{section} is not a table", hint=f"begin it with a line [{section}]")
            del table[section]
        elif section == "channels":
            _drop_invalid_channels(content, mistakes)
        elif section in tables():
            _drop_unknown_keys(section, content, mistakes)


def _drop_unknown_keys(section: str, content: Table, mistakes: ProblemCollector) -> None:
    known = tables()[section]
    for key in [key for key in content if key not in known]:
        mistakes.add_for_key(f"{section}.{key}", f"[{section}] has no key {key}", hint=suggest_name(key, known))
        del content[key]


def _drop_invalid_channels(channels: Table, mistakes: ProblemCollector) -> None:
    for name in [name for name, table in channels.items() if not isinstance(table, dict)]:
        place = f"channels.{name}"
        mistakes.add_for_key(place, f"{place} is not a table", hint=f"begin it with a line [{place}]")
        del channels[name]


def _check_enabled(channels: Table, mistakes: ProblemCollector) -> None:
    for name, table in channels.items():
        inner = cast("Table", table) if isinstance(table, dict) else {}
        for key, found in ((name, inner), *((f"{name}.{key}", one) for key, one in inner.items())):
            if isinstance(found, dict) and found.get(ENABLED_KEY, True) not in (True, False, "true", "false"):
                place = f"channels.{key}.{ENABLED_KEY}"
                mistakes.add_for_key(
                    place, f"{place} is {_format_value(found[ENABLED_KEY])}", hint="wanted: true or false"
                )
                del found[ENABLED_KEY]


# --- variables --------------------------------------------------------------------------------------------------


def _override(table: Table, variable: str, text: str, home: Path, mistakes: ProblemCollector) -> None:
    """Override the file with NANOHOST_<SECTION>_<KEY>, or NANOHOST_<KEY> for [host]. Raises SettingsError."""
    name = variable.removeprefix(ENV_PREFIX).lower()
    section, _, key = name.partition("_")
    if section == "channels":
        _override_channel(_subtable(table, "channels"), variable, key, text, mistakes)
        return
    if section not in tables():
        section, key = "host", name
    if key not in tables()[section]:
        raise SettingsError(f"the variable {variable} is not a setting", hint=suggest_name(variable, _variable_names()))
    _subtable(table, section)[key] = _parse_variable(variable, section, key, text, home)
    mistakes.variables[f"{section}.{key}"] = variable


def _parse_variable(variable: str, table: str, key: str, text: str, home: Path) -> object:
    section = tables()[table][key].section
    try:
        # Not strict, as for the file, since a variable is always text.
        found = section.model_validate({key: text}, strict=False, context={"root": home})
    except ValidationError as error:
        sentence, hint = _describe_wrong_value(table, key, text)
        raise SettingsError(f"the variable {variable}: {sentence}", hint=hint) from error
    value: object = getattr(found, key)
    return value


def _override_channel(channels: Table, variable: str, name: str, text: str, mistakes: ProblemCollector) -> None:
    """Override with NANOHOST_CHANNELS_<NAME>_<KEY>. A name or instance of the file is recognized even if it
    contains a -."""
    channel, key = _split_name(name, channels)
    if not key:
        raise SettingsError(f"the variable {variable} names no key", hint=f"like this: {variable}_TOKEN")
    table = _subtable(channels, channel)
    instances = [instance for instance, value in table.items() if isinstance(value, dict)]
    instance, inner = _split_name(key, instances)
    if instance in instances and inner:
        table, key, channel = _subtable(table, instance), inner, f"{channel}.{instance}"
    table[key] = text
    mistakes.variables[f"channels.{channel}.{key}"] = variable


def _split_name(text: str, known: Iterable[str]) -> tuple[str, str]:
    for name in sorted(known, key=len, reverse=True):
        prefix = name.replace("-", "_").lower() + "_"
        if text.startswith(prefix):
            return name, text.removeprefix(prefix)
    first, _, rest = text.partition("_")
    return first, rest


def _variable_names() -> list[str]:
    short = [f"{ENV_PREFIX}{key}".upper() for key in tables()["host"]]
    return short + [f"{ENV_PREFIX}{name}_{key}".upper() for name, keys in tables().items() for key in keys]


def _subtable(table: Table, name: str) -> Table:
    return cast("Table", table.setdefault(name, {}))


# --- secrets ----------------------------------------------------------------------------------------------------


def _resolve_secrets(table: Table, secrets: SecretResolver) -> None:
    for key in (key for keys in tables().values() for key in keys.values() if key.is_secret):
        content = _subtable(table, key.section.table)
        value = content.get(key.name)
        raw_value = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(raw_value, str):
            resolved = secrets.resolve(raw_value, f"{key.section.table}.{key.name}")
            content[key.name] = SecretStr(str(resolved))
    for name in _subtable(table, "channels"):
        _resolve_table(_subtable(_subtable(table, "channels"), name), f"channels.{name}", secrets)


def _resolve_table(table: Table, path: str, secrets: SecretResolver) -> None:
    """Replace references by secrets, except in a disabled channel, whose secrets may not exist any more."""
    for key, value in table.items():
        if isinstance(value, dict):
            _resolve_table(value, f"{path}.{key}", secrets)
        elif is_enabled(table):
            table[key] = secrets.resolve(value, f"{path}.{key}", is_secret=is_secret(key))


# --- error messages ---------------------------------------------------------------------------------------------


def _describe_wrong_value(table: str, key: str, value: object) -> tuple[str, str]:
    """Returns the error, with the value unless it is secret, and the hint with what is expected."""
    declared = tables().get(table, {}).get(key)
    problem = "has a wrong value" if declared is not None and declared.is_secret else f"is {_format_value(value)}"
    expected = open_sections()[table].expected if declared is None else declared.expected
    return f"{table}.{key} {problem}", f"wanted: {expected}"


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
