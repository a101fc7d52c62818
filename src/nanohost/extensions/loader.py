"""Finds extension files, imports them, and checks that what they require is installed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from nanohost.errors import ExtensionError

_NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]*")


def list_python_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yields the Python files of each folder by name, without `_*.py`. A folder that does not exist counts as empty."""
    for folder in folders:
        yield from (path for path in sorted(folder.glob("*.py")) if not path.name.startswith(("_", ".")))


def list_extension_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Yields the Python files with a valid extension name: people type it, and a module is found by it."""
    return (path for path in list_python_files(folders) if _NAME_PATTERN.fullmatch(path.stem))


def find_extension_file(kind: str, name: str, files: Sequence[Path], *, install_dir: Path) -> Path:
    """Returns the file of the extension with this name. For error messages: `kind`, such as provider, and
    `install_dir`, the folder of the install's own ones.

    Raises ExtensionError if there is none, or more than one.
    """
    found = list({path.resolve(): path for path in files if path.stem == name}.values())
    if not found:
        names = ", ".join(sorted({path.stem for path in files})) or "none"
        raise ExtensionError(
            f"there is no {kind} {name[:80]!r}", hint=f"there is {names}; another one is a file in {install_dir}"
        )
    if len(found) > 1:
        files_found = " and ".join(map(str, found))
        raise ExtensionError(f"the {kind} {name} is in {files_found}", hint="give one of the files another name")
    return found[0]


def import_file(path: Path, name: str) -> ModuleType:
    """Run a file as a module and return it. Raises whatever the file raises."""
    # A private name: a channel called slack must not hide a library called slack.
    module_name = f"_nanohost_{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is being executed.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def missing_requirements(requirements: Iterable[str]) -> list[str]:
    """Returns the requirements that are not installed. Checks names only, and neither versions nor markers (`; …`)."""
    return [requirement for requirement in requirements if not _is_installed(requirement)]


def install_hint(requirements: Sequence[str]) -> str:
    """Returns the command that installs the requirements; empty if there are none."""
    if not requirements:
        return ""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def _is_installed(requirement: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    name = re.match(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)", requirement)
    if name is None:
        return False
    try:
        distribution(name[1])
    except PackageNotFoundError:
        return ";" in requirement
    return True
