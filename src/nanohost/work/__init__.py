"""How work is run: keyed workers, the supervisor of services, the event bus, threads, rate limits."""
