"""Names of actions, channels and channels' keys in nanohost.toml: misspelt ones are reported with all mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nanohost.commands.settings_check import load_validated_settings
from nanohost.config.home import Home
from nanohost.errors import SettingsError


def loaded(home: Path, toml: str, environ: Mapping[str, str] | None = None) -> None:
    (home / "nanohost.toml").write_text(toml, encoding="utf-8")
    load_validated_settings(Home(home), environ or {})


def refused(home: Path, toml: str, environ: Mapping[str, str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        loaded(home, toml, environ)
    return caught.value


@pytest.mark.behaviour("OP-05")
def test_misspelt_actions_channels_and_keys_are_reported_together(tmp_path: Path) -> None:
    toml = """[host]
watsh = true
[guard]
"tasks.creat" = "hold"
[channels.telegrm]
token = "x"
[channels.telegram]
tokn = "x"
[channels.discord.work]
tokens = "x"
"""
    head, *said = str(refused(tmp_path, toml)).splitlines()
    assert head == f"5 mistakes in {tmp_path / 'nanohost.toml'}:"
    assert said == [
        "  line 2: [host] has no key watsh (did you mean watch?)",
        "  line 4: [guard] names tasks.creat, and there is no such action (did you mean tasks.create?)",
        "  line 5: [channels.telegrm] is of no channel that is here (did you mean telegram?)",
        "  line 8: [channels.telegram] has no key tokn (did you mean token?)",
        "  line 10: [channels.discord.work] has no key tokens (did you mean token?)",
    ]


def test_a_misspelt_key_in_an_environment_variable_is_reported_by_its_variable(tmp_path: Path) -> None:
    error = refused(tmp_path, "", {"NANOHOST_CHANNELS_TELEGRAM_TOKN": "x"})
    said = "the variable NANOHOST_CHANNELS_TELEGRAM_TOKN: [channels.telegram] has no key tokn"
    assert (str(error), error.hint) == (said, "did you mean token?")


@pytest.mark.parametrize(
    "toml",
    [
        "",
        '[channels.telegrm]\nenabled = false\ntoken = "x"',
        '[channels.telegram]\nenabled = false\ntokn = "x"',
        '[channels.forge]\nurl = "x"',
        '[channels.telegram]\ntoken = "x"\ntoken_of_old = "x"',
        '[channels.terminal]\n[guard]\ntasks.create = "hold"',
    ],
)
def test_settings_that_are_disabled_or_not_similar_to_others_are_accepted(tmp_path: Path, toml: str) -> None:
    loaded(tmp_path, toml)


def test_a_channel_in_the_installs_folder_is_known(tmp_path: Path) -> None:
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "telegrm.py").write_text("", encoding="utf-8")
    loaded(tmp_path, '[channels.telegrm]\nkey = "x"')


@pytest.mark.behaviour("OP-05")
def test_an_installed_action_may_be_named_without_a_running_host(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "add-an-action.md").read_text(encoding="utf-8")
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "rename.py").write_text(page.split("```python\n")[1].partition("```")[0], encoding="utf-8")
    loaded(tmp_path, '[guard]\n"agent.rename" = "hold"\n')
    assert refused(tmp_path, '[guard]\n"agent.renam" = "hold"\n').hint == "did you mean agent.rename?"
