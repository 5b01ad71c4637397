"""Fixtures around `numbered`: video files whose every frame shows its own number."""

import pytest

from numbered import numbered, read_number, write_sound, write_video


@pytest.fixture
def video(tmp_path):
    """`video("name.mp4", count, ...)` writes a numbered video below the test's own folder."""
    return lambda name, count, **how: write_video(tmp_path / name, count, **how)


@pytest.fixture
def number_of():
    return read_number


@pytest.fixture
def picture():
    return numbered


@pytest.fixture
def sound():
    return write_sound
