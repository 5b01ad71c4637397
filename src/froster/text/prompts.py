"""Prompts of a class: the 28 templates of the authors' code and the bare text."""

KINDS = ("photo", "video", "example", "demonstration")
# "a example" is the authors' spelling; their checkpoints were trained with it.
FORMS = (
    "a {kind} of {{}}.",
    "a {kind} of a person {{}}.",
    "a {kind} of a person using {{}}.",
    "a {kind} of a person doing {{}}.",
    "a {kind} of a person during {{}}.",
    "a {kind} of a person performing {{}}.",
    "a {kind} of a person practicing {{}}.",
)
TEMPLATES: tuple[str, ...] = tuple(form.format(kind=kind) for kind in KINDS for form in FORMS)


def class_text(name: str, description: str = "") -> str:
    """`name: description`, or the name alone."""
    return f"{name}: {description}" if description else name


def class_prompts(name: str, description: str = "", templates: tuple[str, ...] = TEMPLATES) -> list[str]:
    """Every template filled with the name and followed by the class text, then the class text alone.

    As in the authors' code, so a class without description is named twice: `"a photo of archery. archery"`.
    """
    text = class_text(name, description)
    return [f"{template.format(name)} {text}" for template in templates] + [text]
