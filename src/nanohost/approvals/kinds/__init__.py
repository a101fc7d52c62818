"""The kinds of approvals. A file with a KIND is one; the registry finds it."""
