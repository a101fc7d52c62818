"""Chooses the runtime: the requested one, or the most isolated one that works on this machine.

`auto` tries Docker, then bubblewrap, then plain processes, and logs why one does not work. A runtime that is requested
by name is used or is an error: it is never replaced by a weaker one. Only a runtime that is tried is imported: Docker's
client takes 6 MB and a tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import structlog

from nanohost.config.section import AUTO
from nanohost.errors import ExtensionError, NanohostError, RuntimeUnavailable, SettingsError, SpawnError
from nanohost.extensions.loader import import_file, install_hint
from nanohost.extensions.providers import ProviderFile
from nanohost.extensions.runtimes import RuntimeFile, auto_candidates, find_runtime
from nanohost.runtimes.process import UNSANDBOXED_WARNING
from nanohost.runtimes.runtime_api import Isolation, Runtime, RuntimeContext
from nanohost.text.translation import lazy_gettext

__all__ = [
    "UNSANDBOXED_WARNING",
    "check_installed",
    "check_unsandboxed",
    "choose_runtime",
    "reopen_runtime",
]

log = structlog.get_logger(__name__)


async def choose_runtime(
    *, requested: str, root: Path, install: str, base_image: str | None, progress: Callable[[str], None]
) -> Runtime:
    """Returns a runtime that works on this machine, not yet opened. `requested`: auto, or the name of a runtime of
    nanohost or of the install at `root`.

    Builds Docker's image if it is missing; calls `progress` with a line for each step. Raises RuntimeUnavailable if the
    named runtime (with auto: every runtime) does not work, SettingsError for a name without a usable file.
    """
    context = RuntimeContext(install=install, base_image=base_image, progress=progress)
    if requested == AUTO:
        files = await asyncio.to_thread(auto_candidates, root)
        return await first_available({file.name: partial(_create, file, context) for file in files})
    return await _create(await asyncio.to_thread(_find_file, root, requested, "[host] runtime = auto"), context)


def reopen_runtime(name: str, *, root: Path, install: str) -> Runtime:
    """Returns the runtime that started earlier containers, not yet opened. It can find and stop them, and starts none.

    Raises SettingsError for an unknown name, RuntimeUnavailable for a file that is no runtime or fails.
    """
    file = _find_file(root, name, "a newer version may have started it: use that one")
    reopen = _load_function(file, "reopen")
    with _translate_errors(file, "cannot be opened again"):
        return _check_name(reopen(install), file)


def _find_file(root: Path, name: str, hint: str) -> RuntimeFile:
    try:
        return find_runtime(root, name)
    except ExtensionError as error:
        raise SettingsError(str(error), hint=f"{error.hint}; or {hint}" if error.hint else hint) from error


async def _create(file: RuntimeFile, context: RuntimeContext) -> Runtime:
    create = await asyncio.to_thread(_load_function, file, "create")
    with _translate_errors(file, "cannot be made"):
        return _check_name(await create(context), file)


@contextmanager
def _translate_errors(file: RuntimeFile, problem: str) -> Iterator[None]:
    """Turn every error of an install's own file into RuntimeUnavailable; a SettingsError stays one."""
    try:
        yield
    except (RuntimeUnavailable, SettingsError):
        raise
    except (Exception, SystemExit) as error:
        if file.is_shipped:
            raise  # a bug of ours: do not fall back to a weaker runtime
        raise RuntimeUnavailable(
            f"The runtime {file.name} ({file.path}) {problem}: {type(error).__name__}: {error}",
            hint=error.hint if isinstance(error, NanohostError) else "",
        ) from error


def _load_function(file: RuntimeFile, name: str) -> Callable[..., Any]:
    """Import the file and return its function `name`. Slow: an engine's client takes a tenth of a second. Raises
    RuntimeUnavailable."""
    with _translate_errors(file, "cannot be imported"):
        module = _import_runtime(file)
    function = getattr(module, name, None)
    if not callable(function):
        raise RuntimeUnavailable(
            f"The runtime {file.name} ({file.path}) has no function {name}.",
            hint="see nanohost/runtimes/runtime_api.py",
        )
    return cast("Callable[..., Any]", function)


def _import_runtime(file: RuntimeFile) -> ModuleType:
    if file.is_shipped:
        return import_module(f"{__package__}.{file.name}")
    return import_file(file.path, f"runtime_{file.name}")


def _check_name(runtime: Runtime, file: RuntimeFile) -> Runtime:
    """Check that the runtime has its file's name: a session stores the name, to find the file again. Raises
    RuntimeUnavailable."""
    if runtime.name != file.name:
        raise RuntimeUnavailable(
            f"The runtime {file.name} ({file.path}) calls itself {runtime.name!r}.", hint=f"write name = {file.name!r}"
        )
    return runtime


async def first_available(factories: dict[str, Callable[[], Awaitable[Runtime]]]) -> Runtime:
    """Returns the first runtime whose factory does not raise RuntimeUnavailable. Logs a warning for each that does."""
    *preferred, last = factories.items()
    for name, create in preferred:
        try:
            return await create()
        except RuntimeUnavailable as error:
            log.warning("runtime_skipped", runtime=name, why=str(error), hint=error.hint)
    return await last[1]()


def check_unsandboxed(isolation: Isolation, provider: ProviderFile, tools: str, allow_unsandboxed: bool) -> None:
    """Refuse to let an agent use tools without a sandbox, unless the operator allows it. A provider may run tools
    unless its header says otherwise.

    Raises SpawnError. Called before every start, since settings may have changed.
    """
    if isolation is not Isolation.NONE or allow_unsandboxed or provider.can_run_unsandboxed(tools):
        return
    hint = lazy_gettext("install Docker or bubblewrap, or set [host] allow_unsandboxed = true")
    if provider.can_run_unsandboxed("none"):
        hint = lazy_gettext(
            'install Docker or bubblewrap, or set [agent] tools = "none", or set [host] allow_unsandboxed = true'
        )
    raise SpawnError(
        lazy_gettext(
            "The provider {name} may run tools and has no sandbox: a plain process can read and change everything you"
            " can.",
            name=repr(provider.name),
        ),
        hint=hint,
    )


def check_installed(isolation: Isolation, provider: ProviderFile) -> None:
    """Refuse to start a provider whose libraries are not installed: `make chat` does not install Claude's if Docker's
    image has them. An agent in a container uses those of its image.

    Raises SpawnError. Called before every start, since libraries may be installed while the host runs.
    """
    if isolation is Isolation.CONTAINER or not (missing := provider.missing_dependencies()):
        return
    raise SpawnError(
        lazy_gettext(
            "The provider {name} needs {libraries}, which is not installed beside nanohost, and without Docker an agent"
            " runs there.",
            name=repr(provider.name),
            libraries=", ".join(missing),
        ),
        hint=lazy_gettext("{command} (in a checkout: make chat), or start Docker", command=install_hint(missing)),
    )
