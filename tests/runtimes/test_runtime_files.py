"""Runtimes as their headers declare them: found without importing one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nanohost.errors import ExtensionError, RuntimeUnavailable, SettingsError
from nanohost.extensions.runtimes import auto_candidates, find_runtime, runtime_names
from nanohost.runtimes.choose import choose_runtime, reopen_runtime
from nanohost.runtimes.process import ProcessRuntime

NOTHING = Path("/no/install")

WORKING = """
from nanohost.runtimes.process import ProcessRuntime

class Own(ProcessRuntime):
    name = {name!r}

async def create(context):
    return Own(install=context.install)

def reopen(install):
    return Own(install=install)
"""

SPAWN_ERROR = "from nanohost.errors import SpawnError; raise SpawnError('no room', hint='make some')"


def put(root: Path, name: str, *lines: str, source: str = "raise SystemExit") -> Path:
    path = root / "runtimes" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    header = ["# /// script", *(f"# {line}" for line in lines), "# ///"] if lines else []
    path.write_text("\n".join([*header, source]))
    return path


OURS = ("[tool.nanohost]", 'kind = "runtime"', "api = 1")


def quiet(_line: str) -> None:
    """Ignore progress."""


def test_the_shipped_runtimes_are_found() -> None:
    assert runtime_names(NOTHING) == ["bubblewrap", "docker", "process"]


def test_auto_tries_the_most_isolated_first(tmp_path: Path) -> None:
    put(tmp_path, "own", *OURS)
    put(tmp_path, "between", *OURS, "auto = 15")
    assert [one.name for one in auto_candidates(NOTHING)] == ["docker", "bubblewrap", "process"]
    assert [one.name for one in auto_candidates(tmp_path)] == ["docker", "between", "bubblewrap", "process"]


def test_an_unusable_runtime_file_is_not_a_candidate_for_auto(tmp_path: Path) -> None:
    put(tmp_path, "own", *OURS, 'auto = "first"')
    with capture_logs() as lines:
        assert [one.name for one in auto_candidates(tmp_path)] == ["docker", "bubblewrap", "process"]
    assert [(line["event"], line["runtime"]) for line in lines] == [("runtime_unusable", "own")]


@pytest.mark.parametrize(
    ("lines", "sentence", "hint"),
    [
        ((), "has no runtime header", "start the file with"),
        ((OURS[0], 'kind = "channel"', OURS[2]), "tool.nanohost.kind", 'write kind = "runtime"'),
        ((*OURS, 'auto = "first"'), "tool.nanohost.auto", "write a number"),
        ((*OURS[:2], "api = 2"), "written for runtime API 2; this nanohost speaks 1", "update nanohost"),
        (("dependencies = ['no-such-package']", *OURS), "needs no-such-package, which is not installed", "pip install"),
    ],
)
async def test_a_mistake_in_the_header_is_reported_with_the_file_and_the_remedy(
    tmp_path: Path, lines: tuple[str, ...], sentence: str, hint: str
) -> None:
    path = put(tmp_path, "own", *lines)
    with pytest.raises(ExtensionError) as raised:
        find_runtime(tmp_path, "own")
    assert str(raised.value).startswith(str(path))
    assert re.search(re.escape(sentence), str(raised.value))
    assert hint in raised.value.hint
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        await choose_runtime(requested="own", root=tmp_path, install="i", base_image=None, progress=quiet)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise SystemExit", "cannot be imported: SystemExit"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("", "has no function create"),
        (WORKING.format(name="other"), "calls itself 'other'"),
        ("async def create(context):\n    1 / 0", "cannot be made: ZeroDivisionError"),
        ("async def create(context):\n    raise SystemExit", "cannot be made: SystemExit"),
        ("async def create(context):\n    pass", "cannot be made: AttributeError: 'NoneType'"),
        (f"async def create(context):\n    {SPAWN_ERROR}", "cannot be made: SpawnError: no room"),
    ],
)
async def test_an_invalid_runtime_file_is_refused_with_the_problem(tmp_path: Path, source: str, problem: str) -> None:
    put(tmp_path, "own", *OURS, source=source)
    with pytest.raises(RuntimeUnavailable, match=problem):
        await choose_runtime(requested="own", root=tmp_path, install="i", base_image=None, progress=quiet)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise SystemExit", "cannot be imported: SystemExit"),
        ("", "has no function reopen"),
        (WORKING.format(name="other"), "calls itself 'other'"),
        ("def reopen(install):\n    1 / 0", "cannot be opened again: ZeroDivisionError"),
        ("def reopen():\n    pass", "cannot be opened again: TypeError"),
        ("def reopen(install):\n    raise SystemExit", "cannot be opened again: SystemExit"),
        ("def reopen(install):\n    pass", "cannot be opened again: AttributeError: 'NoneType'"),
        (f"def reopen(install):\n    {SPAWN_ERROR}", "cannot be opened again: SpawnError: no room"),
    ],
)
def test_a_runtime_file_that_cannot_find_its_containers_again_is_refused(
    tmp_path: Path, source: str, problem: str
) -> None:
    path = put(tmp_path, "own", *OURS, source=source)
    with pytest.raises(RuntimeUnavailable, match=problem) as raised:
        reopen_runtime("own", root=tmp_path, install="i")
    assert str(path) in str(raised.value)
    assert ("SpawnError" in problem) is (raised.value.hint == "make some")


async def test_an_installed_runtime_can_be_created_and_opened_again(tmp_path: Path) -> None:
    put(tmp_path, "own", *OURS, source=WORKING.format(name="own"))
    made = await choose_runtime(requested="own", root=tmp_path, install="i", base_image=None, progress=quiet)
    again = reopen_runtime("own", root=tmp_path, install="i")
    assert (made.name, again.name) == ("own", "own")
    assert isinstance(made, ProcessRuntime)


def test_an_installed_runtime_cannot_take_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    put(tmp_path, "process", *OURS)
    with pytest.raises(ExtensionError, match="the runtime process is in"):
        find_runtime(tmp_path, "process")


def test_listing_runtimes_imports_none() -> None:
    code = (
        "import sys; from pathlib import Path; from nanohost.extensions.runtimes import auto_candidates;"
        "auto_candidates(Path('/no/install')); sys.exit('nanohost.runtimes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
