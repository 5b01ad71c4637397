"""Captions of photos in many wordings: they name the action, and mostly the clothing and the place."""

from collections.abc import Sequence

import numpy as np

from froster.data.puppets.actions import ACTIONS
from froster.data.puppets.render import Photo
from froster.text.prompts import class_prompts

# {who}, {action}, {wearing} ("in a red shirt") and {place} ("on the beach"); a wording may leave some out.
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
    """A random wording for a photo, at most 40 words; it always contains the action's name."""
    action = ACTIONS[photo.action]
    kind, wording, person, look = rng.random(4).tolist()
    if kind < 0.35:  # what a recognizer will ask with
        return _choose(class_prompts(action), wording)
    # Half of the time only the shirt is told.
    clothing = photo.clothing if look < 0.5 else photo.clothing.split(" and ")[0]
    return _choose(SENTENCES, wording).format(
        who=_choose(PEOPLE, person), action=action, wearing=f"in {clothing}", place=photo.place
    )


def _choose(options: Sequence[str], share: float) -> str:
    """The option that a number in [0, 1) points at."""
    return options[int(share * len(options))]
