"""How `froster serve` does under load: requests a second, latencies and memory, and that no answer is lost or mixed up.

    python benchmarks/serve.py             # 1, 8 and 32 clients, 20 seconds each, with the small model in the package
    python benchmarks/serve.py 5 vit-b-16  # five seconds each, with another model

Clients and server share the machine. Every client uploads puppet videos with label sets of its own, and compares each
answer with what `Recognizer` says of that video and those labels, in float32.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import torch

from froster.data.puppets import ACTIONS, draw_video
from froster.data.puppets.files import write_mp4
from froster.recognizer import Recognizer

CLIENTS = (1, 8, 32)
VIDEOS = 8
TOLERANCE = 1e-3  # of scores; those of similarities are 100 times smaller


@dataclass
class Tally:
    """What one client saw: seconds of every answer, and what was wrong."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    model = sys.argv[2] if len(sys.argv) > 2 else "puppets"
    print(f"PyTorch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    with tempfile.TemporaryDirectory() as folder:
        videos = draw_videos(Path(folder))
        recognizer = Recognizer(model, ACTIONS, precision="float32")
        similarities = [recognizer.predict(video).similarities for video in videos]
        with running_server(Path(folder), model) as (process, url):
            print("clients | answers/s | p50 ms | p95 ms | p99 ms | wrong | videos/batch | server RSS MB")
            for clients in CLIENTS:
                before = counters(url)
                tallies = load(url, clients, seconds, videos, similarities, recognizer.runtime.score_head.temperature)
                after = counters(url)
                latencies = 1000 * np.array([value for tally in tallies for value in tally.seconds])
                wrong = [line for tally in tallies for line in tally.wrong]
                batch = (after["sum"] - before["sum"]) / (after["count"] - before["count"])
                p50, p95, p99 = np.percentile(latencies, (50, 95, 99))
                rate, size = len(latencies) / seconds, resident_megabytes(process.pid)
                print(
                    f"{clients:7} | {rate:9.1f} | {p50:6.0f} | {p95:6.0f} | {p99:6.0f} | {len(wrong):5} | "
                    f"{batch:12.1f} | {size:13.0f}"
                )
                for line in wrong[:5]:
                    print(f"  {line}")
            left = list(Path(folder, "tmp").glob("froster-serve-*/*"))
            print(f"uploads left over: {len(left)}; queue at the end: {counters(url)['queue']:.0f}")
        print(f"exit status after SIGTERM: {process.returncode}")


def draw_videos(folder: Path) -> list[Path]:
    """Clips of two seconds, 32 frames of 224 x 224."""
    paths = [folder / f"{number}.mp4" for number in range(VIDEOS)]
    for number, path in enumerate(paths):
        write_mp4(path, draw_video(number, 5 * number, 32, 224), 16)
    return paths


@contextmanager
def running_server(folder: Path, model: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "froster",
            "serve",
            "--port",
            "0",
            "--model",
            model,
            "--precision",
            "float32",
            "--no-access-log",
        ],
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server did not start"
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def load(
    url: str, clients: int, seconds: float, videos: list[Path], similarities: list[dict[str, float]], temperature: float
) -> list[Tally]:
    """Let clients ask one request after the other for a while."""
    contents = [video.read_bytes() for video in videos]
    end = time.monotonic() + seconds

    def ask(number: int) -> Tally:
        tally, rng = Tally(), np.random.default_rng((0, number))
        with httpx.Client(base_url=url, timeout=60, verify=False, trust_env=False) as client:
            while time.monotonic() < end:
                video = int(rng.integers(VIDEOS))
                labels = rng.permutation(ACTIONS)[: rng.integers(2, len(ACTIONS))].tolist()
                data = {"labels": json.dumps(labels), "top": "99"}
                begin = time.monotonic()
                answer = client.post("/v1/recognize", files={"file": contents[video]}, data=data)
                tally.seconds.append(time.monotonic() - begin)
                expected = np.array([similarities[video][label] for label in labels])
                if fault := difference(answer, labels, expected, temperature):
                    tally.wrong.append(fault)
        return tally

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, range(clients)))


def difference(answer: httpx.Response, labels: list[str], similarities: np.ndarray, temperature: float) -> str:
    """What is wrong with an answer, "" if nothing."""
    if answer.status_code != 200:
        return answer.text[:200]
    scores = {entry["label"]: entry["score"] for entry in answer.json()["ranked"]}
    if scores.keys() != set(labels):
        return "labels of another request"
    weights = np.exp(temperature * (similarities - similarities.max()))
    off = np.abs([scores[label] for label in labels] - weights / weights.sum()).max()
    return f"a score is {off:.2g} off" if off > TOLERANCE else ""


def counters(url: str) -> dict[str, float]:
    """Batches, the videos in them, and the queue's length."""
    lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
    names = {"froster_batch_videos_count": "count", "froster_batch_videos_sum": "sum", "froster_queue_length": "queue"}
    pairs = (line.split(" ") for line in lines if not line.startswith("#"))
    return {names[name]: float(value) for name, value in pairs if name in names}


def resident_megabytes(process: int) -> float:
    """What a process holds in memory now (Linux)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000


if __name__ == "__main__":
    main()
