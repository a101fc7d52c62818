"""Network helpers: proxies, SOCKS, paths of Unix sockets."""
