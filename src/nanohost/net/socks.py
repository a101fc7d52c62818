"""Connects aiohttp through a SOCKS proxy, and raises its refusals as aiohttp's own errors."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType


class _SocksConnector(ProxyConnector):
    async def _wrap_create_connection(
        self, *args: Any, req: aiohttp.ClientRequest, **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        try:
            return await super()._wrap_create_connection(*args, req=req, **options)
        except (ProxyError, ProxyConnectionError, ProxyTimeoutError) as error:
            words = OSError(0, f"the SOCKS proxy did not let us through ({error})")
            raise aiohttp.ClientProxyConnectionError(req.connection_key, words) from error


def socks_connector(host: str, port: int, user: str, password: str, **options: Any) -> aiohttp.TCPConnector:
    """Returns a connector for a SOCKS proxy, which also resolves names: without it that is often not possible.

    Call it within a running loop.
    """
    return _SocksConnector(
        host=host,
        port=port,
        proxy_type=ProxyType.SOCKS5,
        username=user or None,
        password=password if user else None,
        rdns=True,
        **options,
    )
