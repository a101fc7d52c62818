"""Defines the names of the actions that a runner can request: each is written here only.

The actions are implemented in nanohost.actions. An action that an install adds has its name in its own file.
"""

from __future__ import annotations

from enum import StrEnum


class ActionName(StrEnum):
    """Names of actions: subject.verb."""

    DESTINATIONS_ADD = "destinations.add"
    MESSAGES_REPEAT = "messages.repeat"
    MODEL_CHANGE = "model.change"
    TASKS_CANCEL = "tasks.cancel"
    TASKS_CREATE = "tasks.create"
    TASKS_PAUSE = "tasks.pause"
    TASKS_RESUME = "tasks.resume"
    TASKS_UPDATE = "tasks.update"
