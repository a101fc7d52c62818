"""Setting a channel up: settings are asked for, checked, and only then written."""

from __future__ import annotations

import io
import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.channel_api import Condition
from nanohost.channels.header import ChannelSetting
from nanohost.channels.loader import discover
from nanohost.channels.manager import ChannelManager
from nanohost.commands.channel_setup import complete_settings, parse_settings, update_settings
from nanohost.config.settings import channel_instances, load_settings
from nanohost.config.settings_file import Table, add_table, to_toml
from nanohost.errors import ChannelLoadError, SettingsError, UsageError
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.simulated_chat import find_simulator as find_simulator
from nanohost.testing.simulated_chat import serve_terminal

from .conftest import Operator

CHANNEL = """
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "pigeon"
# api = 1
# [[tool.nanohost.settings]]
# name = "token"
# help = "what the loft gave you"
# secret = true
# [[tool.nanohost.settings]]
# name = "loft"
# help = "where they live"
# default = "https://loft.example"
# ///
from nanohost.channel_api import AuthFailed


class Pigeon:
    def __init__(self, settings):
        self.settings = settings

    async def check(self):
        if self.settings["token"] != "coo":
            raise AuthFailed("the loft does not know this token")
        return f"We are a pigeon of {self.settings.get('loft', 'the usual loft')}."


def create(context):
    if "token" not in context.settings:
        raise ValueError("token is missing")
    return Pigeon(context.settings)
"""


@pytest.fixture
def pigeon(operator: Operator) -> Operator:
    folder = operator.context.home.channels
    folder.mkdir()
    (folder / "pigeon.py").write_text(CHANNEL)
    return operator


def written(operator: Operator) -> Path:
    return operator.context.home.root / "nanohost.toml"


@pytest.mark.behaviour("OP-05")
async def test_a_channel_is_added_once_its_settings_pass_the_check(
    pigeon: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(pigeon).write_text('[host]\nruntime = "process"')
    monkeypatch.setenv("LOFT_TOKEN", "coo")
    said = await pigeon.run("channels create", name="pigeon", set=["token=env:LOFT_TOKEN", "loft=https://my loft"])
    assert said["said"] == "We are a pigeon of https://my loft."
    assert tomllib.loads(written(pigeon).read_text()) == {
        "host": {"runtime": "process"},
        "channels": {"pigeon": {"token": "env:LOFT_TOKEN", "loft": "https://my loft"}},
    }
    assert written(pigeon).stat().st_mode & 0o777 == 0o600
    assert (await pigeon.run("channels check", name="pigeon"))["said"] == said["said"]


async def test_a_second_instance_is_added_beside_the_first(pigeon: Operator) -> None:
    for name in ("pigeon", "pigeon:work"):
        await pigeon.run("channels create", name=name, set=["token=coo"])
    settings = load_settings(pigeon.context.home.root, {})
    assert settings.channels == {"pigeon": {"token": "coo", "work": {"token": "coo"}}}
    with pytest.raises(UsageError, match="has no place for a table"):
        await pigeon.run("channels create", name="pigeon", set=["token=other"], anyway=True)
    assert load_settings(pigeon.context.home.root, {}).channels == settings.channels


async def test_a_typed_secret_is_stored_in_a_file_that_only_its_owner_can_read(pigeon: Operator) -> None:
    for name in ("pigeon", "pigeon:work"):
        await pigeon.run("channels create", name=name, set=["token=coo", "loft=here"])
    assert "coo" not in written(pigeon).read_text()
    table = tomllib.loads(written(pigeon).read_text())["channels"]["pigeon"]
    assert (table["token"], table["loft"]) == ("file:secrets/pigeon.token", "here")
    assert table["work"]["token"] == "file:secrets/pigeon.work.token"
    for reference in (table["token"], table["work"]["token"]):
        file = pigeon.context.home.root / reference.removeprefix("file:")
        assert (file.read_text(), file.stat().st_mode & 0o777) == ("coo\n", 0o600)
        assert file.parent.stat().st_mode & 0o777 == 0o700


# --- changed later ------------------------------------------------------------------------------------------------

HAND_WRITTEN = """\
# mine
[host]
runtime = "process"   # for now

[channels.pigeon]
# the loft behind the house
loft = "here"  # east wing
token = "env:LOFT_TOKEN"

# the other one
[channels.pigeon.work]
token = "coo"
"""


@pytest.fixture
def kept(pigeon: Operator, monkeypatch: pytest.MonkeyPatch) -> Operator:
    written(pigeon).write_text(HAND_WRITTEN)
    monkeypatch.setenv("LOFT_TOKEN", "coo")
    return pigeon


async def test_a_setting_of_a_channel_is_changed_and_the_rest_of_the_file_stays(kept: Operator) -> None:
    said = await kept.run("channels update", name="pigeon", set=["loft=there", "size=7"])
    assert said["said"] == "We are a pigeon of there."
    expected = HAND_WRITTEN.replace('loft = "here"  # east wing', 'loft = "there"').replace(
        'token = "env:LOFT_TOKEN"\n', 'token = "env:LOFT_TOKEN"\nsize = "7"\n'
    )
    assert written(kept).read_text() == expected
    await kept.run("channels update", name="pigeon", set=["size=", "loft="])
    table = tomllib.loads(written(kept).read_text())["channels"]["pigeon"]
    assert table == {"token": "env:LOFT_TOKEN", "work": {"token": "coo"}}


@pytest.mark.behaviour("OP-05")
async def test_an_update_that_fails_its_check_changes_nothing(kept: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ChannelLoadError, match="the loft does not know this token"):
        await kept.run("channels update", name="pigeon:work", set=["token=wrong"])
    with pytest.raises(UsageError, match="token cannot be left out"):
        await kept.run("channels update", name="pigeon", set=["token="])
    with pytest.raises(UsageError, match="nothing is to be changed"):
        await kept.run("channels update", name="pigeon")
    with pytest.raises(UsageError, match="is not set up"):
        await kept.run("channels update", name="pigeon:third", set=["token=coo"])
    assert written(kept).read_text() == HAND_WRITTEN
    assert not (kept.context.home.root / "secrets").exists()


async def test_a_new_secret_replaces_the_stored_one(kept: Operator) -> None:
    await kept.run("channels update", name="pigeon:work", set=["token=bad"], anyway=True)
    await kept.run("channels update", name="pigeon:work", set=["token=coo"])
    assert load_settings(kept.context.home.root, {"LOFT_TOKEN": "x"}).channels["pigeon"]["work"] == {"token": "coo"}
    assert (kept.context.home.root / "secrets" / "pigeon.work.token").read_text() == "coo\n"


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("instead", ["", "env:LOFT_PIN", "file:mine"])
async def test_a_secret_removed_or_moved_elsewhere_is_deleted_from_the_disk(
    kept: Operator, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOFT_PIN", "1")
    (kept.context.home.root / "mine").write_text("1\n")
    secrets = kept.context.home.root / "secrets"
    await kept.run("channels update", name="pigeon:work", set=["token=coo", "loft_token=x", "pin_token=1"])
    await kept.run("channels update", name="pigeon:work", set=["loft_token=", f"pin_token={instead}"])
    assert [file.name for file in secrets.iterdir()] == ["pigeon.work.token"]
    assert (kept.context.home.root / "mine").exists(), "no command made it"


@pytest.mark.behaviour("OP-05")
async def test_a_secret_used_by_another_table_is_kept(kept: Operator) -> None:
    root = kept.context.home.root
    await kept.run("channels update", name="pigeon:work", set=["token=coo", "spare_token=x"])
    await kept.run("channels update", name="pigeon", set=[f"token=file:{root}/secrets/pigeon.work.token"])
    moved = ["token=env:LOFT_TOKEN", "spare_token=", "other=file:secrets/./pigeon.work.spare_token"]
    await kept.run("channels update", name="pigeon:work", set=moved)
    files = sorted(file.name for file in (root / "secrets").iterdir())
    assert files == ["pigeon.work.spare_token", "pigeon.work.token"]


async def test_a_disabled_channel_stays_configured_and_is_not_started(
    kept: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.run("channels disable", name="pigeon")
    monkeypatch.delenv("LOFT_TOKEN")
    settings = load_settings(kept.context.home.root, {})  # a disabled channel needs no secret
    assert [(one.instance, one.is_enabled) for one in channel_instances(settings)] == [
        ("default", False),
        ("work", True),
    ]
    later = Operator(replace(kept.context, settings=settings))
    rows = {row["name"]: row for row in await later.run("channels list")}
    assert rows["pigeon"]["instances"] == "default: disabled, work: set up"
    with pytest.raises(UsageError, match="pigeon:default is disabled") as refused:
        await later.run("pair", channel="pigeon")
    assert refused.value.hint == "nanohost channels enable pigeon"
    with pytest.raises(UsageError, match="disabled already"):
        await kept.run("channels disable", name="pigeon")
    monkeypatch.setenv("LOFT_TOKEN", "coo")
    assert "But it is disabled" in (await kept.run("channels check", name="pigeon"))["said"]
    await kept.run("channels enable", name="pigeon")
    assert written(kept).read_text() == HAND_WRITTEN


async def test_a_channel_is_deleted_together_with_its_stored_secrets(kept: Operator) -> None:
    await kept.run("channels update", name="pigeon:work", set=["token=bad"], anyway=True)
    await kept.run("channels delete", name="pigeon:work")
    assert list((kept.context.home.root / "secrets").iterdir()) == []
    assert tomllib.loads(written(kept).read_text())["channels"] == {
        "pigeon": {"loft": "here", "token": "env:LOFT_TOKEN"}
    }
    await kept.run("channels delete", name="pigeon")
    assert tomllib.loads(written(kept).read_text()) == {"host": {"runtime": "process"}}
    with pytest.raises(UsageError, match="is not set up"):
        await kept.run("channels delete", name="pigeon")


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    "text",
    [
        'channels.pigeon = { token = "coo" }\n',
        '[channels]\npigeon.token = "coo"\n',
        '[channels.pigeon]\ntoken = """\ncoo"""\nloft = """\n[channels.pigeon]\n"""\n',
    ],
)
async def test_a_settings_file_in_an_unusual_form_is_not_changed(pigeon: Operator, text: str) -> None:
    written(pigeon).write_text(text)
    for words, more in (("update", {"set": ["loft=there"]}), ("disable", {}), ("delete", {})):
        with pytest.raises(UsageError, match="in a way that no command can change safely"):
            await pigeon.run(f"channels {words}", name="pigeon", **more)
        assert written(pigeon).read_text() == text


@pytest.mark.behaviour("OP-05")
async def test_enabled_must_be_a_boolean(tmp_path: Path) -> None:
    (tmp_path / "nanohost.toml").write_text('[channels.pigeon.work]\nenabled = "no"\n')
    with pytest.raises(SettingsError, match=r'channels\.pigeon\.work\.enabled is "no"'):
        load_settings(tmp_path, {})


@pytest.mark.behaviour("OP-05")
async def test_settings_that_fail_the_check_are_saved_only_on_demand(pigeon: Operator) -> None:
    with pytest.raises(ChannelLoadError, match="the loft does not know this token; nothing was saved"):
        await pigeon.run("channels create", name="pigeon", set=["token=wrong"])
    assert not written(pigeon).exists()
    saved = await pigeon.run("channels create", name="pigeon", set=["token=wrong"], anyway=True)
    assert saved["said"] == "it does not work yet: channel pigeon: the loft does not know this token"
    with pytest.raises(ChannelLoadError, match="the loft does not know this token") as refused:
        await pigeon.run("channels check", name="pigeon")
    assert refused.value.hint == "nanohost channels update pigeon"


@pytest.mark.behaviour("OP-05")
async def test_a_missing_setting_is_named_with_its_purpose(pigeon: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="token has to be given: what the loft gave you"):
        await pigeon.run("channels create", name="pigeon")
    with pytest.raises(UsageError, match="is not set up"):
        await pigeon.run("channels check", name="pigeon")
    with pytest.raises(UsageError, match="there is no channel called owl"):
        await pigeon.run("channels create", name="owl")


def test_a_settings_file_that_is_a_symlink_stays_one_and_keeps_its_owner(tmp_path: Path) -> None:
    there = tmp_path / "elsewhere.toml"
    there.write_text("[host]\n")
    if os.geteuid() == 0:
        os.chown(there, 4711, 4712)
    before = there.stat()
    (tmp_path / "home").mkdir()
    link = tmp_path / "home" / "nanohost.toml"
    link.symlink_to(there)
    add_table(tmp_path / "home", ("channels", "pigeon", "work"), {"token": "coo"})
    assert link.is_symlink()
    assert tomllib.loads(there.read_text())["channels"]["pigeon"]["work"] == {"token": "coo"}
    after = there.stat()
    assert (after.st_uid, after.st_gid, after.st_mode & 0o777) == (before.st_uid, before.st_gid, 0o600)


def test_a_person_is_asked_for_missing_settings() -> None:
    settings = [
        ChannelSetting(name="token", help="t"),
        ChannelSetting(name="port", help="p", default=80),
        ChannelSetting(name="a", help="", default=""),
    ]
    asked: list[str] = []

    def ask(setting: ChannelSetting) -> str:
        asked.append(setting.name)
        return {"port": "8080"}.get(setting.name, "")

    assert complete_settings(settings, parse_settings(["token=x=y", "extra=a b"]), ask) == {
        "token": "x=y",
        "extra": "a b",
        "port": 8080,
    }
    assert asked == ["port", "a"]
    for wrong in ("token", "=x", "To-ken=x"):
        with pytest.raises(UsageError):
            parse_settings([wrong])


def test_a_setting_made_irrelevant_by_another_is_not_asked_for() -> None:
    settings = [
        ChannelSetting(name="backend", help="", default="cloud"),
        ChannelSetting(name="token", help="", only_if="backend=cloud"),
        ChannelSetting(name="consent", help="", only_if="backend=linked"),
    ]

    def answers(setting: ChannelSetting) -> str:
        return "" if setting.name == "backend" else "said"

    assert complete_settings(settings, {}, answers) == {"token": "said"}
    assert complete_settings(settings, parse_settings(["backend=linked"]), answers) == {
        "backend": "linked",
        "consent": "said",
    }


TWO_BACKENDS = [
    ChannelSetting(name="backend", help="", default="cloud"),
    ChannelSetting(name="token", help="", secret=True, only_if="backend=cloud"),
    ChannelSetting(name="path", help="", default="/hook", only_if="backend=cloud"),
    ChannelSetting(name="consent", help="", only_if="backend=linked"),
]
CLOUD, LINKED = {"token": "coo", "path": "/mine", "own": 1}, {"backend": "linked", "consent": "yes", "own": 1}


@pytest.mark.parametrize(
    ("before", "answers", "offered", "after"),
    [
        (CLOUD, {"backend": "linked", "consent": "yes"}, {"backend": "cloud", "consent": None}, LINKED),
        (
            LINKED,
            {"backend": "cloud", "token": "new"},
            {"backend": "linked", "token": None, "path": "/hook"},  # there is no existing token to keep
            {"backend": "cloud", "token": "new", "own": 1},
        ),
    ],
)
def test_choosing_another_backend_asks_for_the_settings_it_needs(
    before: Table, answers: Mapping[str, str], offered: Table, after: Table
) -> None:
    asked: dict[str, object] = {}

    def ask(setting: ChannelSetting) -> str:
        asked[setting.name] = setting.default
        return answers.get(setting.name, "")

    assert update_settings(TWO_BACKENDS, before, {}, ask) == after
    assert asked == offered


def nobody(_: ChannelSetting) -> str:
    """Fails the test when a question is asked."""
    return ""


def test_settings_of_the_old_backend_are_removed_when_the_backend_changes() -> None:
    assert update_settings(TWO_BACKENDS, CLOUD, parse_settings(["backend=linked", "consent=yes"]), nobody) == LINKED
    back = update_settings(TWO_BACKENDS, LINKED, parse_settings(["backend=cloud", "token=coo"]), nobody)
    assert back == {"backend": "cloud", "token": "coo", "own": 1}
    assert update_settings(TWO_BACKENDS, {**CLOUD, "backend": "cloud"}, parse_settings(["backend="]), nobody) == CLOUD
    with pytest.raises(UsageError, match="consent cannot be left out"):
        update_settings(TWO_BACKENDS, CLOUD, parse_settings(["backend=linked"]), nobody)


def test_settings_of_another_backend_are_passed_to_the_channel_unchanged() -> None:
    both = {**LINKED, "token": "coo"}
    assert update_settings(TWO_BACKENDS, LINKED, parse_settings(["token=coo"]), nobody) == both
    assert update_settings(TWO_BACKENDS, both, parse_settings(["own=2"]), nobody) == {**both, "own": "2"}


@pytest.mark.parametrize("value", ['a"b', "back\\slash", "ü 😀 \x7f\x01", "new\nline", True, 7])
def test_written_settings_read_back_unchanged(value: object) -> None:
    assert tomllib.loads(to_toml(("channels", "x"), {"key": value})) == {"channels": {"x": {"key": value}}}


@pytest.mark.behaviour("OP-01")
async def test_a_channel_that_reports_a_problem_is_shown_with_its_message(tmp_path: Path) -> None:
    able = FullFeatureChannel()
    connections = ChannelManager(
        catalogue=discover([]),
        configured=[],
        home=tmp_path,
        runtime_dir=tmp_path,
        preloaded={("able", "default"): able},
    )
    async with connections.opened():
        [state] = connections.connection_states()
        assert (state.state, state.detail) == ("connected", "")
        able.current_condition = (Condition.AUTH_FAILED, "mend the token")
        [state] = connections.connection_states()
        assert (state.state, state.detail) == ("auth_failed", "mend the token")


async def test_the_channel_list_shows_what_is_configured(pigeon: Operator) -> None:
    rows = {row["name"]: row for row in await pigeon.run("channels list")}
    assert (rows["pigeon"]["usable"], rows["pigeon"]["instances"]) == (True, "")


async def test_a_simulated_platform_can_send_events_other_than_text() -> None:
    shown, telegram = io.StringIO(), find_simulator("telegram")
    written = await serve_terminal(telegram, io.StringIO("/send poll\n/send pigeon\n"), shown)
    assert written == 1
    assert "/send KIND sends what is more than words; /send alone lists what there is" in shown.getvalue()
    assert "there is nothing called 'pigeon' to send: /send alone lists what there is" in shown.getvalue()
    assert len(telegram.screen(telegram.dm, sender=None)) == 1


async def test_a_simulated_platform_explains_its_use_and_takes_typed_messages() -> None:
    shown = io.StringIO()
    written = await serve_terminal(find_simulator("telegram"), io.StringIO("hello\n\n/press Yes\n"), shown)
    assert written == 1
    said = shown.getvalue()
    assert "[channels.telegram]\ntoken = " in said
    assert "nanohost pair telegram" in said
    assert "no message has a button 'Yes'" in said
    with pytest.raises(UsageError, match="there is no simulator of 'pigeon'"):
        find_simulator("pigeon")


@pytest.mark.behaviour("OP-05")
async def test_the_terminal_needs_no_setup_and_no_command_suggests_it(operator: Operator) -> None:
    said = await operator.run("channels check", name="terminal")
    assert said == {"channel": "terminal:default", "said": "it is always switched on, and has nothing to set up"}
    with pytest.raises(UsageError, match="the terminal is always switched on") as refused:
        await operator.run("channels create", name="terminal")
    assert refused.value.hint == "nanohost chat"
    assert not written(operator).exists()


@pytest.mark.behaviour("OP-05")
async def test_an_unknown_channel_is_not_offered_for_setup(pigeon: Operator) -> None:
    with pytest.raises(UsageError, match="there is no channel called pidgin"):
        await pigeon.run("channels check", name="pidgin")
    with pytest.raises(UsageError, match="no channel 'smoke' is set up, but these are: terminal") as refused:
        await pigeon.run("pair", channel="smoke")
    assert refused.value.hint == "nanohost channels list"
    with pytest.raises(UsageError, match="no channel 'pigeon' is set up") as refused:
        await pigeon.run("pair", channel="pigeon")
    assert refused.value.hint == "nanohost channels create pigeon"


@pytest.mark.behaviour("OP-05")
async def test_a_misspelt_key_is_answered_with_the_right_one(pigeon: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="token has to be given") as refused:
        await pigeon.run("channels create", name="pigeon", set=["tokn=coo"])
    assert refused.value.hint == "tokn is no setting of it: did you mean token?"
    written(pigeon).write_text('[channels.pigeon]\ntokn = "coo"\n')
    with pytest.raises(ChannelLoadError, match="token is missing") as wrong:
        await pigeon.run("channels check", name="pigeon")
    assert wrong.value.hint == "tokn is no setting of it: did you mean token?"
    written(pigeon).write_text('[channels.pigeon]\ntoken = "coo"\nloff = "here"\nown = 1\n')
    said = (await pigeon.run("channels check", name="pigeon"))["said"]
    assert said == "We are a pigeon of the usual loft. But loff is no setting of it: did you mean loft?"
