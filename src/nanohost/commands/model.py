"""The model: check its address and key, and set them."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.command import Command
from nanohost.commands.context import EFFECTIVE_AFTER_RESTART, OfflineContext
from nanohost.commands.prompts import retry_until_valid
from nanohost.commands.tables import Json
from nanohost.config import settings_file
from nanohost.config.settings import ENV_PREFIX, SETTINGS_FILE, is_reference, load_settings, resolve_secret
from nanohost.errors import SettingsError, UsageError
from nanohost.extensions.providers import uses_gateway
from nanohost.gateway.model_health import SET_BASE_URL_COMMAND, ModelProblem, ModelProblemKind
from nanohost.gateway.provider_settings import resolve_provider
from nanohost.gateway.settings import ModelSettings
from nanohost.logs import scrubber

ABOUT = "the address and key of the language model"
KEY_FILE = "model-key"


class InvalidKeyError(SettingsError):
    """The model service rejects the key."""


class CheckArgs(CommandArguments):
    """Nothing to say."""


class SetArgs(CommandArguments):
    key: str = Field("", description="where the key is, as env:NAME or file:PATH; left out: it is asked for")
    base_url: str = Field(
        "", pattern=r"\A(https?://.*)?\z", description="where the model is asked, an address that starts https://"
    )
    anyway: bool = Field(False, description="save it without trying whether the model can be asked with it")


async def _check(context: OfflineContext, arguments: CheckArgs) -> Json:
    settings = load_settings(context.home.root, os.environ)
    provider = resolve_provider(settings)
    if not await asyncio.to_thread(uses_gateway, context.home.root, provider):
        raise UsageError(f"no model is set up: the agents' provider is {provider}", hint="nanohost model set")
    model = settings.section(ModelSettings)
    return {"said": await _check_model(model.base_url, model.key)}


async def _set(context: OfflineContext, arguments: SetArgs) -> Json:
    home = context.home.root
    values: dict[str, str] = {}
    if arguments.base_url:
        values["base_url"] = arguments.base_url

    async def attempt() -> tuple[str | None, bool, str]:
        key, typed = await _read_key(context, arguments)
        if key:
            scrubber.add_secrets([key])
        return key, typed, await _check_before_saving(context, arguments, key)

    is_asked = not arguments.key and not arguments.base_url
    key, typed, answer = await retry_until_valid(
        attempt, was_prompted=is_asked, is_input_error=lambda one: isinstance(one, InvalidKeyError)
    )
    await asyncio.to_thread(context.home.prepare)
    if typed and key:
        values["api_key"] = await asyncio.to_thread(settings_file.store_secret, home, KEY_FILE, key)
    elif arguments.key:
        values["api_key"] = arguments.key
    saved = await asyncio.to_thread(settings_file.update_table, home, ("agent",), values)
    if arguments.key:  # an earlier typed key is no longer used
        await asyncio.to_thread(settings_file.delete_secret, home, KEY_FILE)
    return {"said": answer, "saved": str(saved), "next": _next_step(values)}


def _next_step(values: Mapping[str, str]) -> str:
    """Returns what is left to do. Environment variables of nanohost take precedence over the file."""
    over = [name for key in values if (name := f"{ENV_PREFIX}AGENT_{key.upper()}") in os.environ]
    if over:
        return f"unset {' '.join(over)}, which goes before the file; then nanohost run"
    return EFFECTIVE_AFTER_RESTART


async def _check_before_saving(context: OfflineContext, arguments: SetArgs, key: str | None) -> str:
    """Returns the model service's answer to the new settings. Raises SettingsError with the problem."""
    if arguments.anyway:
        return "it was not tried"
    answer = await _check_model(
        arguments.base_url or context.settings.section(ModelSettings).base_url, key, is_saving=True
    )
    if (variable := _address_variable(context, arguments)) is None:
        return answer
    return f"{answer}; that address is in {variable} alone: nanohost model set --base-url URL keeps one, too"


def _address_variable(context: OfflineContext, arguments: SetArgs) -> str | None:
    """Returns the environment variable that sets the model's address, if no stored setting does."""
    if arguments.base_url or context.settings.section(ModelSettings).base_url is None:
        return None
    if load_settings(context.home.root, {}, resolve_secrets=False).section(ModelSettings).base_url:
        return None
    return next(name for name in (f"{ENV_PREFIX}AGENT_BASE_URL", "ANTHROPIC_BASE_URL") if os.environ.get(name))


async def _read_key(context: OfflineContext, arguments: SetArgs) -> tuple[str | None, bool]:
    """Returns the key, and whether it was typed just now. If only the address is set, returns the existing key."""
    home = context.home.root
    if arguments.key:
        if not is_reference(arguments.key):
            raise UsageError(
                "a key that is typed in a command stays in the shell's history",
                hint="leave --key out and it is asked for, or say where it is: --key env:NAME",
            )
        return resolve_secret(home, os.environ, arguments.key, "--key"), False
    if not arguments.base_url:
        # Asked for right here: nothing else runs on this loop, and Ctrl-C has to end it.
        return _prompt_for_key(), True
    try:
        return load_settings(home, os.environ).section(ModelSettings).key, False
    except SettingsError:
        if not arguments.anyway:
            raise
        return None, False


def _prompt_for_key() -> str:
    """Reads the key from the terminal without showing it, or a line of standard input. Raises UsageError if empty."""
    # This blocks the event loop, and so its handling of Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        given = getpass.getpass("the model's key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    except EOFError:
        given = ""
    finally:
        signal.signal(signal.SIGINT, before)
    key = given.strip().removeprefix("\ufeff").strip()
    if not key:
        raise UsageError("no key was given", hint="nanohost model set --key env:ANTHROPIC_API_KEY")
    return key


async def _check_model(base_url: str | None, key: str | None, *, is_saving: bool = False) -> str:
    """Returns the model service's answer. `is_saving`: the settings are not saved yet.

    Raises SettingsError with the problem, InvalidKeyError if it is the key.
    """
    # Imported only here: an HTTP client is slow to load for a command that does not use it.
    from nanohost.clock import SystemClock
    from nanohost.gateway.gateway import Gateway
    from nanohost.gateway.model_service import DEFAULT_BASE_URL, Upstream

    async def record(_: Sequence[object]) -> None:
        """Records nothing, because no model is called."""

    upstream = Upstream(base_url=base_url or DEFAULT_BASE_URL, api_key=key)
    gateway = Gateway(upstream=upstream, record=record, clock=SystemClock())
    async with gateway.opened():
        found = await gateway.check()
    if isinstance(found, ModelProblem):
        kind = InvalidKeyError if found.kind is ModelProblemKind.KEY_REJECTED else SettingsError
        raise kind(found.message, hint=_save_anyway_hint(found) if is_saving else found.hint)
    if found is not None:
        untried = "the key" if key else "whether a model is there"
        return f"{upstream.host} answered with {found.status}, and {untried} could not be tried"
    return f"{upstream.host} takes the key" if key else f"{upstream.host} answers"


def _save_anyway_hint(complaint: ModelProblem) -> str:
    do = complaint.hint
    if complaint.kind is ModelProblemKind.UNREACHABLE:
        do = f"nanohost model set, when the network is up; if the address is wrong: {SET_BASE_URL_COMMAND}"
    return f"{do}; --anyway saves it all the same"


COMMANDS = (
    Command(
        words="model check",
        help="try whether the model can be asked with the key and the address that are set",
        example="nanohost model check",
        arguments=CheckArgs,
        run=_check,
        is_offline=True,
    ),
    Command(
        words="model set",
        help=f"ask for the model's key, try it, and write to {SETTINGS_FILE} where it is",
        example="nanohost model set --key env:ANTHROPIC_API_KEY",
        arguments=SetArgs,
        run=_set,
        is_offline=True,
    ),
)
