"""Reproduce every table and figure on puppets, once, and say which were measured: `python tests/all_tables.py`.

A check of the machinery, not of the numbers: one epoch of few clips with the small CLIP. Tables that train on
Kinetics-400 see its first classes and a few of the others; base-to-novel needs all base classes.
"""

import sys
import time
from pathlib import Path

from froster.errors import FrosterError
from froster.published import read_table, table_names
from froster.settings import InferenceSettings
from froster.tables.reproduce import RowResult, TableSettings, reproduce
from froster.tables.write import write_table
from layouts import draw_datasets

CLASSES = 12
CHANGES = (
    "model=puppets",
    "data.frames=4",
    "data.resize_short_side=[64,73]",
    "data.workers=0",
    "data.in_memory=true",
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "optimizer.batch_size=16",
    "average_from=0",
    "freeze_clip_epochs=0",
    "precision=float32",
)


def main(folder: Path, names: list[str]) -> int:
    few = dict.fromkeys(("kinetics-400", "ucf-101", "hmdb-51", "kinetics-600"), CLASSES)
    every = dict.fromkeys(("kinetics-400", "hmdb-51", "ucf-101", "ssv2"))
    failures = 0
    for name in names or table_names():
        table = read_table(name)
        classes = every if table.protocol == "base-to-novel" else few
        place = folder / ("all-classes" if classes is every else "few-classes")
        if not (place / "manifests").exists():
            draw_datasets(place, classes, actions=CLASSES)
        test = InferenceSettings(views=1, frames=4, sampling="release", precision="float32", workers=1)
        settings = TableSettings(place / "manifests", folder / "out", CHANGES, test, shots=1, draws=1)
        begin = time.monotonic()
        try:
            result = reproduce(name, settings)
        except FrosterError as error:
            failures += 1
            print(f"FAILED {name}: {error}", flush=True)
            continue
        write_table(result, folder / "tables")
        wanted = [of_row for of_row in result.rows if of_row.row.recipe or of_row.row.model]
        bad = [of_row for of_row in wanted if of_row.error or not is_whole(of_row, len(table.datasets))]
        failures += len(bad)
        took = time.monotonic() - begin
        print(
            f"{'FAILED' if bad else 'ok'} {name}: {len(wanted) - len(bad)} of {len(wanted)} rows, {took:.0f} s",
            flush=True,
        )
        for of_row in bad:
            print(f"  {of_row.row.method}: {of_row.error or 'some columns were not measured'}", flush=True)
    return failures


def is_whole(of_row: RowResult, datasets: int) -> bool:
    """Whether every dataset of the table was measured."""
    if of_row.trade_off is not None:
        return len(of_row.trade_off.top1) == datasets + 1
    return len({data.partition(" ")[0].strip("*") for data in of_row.results.scores}) == datasets


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/all-tables"), sys.argv[2:]))
