"""Finds and reads the extension files of an install: providers, runtimes, actions and chat commands."""
