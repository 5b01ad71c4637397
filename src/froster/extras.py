"""What is installed with pip: this distribution's name, and what to say where an extra of it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from froster.errors import FrosterError

DISTRIBUTION = "froster-video"  # `froster` on PyPI is another project


def needs_extra(what: str, extra: str) -> str:
    """The sentence that says which extra `what` needs and how to install it.

    pip takes the line for an installation from a wheel and from a clone alike: it adds what is missing to the
    distribution that is there.
    """
    return f'{what} needs the extra {extra}: pip install "{DISTRIBUTION}[{extra}]"'


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around imports of an extra's packages, which `what` needs. Raises `FrosterError` where they are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "froster":
            raise
        raise FrosterError(needs_extra(what, name)) from error
