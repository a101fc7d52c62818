"""Which channels there are, and making one usable.

`discover` reads headers and imports nothing; `load` imports one file. A channel that cannot be used is listed with
its reason and harms no other, and the shipped channels are found exactly as a stranger's is. Nothing is installed
here, and no channel is created or started.

Both read the disk and may take a moment: keep them off a running event loop.
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
from nanohost.channels.header import Header, Setting, parse_header, read_source
from nanohost.errors import ChannelLoadError, UsageError
from nanohost.extension_files import files_in, import_file, install_hint, not_installed
from nanohost.phrases import nearest
from nanohost.script_header import api_mismatch

MOST_READ = 64
"""Channel files whose syntax is known without parsing them again."""
ENTRY_POINT_GROUP = "nanohost.channels"
"""Where an installed package names its channel module, in its own pyproject.toml."""

NOT_FREE = frozenset({"agent", "host", "local"})
"""What stands before the colon in the record for an agent, the host and the machine itself: a channel of such a name
would have users who read as one of them, and who need no role."""

CreateChannel = Callable[[ChannelContext], Channel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """A channel that can be loaded, as far as can be told without importing it."""

    name: str
    path: Path
    dependencies: tuple[str, ...]
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A channel that was found and cannot be used: why, and what to type next.

    `name` is the file's own name where its header could not be read; `path` is None where an installed package
    announces a module that is not there.
    """

    name: str
    path: Path | None
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything that was found, each name once among `available`."""

    available: Mapping[str, Available]
    unavailable: Sequence[Unavailable]

    def find(self, name: str) -> Available:
        """The channel called `name`. Raises ChannelLoadError with the reason when it cannot be used, and UsageError
        with the nearest name for one that is not there."""
        if name in self.available:
            return self.available[name]
        for broken in self.unavailable:
            if broken.name == name:
                raise ChannelLoadError(f"channel {name} cannot be used: {broken.reason}", hint=broken.hint)
        raise UsageError(f"there is no channel called {name}", hint=nearest(name, self.available))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    path: Path
    source: str
    header: Header


def discover(folders: Sequence[Path]) -> Catalogue:
    """Look through `folders` (files `*.py`, not `_*.py`), then through the installed packages.

    Raises nothing: whatever is wrong with a file is an Unavailable. A folder that does not exist is empty.
    """
    unavailable: list[Unavailable] = []
    by_name: dict[str, list[_Found]] = {}
    for path in _unique((*files_in(folders), *_announced(unavailable))):
        try:
            source = read_source(path)
            header = parse_header(source, path)
        except ChannelLoadError as error:
            unavailable.append(Unavailable(name=path.stem, path=path, reason=str(error), hint=error.hint))
        else:
            by_name.setdefault(header.name, []).append(_Found(path=path, source=source, header=header))

    available: dict[str, Available] = {}
    for name, found in by_name.items():
        verdict = _judge(found[0]) if len(found) == 1 else _contested(name, found)
        if isinstance(verdict, Available):
            available[name] = verdict
        else:
            unavailable.append(verdict)
    return Catalogue(available=available, unavailable=tuple(unavailable))


def load(entry: Available) -> CreateChannel:
    """Import the file and return its `create`. Raises ChannelLoadError, whatever the file did."""
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


def _announced(unavailable: list[Unavailable]) -> Iterator[Path]:
    """The files of the modules that installed packages announce; those that are not there are set aside."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        module = getattr(entry_point, "module", entry_point.value)  # it has none where the value is no module's name
        path = _module_file(module)
        if path is not None:
            yield path
            continue
        package = entry_point.dist.name if entry_point.dist else "an installed package"
        unavailable.append(
            Unavailable(
                name=entry_point.name,
                path=None,
                reason=f"{package} announces the module {module}, which has no source file here",
                hint=f"install {package} again, or remove it",
            )
        )


def _module_file(module: str) -> Path | None:
    """Where a module's source lies. importlib.util.find_spec would import the packages around it; this does not."""
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


def _unique(paths: Iterable[Path]) -> Iterator[Path]:
    """Each file once, however many ways lead to it: a home that is the checkout names one folder twice."""
    seen: set[Path] = set()
    for path in paths:
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            real = path  # links in a circle: whoever reads it will say so
        if real not in seen:
            seen.add(real)
            yield path


def _judge(found: _Found) -> Available | Unavailable:
    name, header = found.header.name, found.header
    if problem := _syntax_problem(found.path, found.source):
        return Unavailable(name=name, path=found.path, reason=problem, hint="correct the file")
    if name in NOT_FREE:
        return Unavailable(
            name=name,
            path=found.path,
            reason=f"{found.path} is called {name}, and {name}:somebody is no person of a platform",
            hint="give it another name in its header",
        )
    if wrong := api_mismatch("channel", found.path, written=header.api, spoken=API_VERSION):
        return Unavailable(name=name, path=found.path, reason=wrong[0], hint=wrong[1])
    if missing := not_installed(header.dependencies):
        return Unavailable(
            name=name,
            path=found.path,
            reason=f"{found.path} needs {', '.join(missing)}, which is not installed",
            hint=install_hint(missing),
        )
    return Available(name=name, path=found.path, dependencies=header.dependencies, settings=header.settings)


def _contested(name: str, found: Sequence[_Found]) -> Unavailable:
    files = " and ".join(str(one.path) for one in found)
    return Unavailable(
        name=name,
        path=found[0].path,
        reason=f"the name {name} is taken by {files}",
        hint="remove one of them, or give it another name in its header",
    )


@lru_cache(maxsize=MOST_READ)
def _syntax_problem(path: Path, source: str) -> str:
    """To parse our own channels takes a tenth of a second, and a host looks for them again with many commands."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return f"{path}, line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{path} is not Python: {error}"
    return ""
