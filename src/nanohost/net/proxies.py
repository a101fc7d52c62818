"""Finds the proxy for an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, alike for channels and the model.

Promises: an address on this machine is never asked for through a proxy; what a variable says and nobody can use is an
error in words, without the proxy's password.
Never: ~/.netrc, as the HTTP clients' own reading of the environment would.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

HTTP_SCHEMES = ("http", "https")
SOCKS_SCHEMES = ("socks5", "socks5h")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PROXY_EXAMPLES = "http://proxy:3128 or socks5://proxy:1080"


class InvalidProxyError(ValueError):
    """What a variable says is no proxy that can be used: one line that names the variable and what is wanted."""


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy for this address (http, https, ws or wss), with user and password; None: it is reached directly, or is
    no address at all, as who asks there will be told.

    Raises InvalidProxyError.
    """
    variable, value = _find_variable(url, os.environ if environ is None else environ)
    return _validated_url(variable, value) if value else None


def describe_proxy(url: str, environ: Mapping[str, str] | None = None) -> str:
    """The proxy for this address as it stands in a sentence behind a verb; empty for none, and for what is none."""
    name = proxy_name(url, environ)
    return f" through the proxy {name}" if name else ""


def proxy_name(url: str, environ: Mapping[str, str] | None = None) -> str:
    """The proxy for this address with the variable that names it, without user and password; empty for none."""
    variable, value = _find_variable(url, os.environ if environ is None else environ)
    try:
        found = urlsplit(_validated_url(variable, value)) if value else None
    except InvalidProxyError:
        return ""
    return f"{found.netloc.rpartition('@')[2]} ({variable})" if found else ""


def _find_variable(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts for this address, and what it says; both empty where it is reached directly."""
    try:
        target = urlsplit(url)
        port = target.port or DEFAULT_PORTS.get(target.scheme, 0)
    except ValueError:
        return "", ""
    host = (target.hostname or "").lower()
    if not host or is_this_machine(host) or _is_no_proxy(host, port, _read_variable(environ, "no")[1]):
        return "", ""
    kind = {"ws": "http", "wss": "https"}.get(target.scheme, target.scheme)
    for name in (kind, "all"):
        variable, value = _read_variable(environ, name)
        if value:
            return variable, value
    return "", ""


def is_this_machine(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def aiohttp_options(proxy: str | None, **connector: Any) -> dict[str, Any]:
    """What an aiohttp.ClientSession needs to go through it. `connector`: what its connector is to be made with.

    To be called within a running loop. Whatever a SOCKS proxy refuses is raised as aiohttp.ClientProxyConnectionError.
    """
    import aiohttp

    if proxy is None or urlsplit(proxy).scheme in HTTP_SCHEMES:
        made = {"connector": aiohttp.TCPConnector(**connector)} if connector else {}
        return made if proxy is None else {**made, "proxy": proxy}
    from nanohost.net.socks import socks_connector

    found = urlsplit(proxy)
    through = socks_connector(_or_empty(found.hostname), found.port or 1080, *_credentials(found), **connector)
    return {"connector": through}


def _credentials(address: SplitResult) -> tuple[str, str]:
    return unquote(_or_empty(address.username)), unquote(_or_empty(address.password))


def _or_empty(part: str | None) -> str:
    return part or ""


def _read_variable(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable and what it says; in small letters it counts more, as everywhere."""
    for variable in (f"{name}_proxy", f"{name}_PROXY".upper()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return "", ""


def _is_no_proxy(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches_no_proxy(one.lower(), host, port) for one in re.split(r"[,\s]+", no_proxy) if one)


def _matches_no_proxy(entry: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: *, a name (and all below it), an address, a network; with a port for that one alone."""
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    name, colon, only = entry.rpartition(":")
    if colon and only.isdecimal() and ":" not in name:
        entry = name
        if int(only) != port:
            return False
    name = entry.removeprefix("*").lstrip(".")
    return host == name or host.endswith(f".{name}")


def _validated_url(variable: str, value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        found = urlsplit(url)
        is_address = bool(found.hostname) and found.port != 0
    except ValueError:
        raise InvalidProxyError(f"{variable} is no address of a proxy, such as {PROXY_EXAMPLES}") from None
    if found.scheme not in (*HTTP_SCHEMES, *SOCKS_SCHEMES):
        raise InvalidProxyError(
            f"{variable} begins {found.scheme}://, and such a proxy cannot be used: {PROXY_EXAMPLES} can"
        )
    if not is_address:
        raise InvalidProxyError(f"{variable} is no address of a proxy, such as {PROXY_EXAMPLES}")
    return url
