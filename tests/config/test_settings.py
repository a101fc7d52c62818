"""nanohost.toml and the variables over it: which values are accepted, which are refused, and the error messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nanohost.config.settings import ChannelInstance, Settings, channel_instances, collect_secrets, load_settings
from nanohost.config.time_settings import TimeSettings
from nanohost.containers.settings import ContainerSettings
from nanohost.errors import SettingsError
from nanohost.gateway.provider_settings import AgentSettings, resolve_provider
from nanohost.gateway.settings import ModelSettings
from nanohost.guard.settings import GuardSettings
from nanohost.mailbox.settings import OutboxMonitorSettings
from nanohost.runtimes.settings import DockerSettings, RuntimeSettings


def loaded(home: Path, toml: str = "", environ: Mapping[str, str] | None = None) -> Settings:
    (home / "nanohost.toml").write_text(toml, encoding="utf-8")
    return load_settings(home, environ or {})


def refused(home: Path, toml: str = "", environ: Mapping[str, str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        loaded(home, toml, environ)
    return caught.value


def test_without_a_file_every_setting_has_a_default(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"TZ": "Europe/Berlin"})
    assert settings.section(RuntimeSettings).runtime == "auto"
    assert settings.section(TimeSettings).timezone == "Europe/Berlin"
    assert settings.section(DockerSettings).memory_mb == 2048
    assert channel_instances(settings) == ()


def test_a_variable_overrides_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[host]\nruntime = "docker"\nmax_containers = 3\n[agent]\nmodel = "small"',
        {"NANOHOST_HOST_RUNTIME": "process", "NANOHOST_MAX_CONTAINERS": "5", "NANOHOST_AGENT_MODEL": "large"},
    )
    assert (
        settings.section(RuntimeSettings).runtime,
        settings.section(ContainerSettings).max_containers,
        settings.section(AgentSettings).model,
    ) == ("process", 5, "large")


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("0", False), ("false", False)])
def test_a_boolean_variable_takes_the_usual_words(tmp_path: Path, text: str, value: bool) -> None:
    assert loaded(tmp_path, environ={"NANOHOST_WATCH": text}).section(OutboxMonitorSettings).watch is value


def test_an_empty_variable_sets_nothing(tmp_path: Path) -> None:
    assert (
        loaded(tmp_path, environ={"NANOHOST_AGENT_MODEL": "", "NANOHOST_WATHC": ""}).section(AgentSettings).model
        is None
    )


def test_variables_read_elsewhere_are_not_settings(tmp_path: Path) -> None:
    loaded(tmp_path, environ={"NANOHOST_HOME": "/x", "NANOHOST_LOG": "json", "NANOHOST_REQUIRE_DOCKER": "1"})


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("toml", "sentence", "hint"),
    [
        ("[host]\nmax_container = 1", "[host] has no key max_container", "did you mean max_containers?"),
        ("[hots]\nx = 1", "there is no section [hots]", "did you mean host?"),
        ("host = 1", "host is not a table", "[host]"),
        ('[host]\nmax_containers = "eight"', 'host.max_containers is "eight"', "wanted: a whole number, 1 or more"),
        ("[host]\nmax_containers = 0", "host.max_containers is 0", "wanted: a whole number, 1 or more"),
        ('[host]\nwatch = "yes"', 'host.watch is "yes"', "wanted: true or false"),
        ('[host]\ntimezone = "Mars/Olympus"', 'host.timezone is "Mars/Olympus"', "Europe/Berlin"),
        (
            '[host]\nprovider = "oracle"',
            'host.provider is "oracle"',
            "auto, claude, demo, scripted or the name of a file",
        ),
        ('[host]\nruntime = "cloud"', 'host.runtime is "cloud"', "auto, docker, bubblewrap, process or the name"),
        ('[agent]\nbase_url = "ftp://x"', 'agent.base_url is "ftp://x"', "http://"),
        ("[channels]\ntelegram = 1", "channels.telegram is not a table", "[channels.telegram]"),
        ('[guard]\n"tasks.create" = "ask"', 'guard.tasks.create is "ask"', "wanted: allow, hold or deny"),
        ("[guard]\ntasks.create = true", "guard.tasks.create is true", "wanted: allow, hold or deny"),
        ("guard = 1", "guard is not a table", "[guard]"),
        ("[host]\nwatch = true\nruntime = [", "at line 3, column 12", "like this"),
        ("[host]\n= 1", "at line 2, column 1", "like this"),
    ],
)
def test_an_invalid_file_is_refused_with_line_value_and_expectation(
    tmp_path: Path, toml: str, sentence: str, hint: str
) -> None:
    error = refused(tmp_path, toml)
    assert sentence in str(error)
    assert str(tmp_path / "nanohost.toml") in str(error)
    assert hint in error.hint


@pytest.mark.behaviour("OP-05")
def test_all_mistakes_are_reported_together_with_their_lines(tmp_path: Path) -> None:
    toml = """
[host]
max_container = 1
watch = "yes"
runtime = docker
[hots]
x = 1
[agent]
base_url = "ftp://x"
api_key = "env:NOWHERE"
[channels]
telegram = 1
[channels.slack]
app_token = "file:none"
"""
    error = refused(tmp_path, toml, {"NANOHOST_MAX_CONTAINERS": "x", "NANOHOST_WATHC": "1"})
    head, *said = str(error).splitlines()
    assert head == f"10 mistakes in {tmp_path / 'nanohost.toml'} and the variables over it:"
    text = str(error)
    for number, words in (
        (3, "[host] has no key max_container (did you mean max_containers?)"),
        (4, 'host.watch is "yes" (wanted: true or false)'),
        (5, "not TOML: Invalid value"),
        (6, "there is no section [hots]"),
        (9, 'agent.base_url is "ftp://x"'),
        (10, "agent.api_key points at the variable NOWHERE, which is not set (export NOWHERE=…)"),
        (12, "channels.telegram is not a table"),
        (14, "channels.slack.app_token points at"),
    ):
        assert f"  line {number}: {words}" in text
    assert 'the variable NANOHOST_MAX_CONTAINERS: host.max_containers is "x"' in text
    assert "the variable NANOHOST_WATHC is not a setting" in text
    assert len(said) == 10


def test_mistakes_in_variables_get_a_hint_about_variables(tmp_path: Path) -> None:
    variables = {"NANOHOST_RUNTIME": "dokcer", "NANOHOST_CHANNELS_SLACK_APP_TOKEN": "a\nb"}
    error = refused(tmp_path, environ=variables)
    assert str(error).splitlines()[0] == "2 mistakes in variables of nanohost:"
    assert str(tmp_path) not in str(error) + error.hint
    assert "the variable NANOHOST_CHANNELS_SLACK_APP_TOKEN: channels.slack.app_token has more than one" in str(error)
    assert error.hint == "correct the variables where they are set, or unset them"
    both = refused(tmp_path, "[host]\nwatsh = true", variables)
    assert both.hint.startswith(f"correct them in {tmp_path / 'nanohost.toml'}, and the variables where they are set")
    alone = refused(tmp_path, "[host]\nwatsh = true\ny = 1")
    assert str(alone).startswith(f"2 mistakes in {tmp_path / 'nanohost.toml'}:\n")


def test_a_single_mistake_is_reported_with_its_line(tmp_path: Path) -> None:
    error = refused(tmp_path, "# mine\n[host]\n\nmax_container = 1")
    assert str(error) == f"{tmp_path / 'nanohost.toml'}, line 4: [host] has no key max_container"
    assert error.hint == "did you mean max_containers?"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("variable", "text", "sentence", "hint"),
    [
        ("NANOHOST_MAX_CONTAINER", "1", "NANOHOST_MAX_CONTAINER is not a setting", "NANOHOST_MAX_CONTAINERS?"),
        ("NANOHOST_AGENT_MODLE", "x", "NANOHOST_AGENT_MODLE is not a setting", "NANOHOST_AGENT_MODEL?"),
        ("NANOHOST_MAX_CONTAINERS", "x", 'NANOHOST_MAX_CONTAINERS: host.max_containers is "x"', "whole number"),
        ("NANOHOST_CHANNELS_TELEGRAM", "x", "NANOHOST_CHANNELS_TELEGRAM names no key", "_TOKEN"),
    ],
)
def test_an_invalid_variable_is_refused_by_its_name(
    tmp_path: Path, variable: str, text: str, sentence: str, hint: str
) -> None:
    error = refused(tmp_path, environ={variable: text})
    assert sentence in str(error)
    assert hint in error.hint


@pytest.mark.parametrize("line", ['"tasks.create" = "hold"', 'tasks.create = "hold"'])
def test_an_action_in_the_guard_section_may_be_quoted_or_not(tmp_path: Path, line: str) -> None:
    assert loaded(tmp_path, f"[guard]\n{line}").section(GuardSettings).actions == {"tasks.create": "hold"}


def test_the_models_standard_variables_are_the_fallback(tmp_path: Path) -> None:
    environ = {"ANTHROPIC_BASE_URL": "http://gate", "ANTHROPIC_AUTH_TOKEN": "token", "ANTHROPIC_API_KEY": "key"}
    settings = loaded(tmp_path, '[agent]\nbase_url = "http://mine"', environ)
    assert settings.section(ModelSettings).base_url == "http://mine"
    assert settings.section(ModelSettings).key == "key"


@pytest.mark.parametrize(
    ("toml", "provider"),
    [
        ("", "demo"),
        ('[agent]\napi_key = "k"', "claude"),
        ('[agent]\nbase_url = "http://x"', "claude"),
        ('[host]\nprovider = "demo"\n[agent]\napi_key = "k"', "demo"),
    ],
)
def test_auto_selects_claude_if_a_key_or_address_is_set(tmp_path: Path, toml: str, provider: str) -> None:
    assert resolve_provider(loaded(tmp_path, toml)) == provider


def test_a_secret_may_be_in_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "bot").write_text("from-the-file\n")
    toml = '[agent]\napi_key = "env:KEY"\n[channels.telegram]\ntoken = "file:bot"'
    settings = loaded(tmp_path, toml, {"KEY": "from-the-variable"})
    assert collect_secrets(settings) == ("from-the-variable", "from-the-file")


def test_secrets_are_not_resolved_when_not_needed(tmp_path: Path) -> None:
    (tmp_path / "nanohost.toml").write_text('[agent]\napi_key = "env:NOWHERE"')
    assert load_settings(tmp_path, {}, resolve_secrets=False).section(ModelSettings).api_key is not None


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ('[agent]\napi_key = "env:KEY"', "agent.api_key points at the variable KEY, which is not set"),
        ('[agent]\napi_key = "file:none"', "agent.api_key points at"),
        ('[channels.slack.work]\napp_token = "env:KEY"', "channels.slack.work.app_token points at the variable KEY"),
    ],
)
def test_a_missing_secret_is_named_by_its_key(tmp_path: Path, toml: str, named: str) -> None:
    assert named in str(refused(tmp_path, toml))


def test_no_secret_is_in_the_repr_of_settings(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[agent]\napi_key = "hush"\n[channels.telegram]\ntoken = "hush"')
    assert "hush" not in repr((settings, channel_instances(settings)))
    assert "hush" not in str(settings)


def test_an_invalid_secret_is_refused_without_being_shown(tmp_path: Path) -> None:
    error = refused(tmp_path, "[agent]\napi_key = 987654")
    assert "987654" not in str(error) + error.hint


def test_each_table_of_a_channel_is_an_instance(tmp_path: Path) -> None:
    toml = '[channels.telegram]\ntoken = "a"\n[channels.telegram.work-bot]\ntoken = "b"\n[channels.terminal]'
    settings = loaded(tmp_path, toml, {"NANOHOST_CHANNELS_TELEGRAM_WORK_BOT_TOKEN": "c"})
    assert channel_instances(settings) == (
        ChannelInstance(name="telegram", instance="default", settings={"token": "a"}),
        ChannelInstance(name="telegram", instance="work-bot", settings={"token": "c"}),
        ChannelInstance(name="terminal", instance="default", settings={}),
    )


def test_a_channel_can_be_configured_by_variables_only(tmp_path: Path) -> None:
    settings = loaded(tmp_path, environ={"NANOHOST_CHANNELS_SLACK_APP_TOKEN": "x"})
    assert channel_instances(settings) == (
        ChannelInstance(name="slack", instance="default", settings={"app_token": "x"}),
    )


BLANKS = ["  s3cret", "s3cret \r\n", "\ufeffs3cret", "\u200bs3cret\u200b\n", "\ufeff \ts3cret\u00a0\n\n"]


@pytest.mark.parametrize("written", BLANKS)
def test_invisible_characters_around_a_secret_are_removed(tmp_path: Path, written: str) -> None:
    (tmp_path / "key").write_text(written, encoding="utf-8")
    for toml, environ in (
        ('[agent]\napi_key = "file:key"', {}),
        ('[agent]\napi_key = "env:KEY"', {"KEY": written}),
        ("", {"ANTHROPIC_API_KEY": written}),
        ("", {"NANOHOST_AGENT_API_KEY": written}),
    ):
        assert loaded(tmp_path, toml, environ).section(ModelSettings).key == "s3cret"
    assert collect_secrets(loaded(tmp_path, environ={"NANOHOST_CHANNELS_SLACK_APP_TOKEN": written})) == ("s3cret",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_secret_file_may_have_windows_line_endings_and_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "bot").write_bytes("s3cret\r\n".encode(encoding))
    assert collect_secrets(loaded(tmp_path, '[channels.telegram]\ntoken = "file:bot"')) == ("s3cret",)


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("hush\nhush", "which has more than one line"),
        ("hush\x00hush", "which has a character in it that cannot be seen"),
        ("hush\u200bhush", "which has a character in it that cannot be seen"),
        (" \ufeff\n", "which is empty"),
    ],
)
def test_an_unusable_secret_is_refused_with_the_reason_and_not_shown(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    error = refused(tmp_path, '[agent]\napi_key = "file:key"')
    assert f"agent.api_key points at {tmp_path / 'key'}, {why}" in str(error)
    assert "hush" not in str(error) + error.hint
    in_variable = refused(tmp_path, '[channels.telegram]\ntoken = "env:BOT"', {"BOT": content})
    assert f"channels.telegram.token points at the variable BOT, {why}" in str(in_variable)


def test_a_blank_variable_is_not_a_key(tmp_path: Path) -> None:
    settings = loaded(tmp_path, environ={"ANTHROPIC_API_KEY": " \n", "ANTHROPIC_AUTH_TOKEN": " token\n"})
    assert settings.section(ModelSettings).key == "token"
    assert resolve_provider(loaded(tmp_path, environ={"ANTHROPIC_API_KEY": " \n"})) == "demo"


def test_a_value_that_is_not_a_secret_keeps_its_whitespace(tmp_path: Path) -> None:
    [channel] = channel_instances(loaded(tmp_path, '[channels.telegram]\ngreeting = " hello "\ntoken = " t "'))
    assert channel.settings == {"greeting": " hello ", "token": "t"}


def test_a_channel_secret_may_have_several_lines(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_text("\ufeff-----BEGIN KEY-----\nabc\n-----END KEY-----\n", encoding="utf-8")
    [channel] = channel_instances(loaded(tmp_path, '[channels.forge]\nprivate_key = "file:app.pem"'))
    assert channel.settings == {"private_key": "-----BEGIN KEY-----\nabc\n-----END KEY-----"}


def test_a_provider_may_be_a_file_of_the_install(tmp_path: Path) -> None:
    toml, environ = '[host]\nprovider = "parrot"', {"NANOHOST_PROVIDER": "parrot"}
    with pytest.raises(SettingsError, match=r"NANOHOST_PROVIDER: host\.provider is "):
        loaded(tmp_path, "", environ)
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / "parrot.py").touch()
    assert resolve_provider(loaded(tmp_path, toml)) == resolve_provider(loaded(tmp_path, "", environ)) == "parrot"
