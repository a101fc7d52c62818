"""The install root and its settings: nanohost.toml, environment variables, secrets, and the sections that each part
declares.
"""
