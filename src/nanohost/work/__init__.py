"""Runs work: keyed workers, the supervisor of services, the event bus, thread pools, rate limits."""
