"""The short form of `python tests/fuzz/videos.py`."""

import torch

from fuzz.videos import GOOD, SEEDS, fuzz


def test_mutated_files_give_frames_or_a_sentence(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that was forked has no others
    try:
        results = list(fuzz(2 * (len(SEEDS) + 2), 1, tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert [(what, found) for what, found, _ in results if found not in GOOD] == []
    assert {found for _, found, _ in results} >= {"refused", "warned"}
