"""Platforms on loopback, one file each: servers that the real client libraries accept."""
