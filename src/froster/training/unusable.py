"""Training clips that cannot be decoded, or only in part."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from accelerate.utils import gather_object

from froster.errors import FrosterError
from froster.processes import find_processes
from froster.training.checkpoint import RunFolder
from froster.training.clips import Batch


@dataclass
class UnusableClips:
    """Clip name -> why it was skipped (`unreadable`), or what is missing of it (`partial`).

    Both are the same in all processes. What this process finds is in `new_unreadable` and `new_partial` until `gather`.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)
    new_unreadable: dict[str, str] = field(default_factory=dict)
    new_partial: dict[str, str] = field(default_factory=dict)

    def add(self, micro_batches: Sequence[Batch]) -> None:
        """Note the clips of these micro-batches that are not known yet."""
        for batch in micro_batches:
            self.new_unreadable |= {name: why for name, why in batch.unreadable.items() if name not in self.unreadable}
            self.new_partial |= batch.partial

    def gather(self) -> None:
        """Share what each process has found; a collective."""
        for unreadable, partial in gather_object([(self.new_unreadable, self.new_partial)]):
            self.unreadable |= unreadable
            self.partial |= partial
        self.new_unreadable, self.new_partial = {}, {}

    def check(self, new: int, clips: int, allowed: float, folder: RunFolder) -> None:
        """Raise `FrosterError` if more than the fraction `allowed` of the run's `clips` are unreadable.

        `new`: those in `new_unreadable` of all processes.
        """
        unreadable = len(self.unreadable) + new
        if unreadable <= allowed * clips:
            return
        self.write(folder)
        raise FrosterError(
            f"At least {unreadable} of {clips} training clips cannot be decoded, more than "
            f"data.max_unreadable ({100 * allowed:g} %) allows; see {folder.unreadable}. "
            f"The first: {next(iter(self.unreadable.values()))}"
        )

    def write(self, folder: RunFolder) -> None:
        """Gather, and let the main process list the clips in the run's folder."""
        self.gather()
        if find_processes().is_main_process:
            folder.list_unusable(self.unreadable, self.partial)
