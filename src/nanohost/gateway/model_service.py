"""Holds the model service's address and key: the only secret of the gateway, and its only destination."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The model service. The key never shows in `repr`, so that no log line or traceback can carry it."""

    base_url: str = DEFAULT_BASE_URL
    api_key: str | None = field(default=None, repr=False)

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent: a self-hosted service may need no key; the default one does."""
        return bool(self.api_key) or self.base_url.rstrip("/") != DEFAULT_BASE_URL

    @property
    def host(self) -> str:
        """The host for messages: without path, user name or password."""
        return urlsplit(self.base_url).hostname or "the configured address"

    @property
    def display_url(self) -> str:
        """The address for messages: without user name, password and query."""
        parts = urlsplit(self.base_url)
        place = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"

    def url_for(self, target: str) -> str:
        """Returns the address for an allowed request target (path and query)."""
        return self.base_url.rstrip("/") + target
