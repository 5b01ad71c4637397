"""Optional dependencies (pip extras), and the error if one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from froster.errors import FrosterError

DISTRIBUTION = "froster-video"  # `froster` on PyPI is another project


def needs_extra(what: str, extra: str) -> str:
    """A message that `what` needs `extra`, with the command to install it.

    The command works for an installation from a wheel and from a clone.
    """
    return f'{what} needs the extra {extra}: pip install "{DISTRIBUTION}[{extra}]"'


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Context for imports of an extra's packages, which `what` needs. Raises `FrosterError` if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "froster":
            raise
        raise FrosterError(needs_extra(what, name)) from error
