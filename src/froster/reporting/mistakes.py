"""Misclassified videos, most confident errors first."""

from dataclasses import dataclass

from froster.evaluation import ScoredModel

SHOWN = 3  # labels per error


@dataclass(frozen=True)
class Ranked:
    """A label's rank, from 1, and its score among the vocabulary."""

    label: str
    rank: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """A misclassified video.

    `index`: which video of the manifest. `ranked`: the first labels, and the right one where it is not among them.
    `margin`: the share of what was said less the share of the truth.
    """

    index: int
    truth: str
    said: str
    ranked: list[Ranked]
    margin: float


def find_mistakes(scored: ScoredModel, names: dict[str, list[str]], count: int) -> list[Mistake]:
    """The `count` errors with the largest margins over all vocabularies; `names`: the classes of each.

    Of equal margins the one with the larger cosine margin goes first, then the earlier video. Of equal scores, the
    first in class order ranks higher, as in `froster.evaluation.evaluate_scores`.
    """
    found: list[tuple[tuple[float, float, int], Mistake]] = []
    for part, of_part in scored.parts.items():
        cosines = of_part.scores.double()
        shares = scored.runtime.score_head.scores(cosines)
        targets = of_part.targets
        margins = shares.max(dim=1).values - shares.gather(1, targets[:, None])[:, 0]
        cosine_margins = cosines.max(dim=1).values - cosines.gather(1, targets[:, None])[:, 0]
        wrong = (of_part.scores.argmax(dim=1) != targets).nonzero()[:, 0].tolist()
        for row in wrong:
            order = of_part.scores[row].argsort(descending=True, stable=True).tolist()
            target = int(targets[row])
            shown = order[:SHOWN] if target in order[:SHOWN] else [*order[:SHOWN], target]
            ranked = [Ranked(names[part][k], order.index(k) + 1, float(shares[row, k])) for k in shown]
            index, margin = of_part.indices[row], float(margins[row])
            mistake = Mistake(index, names[part][target], names[part][order[0]], ranked, margin)
            found.append(((-margin, -float(cosine_margins[row]), index), mistake))
    return [mistake for _, mistake in sorted(found, key=lambda pair: pair[0])[:count]]
