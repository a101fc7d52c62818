"""A command that changes a setting changes a line or two of nanohost.toml, and nothing else of it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from nanohost.config.settings_file import add_table, delete_secret, store_secret, update_table
from nanohost.errors import UsageError

NEW = {"api_key": "file:secrets/model-key", "base_url": 'https://a.example/"x"'}


@pytest.mark.parametrize(
    "before",
    [
        "",
        '[host]\nprovider = "claude"',
        '# mine\n[agent] # who thinks\nmodel = "m" # keep this\napi_key = "env:OLD"\n\n[host]\nwatch = true\n',
        "[host]\nwatch = true\n\n[agent]\n",
        '[channels.telegram]\ntoken = "env:T"\n[agent]\nbase_url = "http://old"\n# end\n[docker]\ncpus = 1.0\n',
        '\ufeff[agent]\r\nmodel = "m"\r\n',
    ],
)
def test_only_the_given_keys_change_and_the_rest_of_the_file_stays(tmp_path: Path, before: str) -> None:
    file = tmp_path / "nanohost.toml"
    file.write_bytes(before.encode())
    assert update_table(tmp_path, ("agent",), NEW) == file
    was, now = tomllib.loads(before.removeprefix("\ufeff")), tomllib.loads(file.read_text())
    assert now == {**was, "agent": {**was.get("agent", {}), **NEW}}
    kept = [line for line in before.removeprefix("\ufeff").splitlines() if not line.startswith(("api_key", "base_url"))]
    assert [line for line in kept if line not in file.read_text().splitlines()] == []
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "before",
    [
        'agent = { model = "m" }\n',
        'agent.model = "m"\n',
        '[agent]\nmodel = """\napi_key = 1\n"""\n',
        "[agent\n",
        'x = """\n[agent]\n"""\n',
    ],
)
def test_a_file_in_an_unusual_form_is_left_unchanged_with_a_hint_of_what_to_write(tmp_path: Path, before: str) -> None:
    file = tmp_path / "nanohost.toml"
    file.write_text(before)
    with pytest.raises(UsageError, match="left as it is") as refused:
        update_table(tmp_path, ("agent",), NEW)
    assert 'below [agent] in it: api_key = "file:secrets/model-key"' in refused.value.hint
    assert file.read_text() == before


def test_a_secret_is_stored_readable_by_its_owner_only(tmp_path: Path) -> None:
    assert store_secret(tmp_path, "model-key", "sk-one") == "file:secrets/model-key"
    assert store_secret(tmp_path, "model-key", "sk-two") == "file:secrets/model-key"
    file = tmp_path / "secrets" / "model-key"
    assert file.read_text() == "sk-two\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_not_text_is_refused_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "nanohost.toml"
    file.write_bytes(b"[host]\n# \xff\n")
    with pytest.raises(UsageError, match="has no place for a table"):
        add_table(tmp_path, ("channels", "slack"), {"token": "env:T"})
    assert file.read_bytes() == b"[host]\n# \xff\n"


def test_a_secret_that_cannot_be_deleted_is_named_with_the_command_to_type(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "model-key").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"secrets/model-key cannot be deleted: ") as error:
        delete_secret(tmp_path, "model-key")
    assert error.value.hint == f"rm {tmp_path}/secrets/model-key"
