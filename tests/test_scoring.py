import torch
import torch.nn.functional as F

from froster.scoring import class_similarities


def test_mean_of_the_frames_cosines() -> None:
    torch.manual_seed(0)
    features, classes = torch.randn(2, 5, 16), F.normalize(torch.randn(7, 16), dim=1)
    expected = torch.stack(
        [
            torch.stack([F.cosine_similarity(features[b, t][None], classes) for t in range(5)]).mean(dim=0)
            for b in range(2)
        ]
    )
    assert (class_similarities(features, classes) - expected).abs().max() < 1e-6


def test_cosine_of_the_mean_feature() -> None:
    torch.manual_seed(0)
    features, classes = torch.randn(2, 5, 16), F.normalize(torch.randn(7, 16), dim=1)
    expected = F.cosine_similarity(features.mean(dim=1)[:, None], classes[None], dim=-1)
    assert (class_similarities(features, classes, "features") - expected).abs().max() < 1e-6
