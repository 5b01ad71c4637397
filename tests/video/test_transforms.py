"""Preprocessing against Pillow (what CLIP uses) and against the released video code's golden."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from safetensors.torch import load_file

from froster.video import decode_frames
from froster.video.transforms import (
    CLIP_MEAN,
    CLIP_STD,
    Preprocessing,
    color_jitter,
    random_crop,
    seen_region,
)


def pillow_clip(frame, size):
    """OpenAI's `Resize(size, BICUBIC)`, `CenterCrop(size)` in torchvision's arithmetic, by Pillow."""
    image = Image.fromarray(frame)
    short, long = sorted(image.size)
    sides = (size, int(size * long / short))
    image = image.resize(sides if image.width <= image.height else sides[::-1], Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    "name", ["arm_wrestling.mp4", "flipping_a_pancake.mkv", "short.avi", "rotated_90.mov", "corrupted.mp4"]
)
@pytest.mark.parametrize("size", [224, 96, 336])
def test_clip_resize_agrees_with_pillow_on_real_frames(shared, name, size):
    frames = decode_frames(shared / "videos" / name, [0, 1, -1]).frames
    ours = Preprocessing(size).resize(torch.from_numpy(frames)).permute(0, 2, 3, 1).numpy()
    theirs = np.stack([pillow_clip(frame, size) for frame in frames])
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 2e-5
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("height, width", [(33, 33), (224, 224), (50, 41), (41, 50), (225, 227), (7, 500)])
def test_clip_resize_has_pillows_geometry(height, width):
    ramp = np.linspace(0, 255, height)[:, None] * 0.5 + np.linspace(0, 255, width)[None] * 0.5
    frame = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)
    ours = Preprocessing(32).resize(torch.from_numpy(frame)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - pillow_clip(frame, 32)).max() <= 1


def test_clip_preprocess_normalises_with_clips_numbers():
    gray = torch.full((2, 40, 60, 3), 100, dtype=torch.uint8)
    prepared = Preprocessing(32)(gray)
    assert prepared.shape == (2, 3, 32, 32) and prepared.dtype == torch.float32
    expected = (100 / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(prepared[1, :, 5, 5], expected)


def test_release_preprocess_reproduces_the_released_code(golden_file):
    cases = json.loads(golden_file("more/preprocess_test.json").read_text())["constructor"]["cases"]
    tensors = load_file(golden_file("more/preprocess_test.safetensors"))
    assert cases
    for number, case in enumerate(cases):
        prepared = Preprocessing(case["scale"]).released(tensors[f"in.frames{number}"])
        torch.testing.assert_close(prepared.transpose(0, 1), tensors[f"out.clip{number}"], atol=1e-5, rtol=0)


CORNERS = [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.26, 0.61)]


@pytest.mark.parametrize("height, width", [(50, 41), (41, 50), (225, 227), (40, 40), (30, 90)])
def test_random_crop_is_a_crop_of_pillows_resize(height, width):
    ramp = np.linspace(0, 255, height)[:, None] * 0.5 + np.linspace(0, 255, width)[None] * 0.5
    frame = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)
    long_side = int(40 * max(height, width) / min(height, width))
    sides = (40, long_side) if height > width else (long_side, 40)
    scaled = np.asarray(Image.fromarray(frame).resize(sides, Image.Resampling.BICUBIC))
    for above, left in CORNERS:
        top, start = round(above * (scaled.shape[0] - 32)), round(left * (scaled.shape[1] - 32))
        expected = scaled[top : top + 32, start : start + 32]
        ours = random_crop(torch.from_numpy(frame), 32, 40, (above, left), flip=False)
        assert ours.shape == (3, 32, 32) and ours.dtype == torch.uint8
        assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_random_crop_cuts_exactly_where_nothing_is_scaled():
    frame = np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8)
    for (above, left), (top, start) in zip(CORNERS, [(0, 0), (6, 18), (0, 18), (2, 11)], strict=True):
        expected = frame[top : top + 30, start : start + 30]
        plain, mirrored = (random_crop(torch.from_numpy(frame), 30, 36, (above, left), flip) for flip in (False, True))
        np.testing.assert_array_equal(plain.permute(1, 2, 0).numpy(), expected)
        np.testing.assert_array_equal(mirrored.permute(1, 2, 0).numpy(), expected[:, ::-1])


def test_released_training_crop_is_the_released_codes(golden_file):
    """Resized in [0, 255], then normalized: the same as the authors' order, to rounding."""
    cases = json.loads(golden_file("more/preprocess_test.json").read_text())["constructor"]["cases"]
    tensors = load_file(golden_file("more/preprocess_test.safetensors"))
    for number, case in enumerate(cases):
        size, expected = case["scale"], tensors[f"out.clip{number}"].transpose(0, 1)
        for frame, golden in zip(tensors[f"in.frames{number}"], expected, strict=True):
            height, width = frame.shape[:2]
            rest = int(size * max(height, width) / min(height, width)) - size
            center = math.ceil(rest / 2) / rest if rest else 0.0
            crop = random_crop(frame, size, size, (center, center), flip=False, release=True)
            assert crop.dtype == torch.float32 and crop.min() >= 0 and crop.max() <= 255
            torch.testing.assert_close(Preprocessing(size).normalize(crop), golden, atol=2e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalizing_leaves_the_frames_as_they_are(dtype):
    """Both losses of a step with interpolated weights read the same batch."""
    frames = torch.arange(48).reshape(1, 3, 4, 4).to(dtype)
    preprocess, kept = Preprocessing(4), frames.clone()
    first, second = preprocess.normalize(frames), preprocess.normalize(frames)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert torch.equal(frames, kept)
    torch.testing.assert_close(first[0, 1, 0, 0].item(), (16 / 255 - 0.4578275) / 0.26130258, atol=1e-6, rtol=0)


@pytest.mark.parametrize("enhancer", [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color])
def test_color_jitter_is_pillows(enhancer):
    index = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color].index(enhancer)
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)
    for factor in generator.uniform(0.6, 1.4, 8):
        ours = color_jitter(pixels, tuple(np.insert([0.5, 2.0], index, factor).tolist()), [index])
        expected = np.asarray(enhancer(Image.fromarray(picture)).enhance(factor)).astype(int)
        assert ours.dtype == torch.uint8
        # Pillow cuts fractions off, and rounds the gray values.
        assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_color_jitter_applies_one_after_the_other():
    pixels = 255 * torch.rand(3, 8, 9)
    factors = (0.7, 1.4, 0.6)
    for order in ((0, 1, 2), (2, 0, 1)):
        expected = pixels
        for index in order:
            expected = color_jitter(expected, factors, [index])
        torch.testing.assert_close(color_jitter(pixels, factors, order), expected)
    assert not torch.allclose(color_jitter(pixels, factors, (0, 1, 2)), color_jitter(pixels, factors, (2, 0, 1)))
    assert torch.equal(color_jitter(pixels, (1.0, 1.0, 1.0), (0, 1, 2)), pixels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("height, width", [(33, 50), (120, 41), (7, 90), (40, 40)])
def test_other_resize_modes_agree_with_pillow(height, width, interpolation):
    """`longest` as OpenCLIP's `ResizeKeepRatio(longest=1)` and `CenterCropOrPad` with black."""
    ramp = np.linspace(0, 255, height)[:, None] * 0.5 + np.linspace(0, 255, width)[None] * 0.5
    frame = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)
    resampling = Image.Resampling[interpolation.upper()]

    def ours(mode):
        prepared = Preprocessing(32, interpolation=interpolation, resize_mode=mode)
        return prepared.resize(torch.from_numpy(frame)[None])[0].permute(1, 2, 0).numpy().astype(int)

    squashed = np.asarray(Image.fromarray(frame).resize((32, 32), resampling))
    assert np.abs(ours("squash") - squashed).max() <= 1
    ratio = max(height, width) / 32
    size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    padded, small = np.zeros((32, 32, 3), int), np.asarray(Image.fromarray(frame).resize(size, resampling))
    top, left = (32 - size[1]) // 2, (32 - size[0]) // 2
    padded[top : top + size[1], left : left + size[0]] = small
    assert np.abs(ours("longest") - padded).max() <= 1


def test_released_preparation_has_the_same_geometry():
    frames = torch.randint(0, 256, (2, 20, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    squashed = Preprocessing(32, resize_mode="squash").released(frames)
    assert squashed.shape == (2, 3, 32, 32)
    padded = Preprocessing(32, resize_mode="longest").released(frames)
    black = (0 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(padded[1, :, 0, 0], black)
    assert (padded[:, :, 11:21] != black[:, None, None]).any(dim=-1).all()


def test_unknown_ways_to_prepare_are_refused():
    for wrong in ({"resize_mode": "stretch"}, {"interpolation": "nearest"}, {"size": 0}):
        with pytest.raises(ValueError):
            Preprocessing(**wrong)


def test_the_region_that_a_model_sees():
    picture = np.random.default_rng(0).integers(1, 256, (20, 31, 3), dtype=np.uint8)
    np.testing.assert_array_equal(seen_region(picture, "shortest"), picture[:, 6:26])
    np.testing.assert_array_equal(seen_region(picture, "squash"), picture)
    padded = seen_region(picture, "longest")
    assert padded.shape == (31, 31, 3) and not padded[:6].any() and not padded[26:].any()
    np.testing.assert_array_equal(padded[6:26], picture)


def test_a_training_crop_has_the_backbones_interpolation():
    frame = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pillow = Image.fromarray(frame.numpy()).resize((48, 32), Image.Resampling.BILINEAR)
    crop = random_crop(frame, 32, 32, (0.0, 0.0), False, interpolation="bilinear")
    assert np.abs(crop.permute(1, 2, 0).numpy().astype(int) - np.asarray(pillow)[:, :32]).max() <= 1
