"""Turns the Markdown of an agent into the messages that a platform takes.

The Markdown is read once into blocks (`parsing`), the blocks are split into parts (`splitting`), and each part is
written in the platform's form (`dialects`). Because splitting comes before writing, no fence, link or tag is cut in
two. Pure.
"""

from nanohost.rendering.message_form import Form, Limits, MessagePart, Unit
from nanohost.rendering.splitting import split_message

__all__ = ["Form", "Limits", "MessagePart", "Unit", "split_message"]
