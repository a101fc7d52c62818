"""Commands that people type in a chat, such as /stop. A file with a COMMAND is one; the registry finds it."""
