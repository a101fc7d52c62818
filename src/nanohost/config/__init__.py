"""Finds the install root and loads its settings: nanohost.toml, environment variables, secrets, and the sections that
each part declares.
"""
