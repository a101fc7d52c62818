"""Which runtime this machine gets: the one that was asked for, or the most isolated that works.

`auto` steps down from Docker over bubblewrap to plain processes, and says why at each step. A runtime asked for by
name is that one or an error, never a weaker one. The engine's client takes 6 MB and a tenth of a second: it is imported
only where Docker is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from nanohost.errors import RuntimeUnavailable, SettingsError, SpawnError
from nanohost.extension_files import install_hint
from nanohost.providers import ProviderFile
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.port import Isolation, Runtime
from nanohost.runtimes.process import UNSANDBOXED_WARNING, ProcessRuntime

if TYPE_CHECKING:
    from nanohost.runtimes.docker_image import Progress

__all__ = [
    "UNSANDBOXED_WARNING",
    "check_installed",
    "check_unsandboxed",
    "choose_runtime",
    "runtime_of_running",
]

RUNTIMES = ("docker", "bubblewrap", "process")

log = structlog.get_logger(__name__)


async def choose_runtime(*, wanted: str, install: str, base_image: str | None, progress: Progress) -> Runtime:
    """A runtime that works here, not yet opened. `wanted`: auto, docker, bubblewrap or process.

    Docker's image is built when it is missing; `progress` gets a line a step. Raises RuntimeUnavailable when the
    named one does not work (with auto: when none does), SettingsError for another name.
    """

    async def docker() -> Runtime:
        from nanohost.runtimes.docker import DockerRuntime
        from nanohost.runtimes.docker_image import ensure_image

        await asyncio.to_thread(_try_engine)
        return DockerRuntime(install=install, image=await ensure_image(base_image=base_image, progress=progress))

    async def bubblewrap() -> Runtime:
        runtime = BubblewrapRuntime(install=install)
        await asyncio.to_thread(runtime.check)
        return runtime

    async def process() -> Runtime:
        runtime = ProcessRuntime(install=install)
        await asyncio.to_thread(runtime.check)
        return runtime

    ways: dict[str, Callable[[], Awaitable[Runtime]]] = {
        "docker": docker,
        "bubblewrap": bubblewrap,
        "process": process,
    }
    if wanted == "auto":
        return await first_that_works(ways)
    if wanted not in ways:
        raise SettingsError(f"There is no runtime {wanted!r}.", hint=f"[host] runtime = auto, {', '.join(ways)}")
    return await ways[wanted]()


def runtime_of_running(name: str, *, install: str) -> Runtime:
    """The runtime that containers were started by, not yet opened: fit to find and stop them, and to start none.

    Raises SettingsError for a name that this version does not know.
    """
    if name == "docker":
        from nanohost.runtimes.docker import DockerRuntime

        return DockerRuntime(install=install, image="")
    ways: dict[str, Callable[[], Runtime]] = {
        "bubblewrap": lambda: BubblewrapRuntime(install=install),
        "process": lambda: ProcessRuntime(install=install),
    }
    if name not in ways:
        raise SettingsError(f"There is no runtime {name!r}.", hint="a newer version may have started it: use that one")
    return ways[name]()


async def first_that_works(ways: dict[str, Callable[[], Awaitable[Runtime]]]) -> Runtime:
    """The first runtime that does not raise RuntimeUnavailable; a warning is logged for each that does."""
    *better, last = ways.items()
    for name, way in better:
        try:
            return await way()
        except RuntimeUnavailable as error:
            log.warning("runtime_stepped_down", runtime=name, why=str(error), hint=error.hint)
    return await last[1]()


def check_unsandboxed(isolation: Isolation, provider: ProviderFile, tools: str, allow_unsandboxed: bool) -> None:
    """Refuse to let an agent use tools with nothing around it, unless the operator said so. A provider that does not
    say that it runs none may run them.

    Raises SpawnError. Settings may have changed since, so it is asked before every start.
    """
    if isolation is not Isolation.NONE or allow_unsandboxed or provider.may_run_unsandboxed(tools):
        return
    without = [] if not provider.may_run_unsandboxed("none") else ['set [agent] tools = "none"']
    ways = ["install Docker or bubblewrap", *without, "set [host] allow_unsandboxed = true"]
    raise SpawnError(
        f"The provider {provider.name!r} may run tools and has no sandbox: a plain process can read and change"
        " everything you can.",
        hint=", or ".join(ways),
    )


def check_installed(isolation: Isolation, provider: ProviderFile) -> None:
    """Refuse to start a provider in a Python without the libraries that it names: `make chat` leaves Claude's out where
    Docker's image has it. An agent in a container has those of its image.

    Raises SpawnError. They may be installed while the host runs, so it is asked before every start.
    """
    if isolation is Isolation.CONTAINER or not (missing := provider.missing()):
        return
    raise SpawnError(
        f"The provider {provider.name!r} needs {', '.join(missing)}, which is not installed beside nanohost, and"
        " without Docker an agent runs there.",
        hint=f"{install_hint(missing)} (in a checkout: make chat), or start Docker",
    )


def _try_engine() -> None:
    from nanohost.runtimes.docker_engine import accept_engine, reach_engine

    client = reach_engine()
    try:
        accept_engine(client)
    finally:
        client.close()
