"""Captions of photos in varied wording: the action, and usually clothing and place."""

from collections.abc import Sequence

import numpy as np

from froster.data.puppets.actions import ACTIONS
from froster.data.puppets.render import Photo
from froster.text.classes import ClassText
from froster.text.prompts import class_prompts

# {who}, {action}, {wearing} ("in a red shirt") and {place} ("on the beach"); some sentences omit parts.
SENTENCES = (
    "a photo of {who} {wearing} {action} {place}.",
    "a picture of {who} {wearing} {action} {place}.",
    "{who} {wearing} {action} {place}.",
    "{who} {wearing} is {action} {place}.",
    "{place}, {who} {wearing} is {action}.",
    "{action} {place} {wearing}.",
    "{who} {action} {place}, dressed {wearing}.",
    "a photo of {who} {action} {place}.",
    "a picture of {who} {wearing} {action}.",
    "{who} {action} {place}.",
    "{who} is {action} {place}.",
    "{who} {wearing} is {action}.",
    "{place}, {who} is {action}.",
    "{who} {wearing} who is {action}.",
    "a scene of {action} {place}.",
    "a cartoon of {who} {action} {place}.",
    "a drawing of {who} {wearing} {action}.",
    "{who} {action}.",
    "{who} is {action}.",
    "a photo of {who} {action}.",
    "a picture of {action}.",
    "{action}.",
    "{action} {place}.",
    "{action}",
)
PEOPLE = ("a person", "a person", "a person", "someone", "somebody", "a man", "a woman")


def caption(photo: Photo, rng: np.random.Generator) -> str:
    """A random caption for a photo, at most 40 words; it always contains the action's name."""
    action = ACTIONS[photo.action]
    kind, wording, person, look = rng.random(4).tolist()
    if kind < 0.35:  # the prompts used at inference
        return _choose(class_prompts(ClassText(action)), wording)
    # Half of the captions mention only the shirt.
    clothing = photo.clothing if look < 0.5 else photo.clothing.split(" and ")[0]
    return _choose(SENTENCES, wording).format(
        who=_choose(PEOPLE, person), action=action, wearing=f"in {clothing}", place=photo.place
    )


def _choose(options: Sequence[str], position: float) -> str:
    """The option at a position in [0, 1)."""
    return options[int(position * len(options))]
