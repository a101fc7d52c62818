"""Discovery and loading: one bad file does not affect others, and nothing is imported before it is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nanohost.channel_api import ChannelContext
from nanohost.channels.loader import AvailableChannel, ChannelCatalogue, UnavailableChannel, discover, load
from nanohost.errors import ChannelLoadError, UsageError

SHIPPED = Path(__file__).parents[2] / "channels"

WORKS = """
from nanohost.testing.fake_channel import FakeChannel

def create(context):
    return FakeChannel().create(context)
"""


def write_channel(
    folder: Path, name: str, body: str = WORKS, *, file: str = "", api: int = 1, dependencies: str = "[]"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file or f"{name}.py")
    table = f'[tool.nanohost]\n# kind = "channel"\n# name = "{name}"\n# api = {api}'
    path.write_text(f"# /// script\n# dependencies = {dependencies}\n# {table}\n# ///\n{body}")
    return path


def write_package(site: Path, module: str, entry_point: str = "faraway") -> None:
    """An installed package that announces a channel."""
    info = site / f"{entry_point}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {entry_point}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nanohost.channels]\n{entry_point} = {module}\n")


def unavailable_channel(catalogue: ChannelCatalogue, name: str) -> UnavailableChannel:
    (broken,) = [one for one in catalogue.unavailable if one.name == name]
    assert name not in catalogue.available
    return broken


def test_shipped_channels_are_discovered_like_any_other(tmp_path: Path) -> None:
    write_channel(tmp_path / "channels", "mine")
    catalogue = discover([SHIPPED, tmp_path / "channels"])
    assert {"terminal", "mine"} <= set(catalogue.available)
    channel = load(catalogue.find("terminal"))(
        ChannelContext(instance="terminal", settings={}, runtime_dir=tmp_path, home=tmp_path)
    )
    assert channel.capabilities.idempotent_send


def test_a_folder_named_twice_counts_once_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    write_channel(tmp_path / "a", "mine")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    catalogue = discover([tmp_path / "a", tmp_path / "b", tmp_path / "a" / ".." / "a", tmp_path / "none"])
    assert (list(catalogue.available), catalogue.unavailable) == (["mine"], ())


def test_a_name_found_twice_is_unusable_and_names_both_files(tmp_path: Path) -> None:
    first, second = write_channel(tmp_path / "a", "mine"), write_channel(tmp_path / "b", "mine", file="other.py")
    write_channel(tmp_path / "b", "fine")
    catalogue = discover([tmp_path / "a", tmp_path / "b"])
    assert list(catalogue.available) == ["fine"]
    reason = unavailable_channel(catalogue, "mine").reason
    assert str(first) in reason
    assert str(second) in reason


def test_a_problem_in_one_file_is_reported_and_does_not_affect_others(tmp_path: Path) -> None:
    write_channel(tmp_path, "fine")
    write_channel(tmp_path, "future", api=99)
    write_channel(tmp_path, "past", api=0)
    write_channel(tmp_path, "needy", dependencies='["httpx", "no-such-library[x]>=2"]')
    write_channel(tmp_path, "crooked", "def create(:\n")
    write_channel(tmp_path, "nulls", "\0")
    (tmp_path / "headless.py").write_text("raise SystemExit('imported!')")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.py").symlink_to(tmp_path / "circle.py")
    (tmp_path / "_shared.py").write_text("helpers of a channel")
    catalogue = discover([tmp_path])
    assert list(catalogue.available) == ["fine"]
    assert "channel API 99; this nanohost speaks 1" in unavailable_channel(catalogue, "future").reason
    assert unavailable_channel(catalogue, "future").hint == "update nanohost"
    assert "look for a version of past" in unavailable_channel(catalogue, "past").hint
    assert "needs no-such-library[x]>=2, which" in unavailable_channel(catalogue, "needy").reason
    assert "pip install 'no-such-library[x]>=2'" in unavailable_channel(catalogue, "needy").hint
    assert "crooked.py, line 8: " in unavailable_channel(catalogue, "crooked").reason
    assert "no channel header" in unavailable_channel(catalogue, "headless").reason
    assert {"nulls", "folder", "dangling", "circle"} <= {one.name for one in catalogue.unavailable}
    assert len(catalogue.unavailable) == 9


@pytest.mark.behaviour("AC-01", "AC-03")
@pytest.mark.parametrize("name", ["local", "agent", "host"])
def test_reserved_names_of_the_host_are_refused_as_channel_names(tmp_path: Path, name: str) -> None:
    write_channel(tmp_path, name)
    write_channel(tmp_path, "fine")
    catalogue = discover([tmp_path])
    assert list(catalogue.available) == ["fine"]
    broken = unavailable_channel(catalogue, name)
    assert f"{name}:somebody" in broken.reason
    assert broken.hint == "give it another name in its header"


def test_a_conditional_dependency_is_left_to_the_import(tmp_path: Path) -> None:
    write_channel(tmp_path, "mine", dependencies="""["no-such-library; sys_platform == 'win32'", "Discord.PY"]""")
    assert list(discover([tmp_path]).available) == ["mine"]


def test_discovery_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    explodes = "raise RuntimeError('imported!')"
    write_channel(tmp_path / "channels", "mine", explodes)
    write_package(tmp_path / "site", "far.away.channel")
    write_channel(tmp_path / "site" / "far" / "away", "faraway", explodes, file="channel.py")
    (tmp_path / "site" / "far" / "__init__.py").write_text(explodes)
    (tmp_path / "site" / "far" / "away" / "__init__.py").write_text(explodes)
    catalogue = discover([tmp_path / "channels"])
    assert set(catalogue.available) == {"mine", "faraway"}
    assert "far" not in sys.modules


def test_an_installed_channel_is_found_by_its_entry_point_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_package(tmp_path / "site", "faraway_channel")
    path = write_channel(tmp_path / "site", "faraway", file="faraway_channel.py")
    entry = discover([]).find("faraway")
    assert entry == AvailableChannel(name="faraway", path=path, dependencies=())
    assert callable(load(entry))


@pytest.mark.parametrize("module", ["gone", "gone.deeper", "json.faraway", "os.faraway", "sys", "no name!", ""])
def test_an_invalid_entry_point_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_package(tmp_path / "site", module)
    write_channel(tmp_path / "site", "unasked", file="faraway.py")
    broken = unavailable_channel(discover([]), "faraway")
    assert (broken.path, "faraway announces the module" in broken.reason) == (None, True)


def test_an_unavailable_channel_is_refused_with_the_reason(tmp_path: Path) -> None:
    write_channel(tmp_path, "fine")
    write_channel(tmp_path, "future", api=99)
    catalogue = discover([tmp_path])
    with pytest.raises(ChannelLoadError, match=r"channel future cannot be used: .*API 99") as raised:
        catalogue.find("future")
    assert raised.value.hint == "update nanohost"
    for name, hint in (("telegraph", "known here: fine"), ("fin", "did you mean fine?")):
        with pytest.raises(UsageError, match=f"no channel called {name}") as wrong:
            catalogue.find(name)
        assert wrong.value.hint == hint


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('bad luck')", "ValueError: bad luck"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("return", "SyntaxError"),
        ("pass", "has no function create"),
        ("create = 5", "has no function create"),
    ],
)
def test_a_file_that_cannot_be_imported_is_reported_in_a_sentence(tmp_path: Path, body: str, sentence: str) -> None:
    entry = AvailableChannel(name="mine", path=write_channel(tmp_path, "mine", body), dependencies=("rich",))
    with pytest.raises(ChannelLoadError, match=sentence) as raised:
        load(entry)
    assert str(entry.path) in str(raised.value)
    assert ("pip install rich" in raised.value.hint) == ("ModuleNotFound" in sentence)


def test_a_channel_does_not_shadow_a_library_with_its_name(tmp_path: Path) -> None:
    body = "import json, dataclasses\n@dataclasses.dataclass\nclass C:\n    x: 'int'\ndef create(context): return json"
    create = load(AvailableChannel(name="json", path=write_channel(tmp_path, "json", body), dependencies=()))
    context = ChannelContext(instance="json", settings={}, runtime_dir=tmp_path, home=tmp_path)
    assert create(context).__name__ == "json"  # type: ignore[attr-defined]
    assert sys.modules["json"].__file__ != str(tmp_path / "json.py")
