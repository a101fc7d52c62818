"""What stands before a platform that is out of order."""

from __future__ import annotations

from aiohttp import web


def unavailable() -> web.Response:
    """503, as a load balancer says it: a page, whatever was asked."""
    page = "<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>"
    return web.Response(status=503, text=page, content_type="text/html")
