"""Finds the proxy for an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, the same for channels and the model.

Promises: an address on this machine is never requested through a proxy; an invalid variable is an error that does not
contain the proxy's password.
Never: reads ~/.netrc, as HTTP clients do when they read the environment themselves.
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
    """A variable holds no usable proxy; the message names the variable and what is expected, on one line."""


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Returns the proxy for this address (http, https, ws or wss), with user and password.

    Returns None if the address is reached directly, or is invalid, which the request itself will report.

    Raises InvalidProxyError.
    """
    variable, value = _find_variable(url, os.environ if environ is None else environ)
    return _validated_url(variable, value) if value else None


def describe_proxy(url: str, environ: Mapping[str, str] | None = None) -> str:
    """Returns a phrase about the proxy for this address, to follow a verb; empty for none, and for what is none."""
    name = proxy_name(url, environ)
    return f" through the proxy {name}" if name else ""


def proxy_name(url: str, environ: Mapping[str, str] | None = None) -> str:
    """The proxy or this address with the variable that names it, without user and password; empty for one."""
    variable, value = _find_variable(url, os.environ if environ is None else environ)
    try:
        found = urlsplit(_validated_url(variable, value)) if value else None
    except InvalidProxyError:
        return ""
    return f"{found.netloc.rpartition('@')[2]} ({variable})" if found else ""


def _find_variable(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Returns the variable that applies to this address, and its value; both empty if it is reached directly."""
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
    """Returns arguments for an aiohttp.ClientSession that uses the proxy. `connector`: options of its connector.

    Call it within a running loop. A refusal by a SOCKS proxy is raised as aiohttp.ClientProxyConnectionError.
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
    """Returns a variable's name and value; the lower-case name takes precedence, as is usual."""
    for variable in (f"{name}_proxy", f"{name}_PROXY".upper()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return "", ""


def _is_no_proxy(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches_no_proxy(one.lower(), host, port) for one in re.split(r"[,\s]+", no_proxy) if one)


def _matches_no_proxy(entry: str, host: str, port: int) -> bool:
    """Returns whether an entry of NO_PROXY matches: *, a name (with its subdomains), an address or a network; with a
    port only for that port."""
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
