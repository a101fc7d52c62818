"""The contract of a session's two files. Standard library only; host and runner both import it.

Read in this order: layout (the paths), schema (the tables), rows and payloads (their content), inbound and outbound
(who writes and reads which file), ids and sequence (why a repeated step changes nothing).
"""

VERSION = 1
"""The version of the contract, stored as `user_version` in both files. Raised with every change of schema.py."""
