"""Fakes and conformance suites, for the host's own tests and for people who write channels and runtimes."""
