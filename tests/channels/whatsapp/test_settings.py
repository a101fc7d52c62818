"""The settings of WhatsApp, and which file a backend is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels import _whatsapp_linked as linked
from channels import whatsapp
from channels.whatsapp import WhatsAppChannel, create, read_settings
from nanohost.channel_api import ChannelContext, ChannelError
from nanohost.channels.header import ChannelSetting, read_header
from nanohost.channels.loader import discover, load
from nanohost.commands.channel_setup import complete_settings, update_settings
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator

STAND_IN = """
def create(context):
    return ("linked", context.settings["backend"])
"""


def _context(tmp_path: Path, **settings: object) -> ChannelContext:
    return ChannelContext(instance="default", settings=settings, runtime_dir=tmp_path, home=tmp_path)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="lacks access_token, app_secret, verify_token"):
        create(_context(tmp_path, phone_number_id="1"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("phone_number_id", "+49 170"), ("listen", "8085"), ("path", "hook"), ("graph_url", "graph"), ("colour", "red")],
)
def test_an_invalid_setting_is_named_without_secrets(tmp_path: Path, key: str, value: str) -> None:
    settings = {**WhatsAppSimulator().settings(), "graph_url": "https://example.invalid", key: value}
    with pytest.raises(ChannelError, match=key) as wrong:
        create(_context(tmp_path, **settings))
    assert "simulated" not in str(wrong.value).lower()


def test_a_number_id_may_be_unquoted_and_secrets_are_not_shown() -> None:
    table = {"phone_number_id": 4711, "access_token": "aaaa", "app_secret": "bbbb", "verify_token": "cccc"}
    settings = read_settings(table)
    assert settings.phone_number_id == "4711"
    assert not any(secret in repr(settings) for secret in ("aaaa", "bbbb", "cccc"))


def test_the_cloud_backend_is_the_default_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    table = {"phone_number_id": "1", "access_token": "a", "app_secret": "b", "verify_token": "c"}
    assert isinstance(create(_context(tmp_path, **table)), WhatsAppChannel)
    with pytest.raises(ChannelError, match="carrier-pigeon"):
        create(_context(tmp_path, backend="carrier-pigeon"))


def test_the_linked_backend_is_a_file_beside_the_channel_and_not_a_channel(tmp_path: Path) -> None:
    (tmp_path / "whatsapp.py").write_text(Path(whatsapp.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "_whatsapp_linked.py").write_text(STAND_IN, encoding="utf-8")
    found = discover([tmp_path])
    assert list(found.available) == ["whatsapp"]
    made: object = load(found.available["whatsapp"])(_context(tmp_path, backend="linked"))
    assert made == ("linked", "linked")


@pytest.mark.parametrize(
    ("backend", "asked_for"),
    [
        ("", "backend phone_number_id access_token app_secret verify_token listen path graph_url"),
        ("linked", "backend consent phone"),
    ],
)
def test_an_operator_is_asked_for_the_settings_of_the_chosen_backend(
    tmp_path: Path, backend: str, asked_for: str
) -> None:
    answers = {"backend": backend, "phone_number_id": "1", "consent": linked.CONSENT}
    asked: list[ChannelSetting] = []

    def ask(setting: ChannelSetting) -> str:
        asked.append(setting)
        return answers.get(setting.name, "" if setting.default is not None else "said")

    table = complete_settings(read_header(Path(whatsapp.__file__)).settings, {}, ask)
    assert [one.name for one in asked] == asked_for.split()
    create(_context(tmp_path, **table))
    assert linked.CONSENT in " ".join(one.help for one in asked) or not backend


def test_an_operator_can_switch_between_the_backends(tmp_path: Path) -> None:
    settings = read_header(Path(whatsapp.__file__)).settings
    cloud = {"phone_number_id": "1", "access_token": "a", "app_secret": "b", "verify_token": "c", "path": "/mine"}
    answers = {"backend": "linked", "consent": linked.CONSENT, "phone": "+49 170 1"}
    asked: list[str] = []

    def ask(setting: ChannelSetting) -> str:
        asked.append(setting.name)
        return answers.get(setting.name, "")

    number = update_settings(settings, cloud, {}, ask)
    assert asked == ["backend", "consent", "phone"]
    assert number == answers
    create(_context(tmp_path, **number))
    back = update_settings(settings, number, {"backend": "cloud", **cloud}, ask)
    assert back == {"backend": "cloud", **cloud}
    assert isinstance(create(_context(tmp_path, **back)), WhatsAppChannel)


@pytest.mark.parametrize("settings", [{}, {"backend": "linked"}, {"backend": "linked", "consent": 5}, {"backend": "x"}])
def test_settings_of_another_instance_are_named_as_such(tmp_path: Path, settings: dict[str, object]) -> None:
    context = ChannelContext(instance="work", settings=settings, runtime_dir=tmp_path, home=tmp_path)
    with pytest.raises(ChannelError, match=r"\[channels\.whatsapp\.work\]"):
        create(context)
