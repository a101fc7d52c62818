"""Finds the channel files, and imports one.

`discover` reads headers and imports nothing; `load` imports one file. A channel that cannot be used is listed with the
reason and does not affect others. Shipped channels are found in the same way as an install's own. Nothing is installed
here, and no channel is created or started.

Both read the disk and may take a moment: keep them off the event loop.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from nanohost.channel_api import API_VERSION, Channel, ChannelContext
from nanohost.channels.header import ChannelHeader, ChannelSetting, parse_header, read_source
from nanohost.errors import ChannelLoadError, UsageError
from nanohost.extensions.header import api_mismatch
from nanohost.extensions.loader import import_file, install_hint, list_python_files, missing_requirements
from nanohost.text.phrases import suggest_name

MAX_CACHED_FILES = 64
"""Channel files whose syntax check is cached."""
ENTRY_POINT_GROUP = "nanohost.channels"
"""The entry point group in which an installed package names its channel module, in its pyproject.toml."""

RESERVED_NAMES = frozenset({"agent", "host", "local"})
"""Prefixes of actor ids in the audit log for agents, the host and the machine. Users of a channel with such a name
would look like one of them, and need no role."""

CreateChannel = Callable[[ChannelContext], Channel]


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableChannel:
    """A channel that can be loaded, as far as is known without importing it."""

    name: str
    path: Path
    dependencies: tuple[str, ...]
    settings: tuple[ChannelSetting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnavailableChannel:
    """A channel that was found but cannot be used: why, and what to type next.

    `name` is the file's own name if its header could not be read; `path` is None if an installed package names a module
    that does not exist.
    """

    name: str
    path: Path | None
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCatalogue:
    """Everything that was found, each name once among `available`."""

    available: Mapping[str, AvailableChannel]
    unavailable: Sequence[UnavailableChannel]

    def find(self, name: str) -> AvailableChannel:
        """Returns the channel called `name`. Raises ChannelLoadError with the reason if it cannot be used, and
        UsageError with the nearest name if it does not exist."""
        if name in self.available:
            return self.available[name]
        for broken in self.unavailable:
            if broken.name == name:
                raise ChannelLoadError(f"channel {name} cannot be used: {broken.reason}", hint=broken.hint)
        raise UsageError(f"there is no channel called {name}", hint=suggest_name(name, self.available))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChannelFile:
    path: Path
    source: str
    header: ChannelHeader


def discover(folders: Sequence[Path]) -> ChannelCatalogue:
    """Searches `folders` (files `*.py`, not `_*.py`), then the installed packages.

    Raises nothing: a file with a problem is an UnavailableChannel. A folder that does not exist counts as empty.
    """
    unavailable: list[UnavailableChannel] = []
    by_name: dict[str, list[_ChannelFile]] = {}
    for path in _unique_paths((*list_python_files(folders), *_entry_point_files(unavailable))):
        try:
            source = read_source(path)
            header = parse_header(source, path)
        except ChannelLoadError as error:
            unavailable.append(UnavailableChannel(name=path.stem, path=path, reason=str(error), hint=error.hint))
        else:
            by_name.setdefault(header.name, []).append(_ChannelFile(path=path, source=source, header=header))

    available: dict[str, AvailableChannel] = {}
    for name, found in by_name.items():
        verdict = _check_file(found[0]) if len(found) == 1 else _name_conflict(name, found)
        if isinstance(verdict, AvailableChannel):
            available[name] = verdict
        else:
            unavailable.append(verdict)
    return ChannelCatalogue(available=available, unavailable=tuple(unavailable))


def load(entry: AvailableChannel) -> CreateChannel:
    """Imports the file and returns its `create`. Raises ChannelLoadError for any error of the file."""
    try:
        module = import_file(entry.path, f"channel_{entry.name}")
    except (Exception, SystemExit) as error:
        raise ChannelLoadError(
            f"channel {entry.name} ({entry.path}) cannot be imported: {type(error).__name__}: {error}",
            hint=install_hint(entry.dependencies) if isinstance(error, ImportError) else "",
        ) from error
    create = getattr(module, "create", None)
    if not callable(create):
        raise ChannelLoadError(
            f"channel {entry.name} ({entry.path}) has no function create",
            hint="add: def create(context: ChannelContext) -> Channel",
        )
    return cast("CreateChannel", create)


def _entry_point_files(unavailable: list[UnavailableChannel]) -> Iterator[Path]:
    """Yields the files of the channel modules of installed packages; leaves out those that do not exist."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        module = getattr(entry_point, "module", entry_point.value)  # missing if the value is no module's name
        path = _module_file(module)
        if path is not None:
            yield path
            continue
        package = entry_point.dist.name if entry_point.dist else "an installed package"
        unavailable.append(
            UnavailableChannel(
                name=entry_point.name,
                path=None,
                reason=f"{package} announces the module {module}, which has no source file here",
                hint=f"install {package} again, or remove it",
            )
        )


def _module_file(module: str) -> Path | None:
    """Returns the path of a module's source, without importing its packages, as importlib.util.find_spec would."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in inner:
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = importlib.machinery.PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _unique_paths(paths: Iterable[Path]) -> Iterator[Path]:
    """Yields each file once, by its real path: if the home is the checkout, one folder is searched twice."""
    seen: set[Path] = set()
    for path in paths:
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            real = path  # a loop of links: reading it will report that
        if real not in seen:
            seen.add(real)
            yield path


def _check_file(file: _ChannelFile) -> AvailableChannel | UnavailableChannel:
    name, header = file.header.name, file.header
    if problem := _syntax_problem(file.path, file.source):
        return UnavailableChannel(name=name, path=file.path, reason=problem, hint="correct the file")
    if name in RESERVED_NAMES:
        return UnavailableChannel(
            name=name,
            path=file.path,
            reason=f"{file.path} is called {name}, and {name}:somebody is no person of a platform",
            hint="give it another name in its header",
        )
    if wrong := api_mismatch("channel", file.path, declared=header.api, supported=API_VERSION):
        return UnavailableChannel(name=name, path=file.path, reason=wrong[0], hint=wrong[1])
    if missing := missing_requirements(header.dependencies):
        return UnavailableChannel(
            name=name,
            path=file.path,
            reason=f"{file.path} needs {', '.join(missing)}, which is not installed",
            hint=install_hint(missing),
        )
    return AvailableChannel(name=name, path=file.path, dependencies=header.dependencies, settings=header.settings)


def _name_conflict(name: str, candidates: Sequence[_ChannelFile]) -> UnavailableChannel:
    files = " and ".join(str(one.path) for one in candidates)
    return UnavailableChannel(
        name=name,
        path=candidates[0].path,
        reason=f"the name {name} is taken by {files}",
        hint="remove one of them, or give it another name in its header",
    )


@lru_cache(maxsize=MAX_CACHED_FILES)
def _syntax_problem(path: Path, source: str) -> str:
    """Returns the syntax error of a file, if any. Cached: parsing the shipped channels takes a tenth of a second, and
    many commands search for channels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return f"{path}, line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path} is not Python: {error}"
    return ""
