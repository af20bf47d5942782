"""One run on all cores, or as many runs as cores? The same four runs both ways, in turns.

    python benchmarks/parallel.py --root "$CELEBA_ROOT" --csv nbs/results/speed_study.csv
"""
import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from joblib import cpu_count, parallel_config

from celeba_nb.data import find_root
from celeba_nb.files import read_celeba
from celeba_nb.runs import make_caches, plan_runs
from celeba_nb.study import Study, study_recipes


def seconds(labels, threads, at_once, options):
    "How long a study of four runs takes."
    recipes = study_recipes(threads=threads, **options)
    with tempfile.TemporaryDirectory() as folder, parallel_config(n_jobs=at_once):
        study = Study(recipes, 1, folder)
        make_caches(labels, plan_runs(recipes, [0], labels).values(), progress=False)
        began = time.perf_counter()
        study.run(labels, progress=False)
        return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    labels, cores = read_celeba(args.root or find_root()), cpu_count()
    ways = {f"one run on {cores} threads": (cores, 1), f"{cores} runs on 1 thread each": (1, cores)}
    options = {"size": args.size, "epochs": args.epochs}
    for _, at_once in ways.values():  # the first time starts the processes
        seconds(labels, 1, at_once, options | {"train_images": 32, "valid_images": 32, "test_images": 32})
    turns = [{name: seconds(labels, *way, options) for name, way in ways.items()} for _ in range(args.turns)]
    table = pd.DataFrame(turns).rename_axis("turn")
    print(table.round(1))
    table.to_csv(args.csv)


if __name__ == "__main__":
    main()
