"""All actions of the puppets. To add one, write a pose function in one of these files."""

import difflib

from froster.data.puppets.actions import bare, pairs, sports, tools
from froster.data.puppets.actions.table import TABLE, Action
from froster.errors import FrosterError

__all__ = ["ACTIONS", "TABLE", "Action", "action_index", "bare", "pairs", "sports", "tools"]

ACTIONS: tuple[str, ...] = tuple(action.name for action in TABLE)


def action_index(name: str) -> int:
    """Index of an action's name in `ACTIONS`. Raises `FrosterError` with the closest known action."""
    if name in ACTIONS:
        return ACTIONS.index(name)
    nearest = difflib.get_close_matches(name, ACTIONS, n=1, cutoff=0.0)[0]
    raise FrosterError(f"There is no puppet action '{name}'; did you mean '{nearest}'?")
