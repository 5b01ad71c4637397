"""Seeking wherever it saves frames gives the frames that decoding from the start gives, whatever the keyframes."""

from fractions import Fraction

import av
import numpy as np
import pytest

from froster.video import decode, decode_frames

COUNT = 90


def x264(gop, b_frames, **parameters):
    named = {"b-pyramid": "normal", "scenecut": "0", **{name.replace("_", "-"): v for name, v in parameters.items()}}
    joined = ":".join(f"{name}={value}" for name, value in named.items())
    return {"options": {"preset": "ultrafast", "bf": str(b_frames), "g": str(gop), "x264-params": joined}}


FILES = {
    "intra.mp4": x264(1, 0),
    "pairs.mp4": x264(2, 2),
    "threes.mkv": x264(3, 3),
    "eights.mp4": x264(8, 0),
    "eights_b.mp4": x264(8, 3),
    "twelve_b.mkv": x264(12, 2),
    "open_twelve.mp4": x264(12, 3, open_gop=1),
    "open_twelve.mkv": x264(12, 3, open_gop=1),
    "open_eight.ts": x264(8, 2, open_gop=1),
    "refresh.mp4": x264(12, 0, intra_refresh=1),
    "fragments.mp4": x264(8, 3) | {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "late.mp4": x264(8, 3) | {"ticks": list(range(45, 45 + COUNT)), "tick": Fraction(1, 30)},
    "edited.mp4": x264(8, 3)
    | {
        "ticks": list(range(-20, COUNT - 20)),
        "tick": Fraction(1, 30),
        "container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"},
    },
    "uneven.mp4": x264(8, 2) | {"ticks": np.cumsum(np.arange(COUNT) % 5 + 1).tolist(), "tick": Fraction(1, 90)},
    "sound.mp4": x264(8, 3) | {"audio": 3.0},
    "plain.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "no_cues.mkv": x264(8, 3) | {"container_options": {"live": "1"}},
    "types.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "8"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "keyint=8:bframes=3:log-level=none"},
    },
}


@pytest.fixture
def packets(monkeypatch):
    """The packets that were decoded, and how often a file was opened."""
    counts = {"decoded": 0, "opened": 0}
    of_packet, of_file = decode._decode, av.open

    def decoding(packet):
        counts["decoded"] += packet.size > 0
        return of_packet(packet)

    def opening(*arguments, **options):
        counts["opened"] += 1
        return of_file(*arguments, **options)

    monkeypatch.setattr(decode, "_decode", decoding)
    monkeypatch.setattr(av, "open", opening)
    return counts


@pytest.mark.parametrize("name", FILES)
def test_the_same_pixels_as_from_the_start(video, packets, name):
    path = video(name, COUNT, **FILES[name])
    with av.open(str(path)) as container:
        everything = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    draw = np.random.default_rng(0)
    packets.update(opened=0)
    for size in (1, 3, 8):
        for _ in range(4):
            wanted = np.sort(draw.choice(len(everything), size, replace=False))
            np.testing.assert_array_equal(decode_frames(path, wanted.tolist()).frames, everything[wanted])
    # After a keyframe of a gradual refresh only later frames are complete, so it is read from the start; the packets of
    # an MPEG program stream lack times.
    assert packets["opened"] == 12 * {"refresh.mp4": 2, "mpeg2.mpg": 3}.get(name, 1)


@pytest.mark.parametrize("name", ["eights.mp4", "open_twelve.mkv", "plain.avi", "sound.mp4"])
def test_only_packets_between_a_keyframe_and_a_frame_are_decoded(video, packets, name):
    path = video(name, COUNT, **FILES[name])
    with av.open(str(path)) as container:
        stored = [packet for packet in container.demux(video=0) if packet.size]
    places = {packet.pts: place for place, packet in enumerate(stored)}
    keys = [packet.pts for packet in stored if packet.is_keyframe]
    shown = sorted(places)
    for wanted in ([20], [5, 40, 41], [0, 11, 13, 26, 50, 74, 89]):
        needed = set[int]()
        for number in wanted:
            key = max(pts for pts in keys if pts <= shown[number])
            needed |= set(range(places[key], places[shown[number]] + 1))
        packets.update(decoded=0)
        decode_frames(path, wanted)
        # No seek for a single packet.
        assert len(needed) <= packets["decoded"] <= len(needed) + len(wanted)
