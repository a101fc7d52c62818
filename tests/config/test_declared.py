"""A setting is declared once, beside the code that uses it, and is known everywhere."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanohost
from nanohost.config.section import SettingKey, sections, tables
from nanohost.config.settings import Settings, collect_secrets, load_settings
from nanohost.errors import SettingsError
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.how_to import read_example
from tests.test_docs import load_reference as reference

ROOT = Path(nanohost.__file__).parent
WEATHER = read_example("add-a-setting.md")


def clear_cache() -> None:
    """Clear the cache of declared settings."""
    sections.cache_clear()
    tables.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new part of the host: one file in a folder of its own."""
    declared = tmp_path / "parts" / "weather" / "settings.py"
    declared.parent.mkdir(parents=True)
    declared.write_text(WEATHER)
    monkeypatch.setattr(nanohost, "__path__", [*nanohost.__path__, str(tmp_path / "parts")])
    clear_cache()
    yield declared
    for name in ("nanohost.weather", "nanohost.weather.settings"):
        sys.modules.pop(name, None)
    clear_cache()


def loaded(home: Path, toml: str = "", **environ: str) -> Settings:
    (home / "nanohost.toml").write_text(toml, encoding="utf-8")
    return load_settings(home, environ)


def value(settings: Settings, section: str, key: str) -> object:
    [found] = [one for one in settings.sections if type(one).__name__ == section]
    return getattr(found, key)


@pytest.mark.behaviour("EX-07", "OP-05")
def test_a_declared_setting_is_read_from_file_and_variables_and_checked(weather: Path, tmp_path: Path) -> None:
    assert value(loaded(tmp_path), "WeatherSettings", "umbrellas") == 2
    assert value(loaded(tmp_path, "[host]\numbrellas = 5"), "WeatherSettings", "umbrellas") == 5
    assert value(loaded(tmp_path, NANOHOST_UMBRELLAS="6"), "WeatherSettings", "umbrellas") == 6
    assert value(loaded(tmp_path, NANOHOST_WEATHER_DAYS="7"), "ForecastSettings", "days") == 7
    with pytest.raises(SettingsError) as caught:
        loaded(
            tmp_path, "[host]\numbrelas = 1\numbrellas = 0\n[weather]\ndays = true\n[wether]\n", NANOHOST_UMBRELA="1"
        )
    assert str(caught.value).splitlines()[1:] == [
        "  the variable NANOHOST_UMBRELA is not a setting (did you mean NANOHOST_UMBRELLAS?)",
        "  line 2: [host] has no key umbrelas (did you mean umbrellas?)",
        "  line 3: host.umbrellas is 0 (wanted: a whole number, 1 or more)",
        "  line 5: weather.days is true (wanted: a whole number)",
        "  line 6: there is no section [wether] (did you mean weather?)",
    ]


@pytest.mark.behaviour("OP-05")
def test_a_declared_secret_is_resolved_and_never_shown(weather: Path, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sesame\n")
    settings = loaded(tmp_path, '[weather]\npass_word = "file:word"')
    assert collect_secrets(settings) == ("sesame",)
    assert "sesame" not in repr(settings)
    with pytest.raises(SettingsError, match=r"weather\.pass_word has a wrong value"):
        loaded(tmp_path, "[weather]\npass_word = 12")


@pytest.mark.behaviour("EX-07")
def test_a_declared_setting_is_on_the_reference_page(weather: Path) -> None:
    page = reference().PAGES["settings.md"]()
    keys = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert "| `umbrellas` | `2` | a whole number, 1 or more | How many there are. |" in page
    assert keys[keys.index("umbrellas") - 1 :][:3] == ["max_containers", "umbrellas", "idle_timeout_s"]
    assert page.index("## [docker]") < page.index("## [weather]") < page.index("## [guard]")


def test_a_key_declared_twice_is_refused(weather: Path) -> None:
    weather.write_text(WEATHER.replace("umbrellas", "durable"))
    clear_cache()
    with pytest.raises(ValueError, match=r"\[host\] durable is declared in nanohost.weather.settings and nanohost.db"):
        tables()


def modules() -> dict[str, ast.Module]:
    """By path from the package."""
    paths = sorted(ROOT.rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def declares(module: ast.Module) -> bool:
    """Whether a module declares a section, or a key of one."""
    bases = [base for node in ast.walk(module) if isinstance(node, ast.ClassDef) for base in node.bases]
    calls = [node.func for node in ast.walk(module) if isinstance(node, ast.Call)]
    names = {node.id for node in bases if isinstance(node, ast.Name)} & {"Section"}
    return bool(names) or any(isinstance(node, ast.Name) and node.id == "setting" for node in calls)


def test_settings_are_declared_only_where_they_are_collected_from() -> None:
    where = {name for name, module in modules().items() if declares(module) and name != "config/section.py"}
    collected = {section.__module__.removeprefix("nanohost.").replace(".", "/") + ".py" for section in sections()}
    assert where == collected
    assert all(name.endswith("settings.py") and name.count("/") <= 1 for name in where)


def package_of(module: str) -> str:
    """`store` of nanohost.db.settings; empty for a module outside packages."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else ""


def imported_names(module: ast.Module) -> dict[str, str]:
    """The package that each imported name is from."""
    return {
        name.asname or name.name: package_of(node.module)
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }


def handed_over(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Each attribute within the arguments of a call, with the package that the called function or class is from."""
    imported = imported_names(module)
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in imported:
            for argument in (*call.args, *(one.value for one in call.keywords)):
                yield from ((imported[call.func.id], name) for name in attributes(argument))


def read_of_sections(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Each attribute that is read of `settings.section(Class)`, with the package that the class is from."""
    imported = imported_names(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            call = node.value
            if (
                isinstance(call.func, ast.Attribute)
                and call.func.attr == "section"
                and isinstance(call.args[0], ast.Name)
            ):
                yield imported[call.args[0].id], node.attr


def attributes(node: ast.AST) -> set[str]:
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def test_every_declared_setting_is_read_by_its_part_or_passed_to_it() -> None:
    every = modules()
    used = {(name.rpartition("/")[0].partition("/")[0], read) for name in every for read in attributes(every[name])}
    assembly = [module for name, module in every.items() if "/" not in name]
    used |= {handed for module in assembly for handed in (*handed_over(module), *read_of_sections(module))}
    declared: list[SettingKey] = [key for keys in tables().values() for key in keys.values()]
    unused = [key.name for key in declared if (package_of(key.section.__module__), key.name) not in used]
    assert unused == []


def test_settings_have_distinct_positions_on_the_reference_page() -> None:
    places = [key.order for keys in tables().values() for key in keys.values()]
    assert len(set(places)) == len(places)
    assert min(places) > 0


BASE_PACKAGES = {"", "config", "extensions", "net", "text", "work"}
"""Packages that import no stage; see the layers in pyproject.toml."""
LOAD = """
import sys
from pathlib import Path
from nanohost.config.settings import load_settings
load_settings(Path(sys.argv[1]), {})
print(*(name for name in sys.modules if name.startswith("nanohost.") or name in ("aiosqlite", "docker", "httpx")))
"""


def test_loading_settings_imports_only_modules_that_declare_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
        check=True,
    )
    names = done.stdout.split()
    inside = [name for name in names if package_of(name) not in BASE_PACKAGES and not name.endswith("settings")]
    assert inside == [], "these belong to stages, which may import anything"
    assert not {"aiosqlite", "docker", "httpx", "nanohost.app"} & set(names)
