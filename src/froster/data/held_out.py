"""Random splits of labeled videos, such as those that are held out of training for validation."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np


def assign_splits(videos: Iterable[tuple[str, str]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each file that a random share of its class is held out for; files of no split are left out.

    `videos`: pairs (file, label); a file with several rows is held out with all of them. `shares`: split -> share of
    each class's files, at least one each, while at least one of the class stays out of all of them. A file's random
    number depends only on its name and the seed, so that adding files moves few others.
    """
    by_class = defaultdict[str, set[str]](set)
    for file, label in videos:
        by_class[label].add(file)
    splits = dict[str, str]()
    for files in by_class.values():
        names = {file: file.encode(errors="surrogateescape") for file in files}  # on Linux not always UTF-8
        draws = {file: np.random.default_rng((seed, zlib.crc32(name))).random() for file, name in names.items()}
        free = sorted(files, key=lambda file: (draws[file], file))
        for split, share in shares.items():
            count = min(max(1, round(share * len(files))), len(free) - 1)
            splits |= dict.fromkeys(free[:count], split)
            free = free[count:]
    return splits
