import numpy as np
import pytest
import torch

from froster.losses.batch import ClipBatch, cross_entropy
from froster.training.mixing import draw_box, mix_clips
from froster.training.run import class_weights


def batch() -> ClipBatch:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (3, 2, 3, 16, 20), dtype=torch.uint8, generator=generator)
    return ClipBatch(frames, torch.tensor([0, 2, 2]))


def test_mixup_blends_clips_and_labels_alike() -> None:
    clips = batch()
    mixed = mix_clips(clips, 4, 0.8, 0, np.random.default_rng(3))
    share = np.random.default_rng(3).beta(0.8, 0.8)
    expected = share * clips.frames[0].float() + (1 - share) * clips.frames[1].float()
    torch.testing.assert_close(mixed.frames[0], expected, atol=1e-3, rtol=0)
    targets = torch.tensor([[share, 0, 1 - share, 0], [0, 0, 1, 0], [1 - share, 0, share, 0]]).float()
    torch.testing.assert_close(mixed.targets, targets)
    assert clips.frames.dtype == torch.uint8 and clips.targets.tolist() == [0, 2, 2]


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    clips = batch()
    for seed in range(10):
        mixed = mix_clips(clips, 4, 0, 1.0, np.random.default_rng(seed))
        own, other = clips.frames[0].float(), clips.frames[1].float()
        assert ((mixed.frames[0] == own) | (mixed.frames[0] == other)).all()
        pasted = (mixed.frames[0] != own).any(dim=(0, 1))
        share = mixed.targets[0, 0].item()
        assert abs(pasted.float().mean().item() - (1 - share)) < 0.02  # a pasted pixel may happen to be the same
        rows, columns = pasted.any(dim=1).nonzero(), pasted.any(dim=0).nonzero()
        if len(rows):
            assert pasted[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].float().mean() > 0.9


def test_both_are_taken_in_turns_and_an_empty_batch_stays_empty() -> None:
    pasted = 0
    for seed in range(40):
        mixed = mix_clips(batch(), 4, 0.8, 1.0, np.random.default_rng(seed))
        pasted += bool((mixed.frames == mixed.frames.round()).all())
    assert 10 < pasted < 30
    empty = ClipBatch(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    assert mix_clips(empty, 4, 0.8, 1.0, np.random.default_rng(0)) is empty


def test_a_box_has_the_area_that_was_asked_for_but_for_the_edges() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        rows, columns, left = draw_box(100, 100, 0.75, rng)
        assert 0 <= rows.start <= rows.stop <= 100 and 0 <= columns.start <= columns.stop <= 100
        assert left == pytest.approx(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / 100**2)
        shares.append(left)
    assert min(shares) == pytest.approx(0.75)


def test_soft_targets_and_class_weights_in_cross_entropy() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    hard = torch.tensor([0, 1, 1, 1])
    weights = class_weights(hard.tolist(), 4)
    assert weights[:2].tolist() == pytest.approx([2, 2 / 3])  # half of the clips weigh as much as the other half
    assert weights[hard].mean() == pytest.approx(1)
    log_shares = logits.log_softmax(dim=1)
    of_each = -log_shares[torch.arange(4), hard]
    ours = cross_entropy(logits, ClipBatch(logits, hard), 8, weights[:3])
    assert ours.item() == pytest.approx((weights[hard] * of_each).sum().item() / 8, abs=1e-6)
    soft = torch.tensor([[0.3, 0.7, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0, 1.0]])
    ours = cross_entropy(logits, ClipBatch(logits, soft), 4, None)
    assert ours.item() == pytest.approx(-(soft * log_shares).sum().item() / 4, abs=1e-6)
    ours = cross_entropy(logits, ClipBatch(logits, soft), 4, weights[:3])
    assert ours.item() == pytest.approx(-(weights[:3] * soft * log_shares).sum().item() / 4, abs=1e-6)
