"""What a model is told about its classes: names, and descriptions where there are any."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassText:
    """The name of a class and its description, `""` where there is none."""

    name: str
    description: str = ""

    def __str__(self) -> str:
        """`name: description`, or the name alone."""
        return f"{self.name}: {self.description}" if self.description else self.name


class ClassTexts(Mapping[str, ClassText]):
    """The texts of K classes by name, in the order of the rows of their class embeddings; immutable and hashable.

    `list(texts)` are the names, `texts["archery"].description` is one description, `texts.descriptions` are all.
    """

    def __init__(self, texts: Iterable[ClassText] = ()) -> None:
        self._texts = {text.name: text for text in texts}

    @classmethod
    def of_names(cls, names: Iterable[str]) -> "ClassTexts":
        """Classes without descriptions."""
        return cls(map(ClassText, names))

    def __getitem__(self, name: str) -> ClassText:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same texts in the same order."""
        return isinstance(other, ClassTexts) and tuple(self.values()) == tuple(other.values())

    def __hash__(self) -> int:
        return hash(tuple(self.values()))

    def __repr__(self) -> str:
        return f"ClassTexts({self.descriptions!r})"

    def __or__(self, other: "ClassTexts") -> "ClassTexts":
        """All classes of both; where both have one of a name, the text of `other`."""
        return ClassTexts((*self.values(), *other.values()))

    def for_names(self, names: Iterable[str]) -> "ClassTexts":
        """The classes of these names, in their order; those that are not here have no description."""
        return ClassTexts(self.get(name) or ClassText(name) for name in names)

    @property
    def descriptions(self) -> dict[str, str]:
        """Name -> description, `""` where there is none; what JSON files and checkpoints hold."""
        return {name: text.description for name, text in self.items()}
