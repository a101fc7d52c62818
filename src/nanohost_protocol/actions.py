"""The names of what a runner asks of the host: written here, and nowhere else.

The actions themselves are the host's (nanohost.actions). One that an install adds has its name in its own file.
"""

from __future__ import annotations

from enum import StrEnum


class ActionName(StrEnum):
    """Its subject and a verb."""

    DESTINATIONS_ADD = "destinations.add"
    MESSAGES_REPEAT = "messages.repeat"
    MODEL_CHANGE = "model.change"
    TASKS_CANCEL = "tasks.cancel"
    TASKS_CREATE = "tasks.create"
    TASKS_PAUSE = "tasks.pause"
    TASKS_RESUME = "tasks.resume"
    TASKS_UPDATE = "tasks.update"
