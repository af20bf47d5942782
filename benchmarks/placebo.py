"""A placebo: the study's first method against itself, where only the arithmetic differs (real CelebA: about 20 minutes).

    python benchmarks/placebo.py --root "$CELEBA_ROOT" --out nbs/results/placebo_runs.csv

Two threads, or the other memory format, add up the same numbers in a different order; float32 keeps more digits of them. No
difference should be found, and how far a single run moves is what no result of one run can be surer than. Runs in --runs
are not made again: those of `celeba-nb study` with the same recipe count.
"""
import argparse
from pathlib import Path

import numpy as np

from celeba_nb.core import keep_memory
from celeba_nb.data import find_root
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.results import ResultsTable, paired_effects, run_missing

PLAIN = "bfloat16, 1 thread"
CHANGES = {"2 threads": {"threads": 2}, "contiguous memory": {"memory_format": "contiguous"},
           "float32": {"precision": "float32"}}
FIXED = {"threads": 1, "precision": "bfloat16", "memory_format": "channels_last"}


def placebo_recipes(**sizes):
    "The method as it is, and with each change of its arithmetic."
    return {name: Recipe(**sizes | FIXED | change) for name, change in {PLAIN: {}, **CHANGES}.items()}


def moves(table, seeds):
    "How far each single run moves, in points: (changes, seeds)."
    plain, *changed = (table.image_accuracies(name, seeds).mean(1) for name in (PLAIN, *CHANGES))
    return 100 * np.abs(np.array(changed) - plain)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("placebo_runs.csv"))
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    keep_memory()
    table, seeds = ResultsTable(options.out), range(options.seeds)
    labels = read_celeba(options.root or find_root())
    for name, recipe in placebo_recipes().items():  # one after the other: runs with two threads can't share two cores
        run_missing(table, {name: recipe}, seeds, labels, options.runs)
    effects = paired_effects(table, {name: (name, PLAIN) for name in CHANGES})
    print(effects.assign(moves=moves(table, seeds).mean(1)).to_string(index=False))


if __name__ == "__main__":
    main()
