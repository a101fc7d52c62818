"""Which proxy leads to an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, read alike for channels and the model.

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

HTTP = ("http", "https")
SOCKS = ("socks5", "socks5h")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
EXAMPLE = "http://proxy:3128 or socks5://proxy:1080"


class UnusableProxy(ValueError):
    """What a variable says is no proxy that can be used: one line that names the variable and what is wanted."""


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy for this address (http, https, ws or wss), with user and password; None: it is reached directly, or is
    no address at all, as who asks there will be told.

    Raises UnusableProxy.
    """
    variable, value = _variable_for(url, os.environ if environ is None else environ)
    return _checked(variable, value) if value else None


def through(url: str, environ: Mapping[str, str] | None = None) -> str:
    """The proxy for this address as it stands in a sentence behind a verb, without user and password; empty for none,
    and for what is none."""
    variable, value = _variable_for(url, os.environ if environ is None else environ)
    try:
        found = urlsplit(_checked(variable, value)) if value else None
    except UnusableProxy:
        return ""
    return f" through the proxy {found.netloc.rpartition('@')[2]} ({variable})" if found else ""


def _variable_for(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts for this address, and what it says; both empty where it is reached directly."""
    try:
        target = urlsplit(url)
        port = target.port or DEFAULT_PORTS.get(target.scheme, 0)
    except ValueError:
        return "", ""
    host = (target.hostname or "").lower()
    if not host or is_this_machine(host) or _is_excepted(host, port, _value(environ, "no")[1]):
        return "", ""
    kind = {"ws": "http", "wss": "https"}.get(target.scheme, target.scheme)
    for name in (kind, "all"):
        variable, value = _value(environ, name)
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

    if proxy is None or urlsplit(proxy).scheme in HTTP:
        made = {"connector": aiohttp.TCPConnector(**connector)} if connector else {}
        return made if proxy is None else {**made, "proxy": proxy}
    from nanohost.socks import connector_through

    found = urlsplit(proxy)
    through = connector_through(_part(found.hostname), found.port or 1080, *_login(found), **connector)
    return {"connector": through}


def _login(address: SplitResult) -> tuple[str, str]:
    return unquote(_part(address.username)), unquote(_part(address.password))


def _part(part: str | None) -> str:
    return part or ""


def _value(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable and what it says; in small letters it counts more, as everywhere."""
    for variable in (f"{name}_proxy", f"{name}_PROXY".upper()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return "", ""


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    return any(_excepts(one.lower(), host, port) for one in re.split(r"[,\s]+", exceptions) if one)


def _excepts(exception: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: *, a name (and all below it), an address, a network; with a port for that one alone."""
    if exception == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(exception.strip("[]"), strict=False)
    name, colon, only = exception.rpartition(":")
    if colon and only.isdecimal() and ":" not in name:
        exception = name
        if int(only) != port:
            return False
    name = exception.removeprefix("*").lstrip(".")
    return host == name or host.endswith(f".{name}")


def _checked(variable: str, value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        found = urlsplit(url)
        is_address = bool(found.hostname) and found.port != 0
    except ValueError:
        raise UnusableProxy(f"{variable} is no address of a proxy, such as {EXAMPLE}") from None
    if found.scheme not in (*HTTP, *SOCKS):
        raise UnusableProxy(f"{variable} begins {found.scheme}://, and such a proxy cannot be used: {EXAMPLE} can")
    if not is_address:
        raise UnusableProxy(f"{variable} is no address of a proxy, such as {EXAMPLE}")
    return url
