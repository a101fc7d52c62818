"""What the operator set: nanohost.toml in the install root, overridden by NANOHOST_* variables.

Every key has a default, so the file may be missing. Unknown names and wrong values are refused with the place, the
value and what is wanted. Secrets (`env:NAME`, `file:PATH` relative to the install root, or the secret itself) are
never part of a message, a log line or a repr. Nothing is written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from nanohost.errors import SettingsError
from nanohost.mistakes import Mistakes
from nanohost.phrases import nearest
from nanohost.providers import provider_names
from nanohost.runtime_files import runtime_names
from nanohost.secrets import Secrets, trimmed
from nanohost.toml_lines import read_statements

FILE = "nanohost.toml"
PREFIX = "NANOHOST_"
ENABLED = "enabled"
"""The one key of a channel's table that is the host's: with false the channel is set up, and not started."""
NOT_SETTINGS = frozenset(
    {
        "NANOHOST_CRASH_AT",
        "NANOHOST_CRASH_RUNNER_AT",
        "NANOHOST_HOME",
        "NANOHOST_LOG",
        "NANOHOST_REQUIRE_BUBBLEWRAP",
        "NANOHOST_REQUIRE_DOCKER",
        "NANOHOST_REQUIRE_PODMAN",
        "NANOHOST_WORKSPACE",
    }
)
"""Variables that other things read: crash points, the command line, the logs, the tests, a runner without mounts."""

Table = dict[str, object]
AUTO = "auto"
"""In place of a provider or a runtime: the host chooses."""
Known = Mapping[str, Callable[[], Collection[str]]]
"""The names that a key may have, by the key: whoever loads settings knows which extensions there are."""
Look = Callable[[Mapping[str, object], Mistakes], None]
"""Looks at the raw tables, [guard] flat, and says what is wrong in them."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("no such time zone") from error
    return name


def _known_extension(value: str, info: ValidationInfo) -> str:
    """Checked where it is known which there are; what is made without a file is not."""
    known: Known = info.context or {}
    names = known.get(info.field_name or "")
    if value != AUTO and names is not None and value not in names():
        raise ValueError(f"there is no {info.field_name} of this name")
    return value


def _known_extensions(home: Path) -> Known:
    return {"provider": partial(provider_names, home), "runtime": partial(runtime_names, home)}


class Section(BaseModel):
    """A table of the file. A key's title says what it is for, its description what a value has to be."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class HostSettings(Section):
    """[host]: the daemon. Times in seconds."""

    runtime: Annotated[str, AfterValidator(_known_extension)] = Field(
        title="What starts containers. `auto`: Docker if an engine answers, else bubblewrap, else a plain process.",
        default=AUTO,
        description="auto, docker, bubblewrap, process or the name of a file in runtimes/",
    )
    provider: Annotated[str, AfterValidator(_known_extension)] = Field(
        title="What thinks. `auto`: Claude when there is a key or a base_url, else the demo.",
        default=AUTO,
        description="auto, claude, demo, scripted or the name of a file in providers/",
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        title="The zone of times that are shown and planned. Default: the machine's; where it is UTC you are asked.",
        default="UTC",
        description="a time zone's name, such as Europe/Berlin",
    )
    max_containers: int = Field(
        title="How many containers run at once; who waits is served in order of arrival.",
        default=8,
        ge=1,
        description="a whole number, 1 or more",
    )
    idle_timeout_s: float = Field(
        title="After how long without work a container is stopped.",
        default=600,
        gt=0,
        description="seconds, more than 0",
    )
    poll_interval_s: float = Field(
        title="How often both sides look at the files when no event told them to.",
        default=1.0,
        gt=0,
        le=60,
        description="seconds, more than 0 and at most 60",
    )
    sweep_interval_s: float = Field(
        title="How often the host looks for work that no event told it of.",
        default=60,
        gt=0,
        description="seconds, more than 0",
    )
    heartbeat_limit_s: float = Field(
        title="A container that gives no sign of life for so long is stopped; its start may take twice as long.",
        default=30,
        gt=0,
        description="seconds, more than 0",
    )
    turn_limit_s: float = Field(
        title="A turn in which nothing happens for so long is ended, unless a tool said that it takes longer.",
        default=1800,
        gt=0,
        description="seconds, more than 0",
    )
    answer_deadline_s: float = Field(
        title="After how long without an answer or a sign of work a person is told that their message still waits.",
        default=900,
        gt=0,
        description="seconds, more than 0",
    )
    stop_limit_s: float = Field(
        title="After how long a stop that has not ended names what hangs and ends the process, with exit code 1.",
        default=60,
        gt=0,
        description="seconds, more than 0",
    )
    watch: bool = Field(
        title="Whether the host listens to file events. Without them answers are found by polling.",
        default=True,
        description="true or false",
    )
    allow_unsandboxed: bool = Field(
        title="Let an agent use its tools in a plain process, with nothing around it.",
        default=False,
        description="true or false",
    )
    ambiguous: Literal["resend", "ask"] = Field(
        title="A message that may have been sent, on a platform that cannot tell a repeat: send it again, or ask you.",
        default="resend",
        description="resend or ask",
    )
    keep_days: int = Field(
        title="For how long what is settled is kept; sums by day stay, the audit log for a year at least. 0: for ever.",
        default=30,
        ge=0,
        le=36500,
        description="a whole number of days, 0 or more",
    )
    attachment_bytes: int = Field(
        title="The largest file of a person that is fetched for an agent, in bytes.",
        default=20 * 1024 * 1024,
        ge=0,
        description="a whole number of bytes, 0 or more",
    )
    session_rows_per_hour: int = Field(
        title="How many messages and requests of one session are taken over in an hour; what is more waits.",
        default=7_200,
        ge=60,
        description="a whole number, 60 or more",
    )
    session_mb_per_hour: int = Field(
        title="How many MiB of messages of one session are taken over in an hour; what is more waits.",
        default=24,
        ge=1,
        description="a whole number of MiB, 1 or more",
    )
    session_requests_per_hour: int = Field(
        title="How many requests of one session, and messages that are refused, are taken over in an hour; more waits.",
        default=600,
        ge=6,
        description="a whole number, 6 or more",
    )
    session_calls_per_hour: int = Field(
        title="How many requests of one session to the model are served in an hour, and a sixth of that may fail.",
        default=7_200,
        ge=36,
        description="a whole number, 36 or more",
    )
    session_disk_mb: int = Field(
        title="What each of a session's folders out and state may take of the disk, in MiB; beyond it is held.",
        default=2048,
        ge=1,
        description="a whole number of MiB, 1 or more",
    )
    workspace_mb: int = Field(
        title="What an agent group's folder may take of the disk, in MiB; beyond the group is held.",
        default=10_240,
        ge=1,
        description="a whole number of MiB, 1 or more",
    )
    disk_reserve_mb: int = Field(
        title="Free MiB, and an inode for each 16 KiB, kept for the host: below it containers stop. At most a 20th.",
        default=512,
        ge=0,
        description="a whole number of MiB, 0 or more",
    )
    durable: bool = Field(
        title="Whether each commit waits for the disk. Turn it off for tests only.",
        default=True,
        description="true or false",
    )


class AgentSettings(Section):
    """[agent]: what thinks. `api_key` stays on the host."""

    model: str | None = Field(
        title="Which model is asked. Default: the provider's choice.",
        default=None,
        min_length=1,
        description="a model's name",
    )
    base_url: str | None = Field(
        title="Where the model is asked. Default: ANTHROPIC_BASE_URL, else the public service.",
        default=None,
        pattern=r"\Ahttps?://",
        description="an address that starts http:// or https://",
    )
    api_key: SecretStr | None = Field(
        title="The model's key; it never enters a container. Default: ANTHROPIC_API_KEY, else ANTHROPIC_AUTH_TOKEN.",
        default=None,
        description="a key, env:NAME or file:PATH",
    )
    tools: Literal["all", "none"] = Field(
        title="Whether Claude has its own tools (shell, files, memory) beside ours.",
        default="all",
        description="all or none",
    )


class DockerSettings(Section):
    """[docker]: the image and the ceilings of one container. Memory in MiB, CPU in cores."""

    base_image: str | None = Field(
        title="What the agent's image is built on. Default: nanohost-base:bookworm if it is there, else Debian slim.",
        default=None,
        min_length=1,
        description="an image's name",
    )
    memory_mb: int = Field(
        title="Memory of one container, in MiB.", default=2048, ge=128, description="a whole number of MiB, 128 or more"
    )
    cpus: float = Field(
        title="CPU of one container, in cores.", default=2.0, gt=0, description="a number of cores, more than 0"
    )
    pids: int = Field(
        title="Processes and threads of one container.", default=256, ge=16, description="a whole number, 16 or more"
    )


class Settings(Section):
    """All of it. Channel tables are each channel's own: see `channel_instances`. `guard` says what agents may ask for,
    by the actions' names, which those who know the actions check."""

    host: HostSettings = HostSettings()
    agent: AgentSettings = AgentSettings()
    docker: DockerSettings = DockerSettings()
    guard: dict[str, Literal["allow", "hold", "deny"]] = Field(
        default_factory=dict, description="allow, hold or deny, by the names of actions"
    )
    channels: dict[str, Table] = Field(default_factory=dict, repr=False, description="tables [channels.NAME]")


SECTIONS: Mapping[str, type[Section]] = {"host": HostSettings, "agent": AgentSettings, "docker": DockerSettings}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInstance:
    """One bot account: [channels.NAME] is the instance `default`, [channels.NAME.INSTANCE] another. One that is not
    `enabled` is set up, and not started."""

    name: str
    instance: str
    settings: Mapping[str, object] = field(repr=False)
    enabled: bool = True


def zone_of(home: Path, environ: Mapping[str, str]) -> tzinfo:
    """The zone of times that are shown; the machine's, where the file cannot be read: that is told by who needs it."""
    try:
        return ZoneInfo(load_settings(home, environ, resolve_secrets=False).host.timezone)
    except (SettingsError, OSError):
        return ZoneInfo(machine_timezone(environ))


def load_settings(
    home: Path, environ: Mapping[str, str], *, resolve_secrets: bool = True, look: Look | None = None
) -> Settings:
    """Read the file and the variables. Raises SettingsError, naming all mistakes by their places and never a secret.

    `resolve_secrets=False` leaves `env:` and `file:` as they are: enough for whoever needs no secret. `look` finds
    mistakes in names that are not known here: see nanohost.known_names.
    """
    mistakes, known = Mistakes(home / FILE), _known_extensions(home)
    table = _read_toml(mistakes)
    _drop_wrong_names(table, mistakes)
    table["guard"] = _flat(_section(table, "guard"))
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS and text:
            with _collected(mistakes):
                _override(table, variable, text, known, mistakes)
    _check_enabled(_section(table, "channels"), mistakes)
    _section(table, "host").setdefault("timezone", machine_timezone(environ))
    _agent_defaults(_section(table, "agent"), environ)
    if resolve_secrets:
        _resolve_secrets(table, Secrets(home, environ, mistakes))
    try:
        settings = Settings.model_validate(table, context=known)
    except ValidationError as error:
        _collect_wrong_values(error, table, mistakes)
    if look is not None:
        look(table, mistakes)
    mistakes.check()
    return settings


@contextmanager
def _collected(mistakes: Mistakes) -> Iterator[None]:
    """What is wrong is told with the rest."""
    try:
        yield
    except SettingsError as error:
        mistakes.elsewhere(str(error), hint=error.hint)


DEMO = "demo"
"""The provider that asks nobody: for a first look without a key."""


def provider_for(settings: Settings) -> str:
    """The provider that `auto` stands for: claude when there is a key or an address to ask, else demo."""
    if settings.host.provider != AUTO:
        return settings.host.provider
    return "claude" if settings.agent.api_key or settings.agent.base_url else DEMO


def channel_instances(settings: Settings) -> tuple[ChannelInstance, ...]:
    """Every configured bot account, in the order of the file. A table inside a channel's table is an instance."""
    found = []
    for name, table in settings.channels.items():
        tables = {key: cast("Table", value) for key, value in table.items() if isinstance(value, dict)}
        plain = {key: value for key, value in table.items() if key not in tables}
        if plain or not tables:
            found.append(_instance(name, "default", plain))
        found += [_instance(name, key, value) for key, value in tables.items()]
    return tuple(found)


def _instance(name: str, instance: str, table: Table) -> ChannelInstance:
    settings = {key: value for key, value in table.items() if key != ENABLED}
    return ChannelInstance(name=name, instance=instance, settings=settings, enabled=is_enabled(table))


def is_enabled(table: Mapping[str, object]) -> bool:
    """Whether a channel of this table is started."""
    return table.get(ENABLED, True) not in (False, "false")


def resolved_channel(home: Path, environ: Mapping[str, str], name: str, table: Mapping[str, object]) -> Table:
    """A channel's table with its secrets in place of what points at them. Raises SettingsError."""
    found, mistakes = dict(table), Mistakes(home / FILE)
    _resolve_table(found, f"channels.{name}", Secrets(home, environ, mistakes))
    mistakes.check()
    return found


def is_secret(key: str) -> bool:
    """Whether a key of a channel's table sounds like one that holds a secret."""
    return _SECRET_KEY.search(key) is not None


def is_reference(value: object) -> bool:
    """Whether this says where a secret is, and is none itself."""
    return str(value).startswith(("env:", "file:"))


def resolved_secret(home: Path, environ: Mapping[str, str], reference: str, name: str) -> str:
    """The secret that a reference points at; `name`: what it is called in an error. Raises SettingsError."""
    mistakes = Mistakes(home / FILE)
    found = Secrets(home, environ, mistakes).resolved(reference, name)
    mistakes.check()
    return str(found)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The values that must never be seen: the model's key and all strings of channel tables that look like secrets."""
    secrets = [settings.agent.api_key.get_secret_value()] if settings.agent.api_key else []
    for channel in channel_instances(settings):
        secrets += [str(value) for key, value in channel.settings.items() if is_secret(key)]
    return tuple(secret for secret in secrets if secret)


_SECRET_KEY = re.compile(r"token|secret|password|passwd|key", re.IGNORECASE)


# --- the file ---------------------------------------------------------------------------------------------------


def _read_toml(mistakes: Mistakes) -> Table:
    path = mistakes.path
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from error
    statements = read_statements(text)
    mistakes.lines = statements.lines
    for bad in statements.bad:
        mistakes.at_line(bad.line, f"not TOML: {bad.sentence}", hint='a line looks like this: runtime = "docker"')
    return statements.table


def _drop_wrong_names(table: Table, mistakes: Mistakes) -> None:
    """Names first, on the raw table: whatever else is wrong with a key, an unknown one is not ours."""
    for section, content in list(table.items()):
        if section not in Settings.model_fields:
            hint = nearest(section, Settings.model_fields)
            mistakes.at_key(section, f"there is no section [{section}]", hint=hint)
            del table[section]
        elif not isinstance(content, dict):
            mistakes.at_key(section, f"{section} is not a table", hint=f"begin it with a line [{section}]")
            del table[section]
        elif section == "channels":
            _drop_wrong_channels(content, mistakes)
        elif section != "guard":
            _drop_wrong_keys(section, content, mistakes)


def _drop_wrong_keys(section: str, content: Table, mistakes: Mistakes) -> None:
    known = SECTIONS[section].model_fields
    for key in [key for key in content if key not in known]:
        mistakes.at_key(f"{section}.{key}", f"[{section}] has no key {key}", hint=nearest(key, known))
        del content[key]


def _flat(actions: Table) -> Table:
    """tasks.create and "tasks.create" are the same to people; to TOML the one is a table in a table."""
    found: Table = {}
    for name, value in actions.items():
        if isinstance(value, dict):
            found |= {f"{name}.{rest}": inner for rest, inner in value.items()}
        else:
            found[name] = value
    return found


def _drop_wrong_channels(channels: Table, mistakes: Mistakes) -> None:
    for name in [name for name, table in channels.items() if not isinstance(table, dict)]:
        place = f"channels.{name}"
        mistakes.at_key(place, f"{place} is not a table", hint=f"begin it with a line [{place}]")
        del channels[name]


def _check_enabled(channels: Table, mistakes: Mistakes) -> None:
    for name, table in channels.items():
        inner = cast("Table", table) if isinstance(table, dict) else {}
        for key, found in ((name, inner), *((f"{name}.{key}", one) for key, one in inner.items())):
            if isinstance(found, dict) and found.get(ENABLED, True) not in (True, False, "true", "false"):
                place = f"channels.{key}.{ENABLED}"
                mistakes.at_key(place, f"{place} is {_shown(found[ENABLED])}", hint="wanted: true or false")
                del found[ENABLED]


# --- variables --------------------------------------------------------------------------------------------------


def _override(table: Table, variable: str, text: str, known: Known, mistakes: Mistakes) -> None:
    """Put NANOHOST_<SECTION>_<KEY> in place of what the file says; [host] may be left out."""
    name = variable.removeprefix(PREFIX).lower()
    section, _, key = name.partition("_")
    if section == "channels":
        _override_channel(_section(table, "channels"), variable, key, text, mistakes)
        return
    if section not in SECTIONS:
        section, key = "host", name
    if key not in SECTIONS[section].model_fields:
        raise SettingsError(f"the variable {variable} is not a setting", hint=nearest(variable, _variables()))
    _section(table, section)[key] = _value_of(variable, section, key, text, known)
    mistakes.variables[f"{section}.{key}"] = variable


def _value_of(variable: str, section: str, key: str, text: str, known: Known) -> object:
    try:
        # Lax here, strict for the file: a variable can only be text.
        found = SECTIONS[section].model_validate({key: text}, strict=False, context=known)
    except ValidationError as error:
        sentence, hint = _wrong_value((section, key), {section: {key: text}})
        raise SettingsError(f"the variable {variable}: {sentence}", hint=hint) from error
    value: object = getattr(found, key)
    return value


def _override_channel(channels: Table, variable: str, name: str, text: str, mistakes: Mistakes) -> None:
    """NANOHOST_CHANNELS_<NAME>_<KEY>; a name or instance that the file knows is recognised even with a - in it."""
    channel, key = _split_name(name, channels)
    if not key:
        raise SettingsError(f"the variable {variable} names no key", hint=f"like this: {variable}_TOKEN")
    table = _section(channels, channel)
    instances = [instance for instance, value in table.items() if isinstance(value, dict)]
    instance, inner = _split_name(key, instances)
    if instance in instances and inner:
        table, key, channel = _section(table, instance), inner, f"{channel}.{instance}"
    table[key] = text
    mistakes.variables[f"channels.{channel}.{key}"] = variable


def _split_name(text: str, known: Iterable[str]) -> tuple[str, str]:
    for name in sorted(known, key=len, reverse=True):
        written = name.replace("-", "_").lower() + "_"
        if text.startswith(written):
            return name, text.removeprefix(written)
    first, _, rest = text.partition("_")
    return first, rest


def _variables() -> list[str]:
    host = [f"{PREFIX}{key}".upper() for key in HostSettings.model_fields]
    return host + [f"{PREFIX}{s}_{key}".upper() for s, model in SECTIONS.items() for key in model.model_fields]


def _section(table: Table, name: str) -> Table:
    return cast("Table", table.setdefault(name, {}))


def _agent_defaults(agent: Table, environ: Mapping[str, str]) -> None:
    """What other tools for the same model read counts here too, after our own."""
    if url := environ.get("ANTHROPIC_BASE_URL"):
        agent.setdefault("base_url", url)
    if key := trimmed(environ.get("ANTHROPIC_API_KEY", "")) or trimmed(environ.get("ANTHROPIC_AUTH_TOKEN", "")):
        agent.setdefault("api_key", SecretStr(key))


# --- secrets ----------------------------------------------------------------------------------------------------


def _resolve_secrets(table: Table, secrets: Secrets) -> None:
    agent = _section(table, "agent")
    key = agent.get("api_key")
    written = key.get_secret_value() if isinstance(key, SecretStr) else key
    if isinstance(written, str):
        agent["api_key"] = SecretStr(str(secrets.resolved(written, "agent.api_key")))
    for name in _section(table, "channels"):
        _resolve_table(_section(_section(table, "channels"), name), f"channels.{name}", secrets)


def _resolve_table(table: Table, path: str, secrets: Secrets) -> None:
    """What is not enabled needs no secrets, and may have lost them."""
    for key, value in table.items():
        if isinstance(value, dict):
            _resolve_table(value, f"{path}.{key}", secrets)
        elif is_enabled(table):
            table[key] = secrets.resolved(value, f"{path}.{key}", is_secret=is_secret(key))


# --- words ------------------------------------------------------------------------------------------------------


def _collect_wrong_values(error: ValidationError, table: Table, mistakes: Mistakes) -> None:
    """Each wrong value once, however much is wrong with it."""
    places = dict.fromkeys(tuple(part for part in one["loc"] if isinstance(part, str))[:2] for one in _errors(error))
    for location in places:
        name = ".".join(location)
        sentence, hint = _wrong_value(location, table)
        mistakes.at_key(name, sentence, hint=hint)


def _errors(error: ValidationError) -> Sequence[ErrorDetails]:
    return error.errors(include_url=False)


def _wrong_value(location: Sequence[str], table: Table) -> tuple[str, str]:
    """What it is, unless it is secret, and what is wanted. `location`: a section and a key, or a section."""
    *sections, key = location
    fields = (SECTIONS[sections[0]] if sections and sections[0] in SECTIONS else Settings).model_fields
    wanted = fields[key] if key in fields else fields[location[0]]  # a table whose keys are anybody's
    given: object = table
    for part in location:
        given = given.get(part) if isinstance(given, dict) else given
    said = "has a wrong value" if key == "api_key" else f"is {_shown(given)}"
    return f"{'.'.join(location)} {said}", f"wanted: {wanted.description}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def machine_timezone(environ: Mapping[str, str]) -> str:
    """The machine's zone by name; UTC where it cannot be told."""
    for name in (environ.get("TZ", "").lstrip(":"), _read_line(Path("/etc/timezone")), _zone_of_link()):
        try:
            if name and not name.startswith("/"):
                return _known_zone(name)
        except ValueError:
            continue
    return "UTC"


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _zone_of_link() -> str:
    try:
        return str(Path("/etc/localtime").readlink()).partition("zoneinfo/")[2]
    except OSError:
        return ""
