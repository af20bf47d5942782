"""The parts of lesson 10's estimate: how many images a second one core decodes, picks, makes batches of, and trains on.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --root "$CELEBA_ROOT" --out nbs/results

The study's network at 128×128, batches of 32; 256 random images are picked at a time. Each is the best of a few repeats.
Written: scale_parts.csv.
"""
import numpy as np
import pandas as pd
import torch

from celeba_nb.augment import random_flip
from celeba_nb.data import Batches
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache, decode
from celeba_nb.loop import bce, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.run import resolve
from celeba_nb.speed import compare_times
from celeba_nb.state import new_state


def seconds_of(action, repeats=3):
    "The least seconds that an action took."
    return compare_times({"action": action}, repeats, warm_up=0)["action"].min()


def measure(labels, size=128):
    "Part -> images a second."
    rows = labels.rows("train")[:512]
    some, many = ImageCache(labels, size, rows), ImageCache(labels, size, labels.rows("train")[:8192])
    state = new_state(resolve(Recipe(size=size, augment="celeba_nb.augment.random_flip", threads=1, device="cpu"), labels), 16)
    x, y = next(iter(Batches(some, rows, 32)))
    rng = np.random.default_rng(0)
    return {
        "decode": len(rows) / seconds_of(lambda: [decode(labels.read(row), size) for row in rows]),
        "pick images": 256 / seconds_of(lambda: many[rng.choice(many.rows, 256)], 50),
        "make batches": len(rows) / seconds_of(lambda: [*Batches(some, rows, 32, random_flip, torch.Generator())]),
        "train step": 32 / seconds_of(lambda: train_step(state, state.net, bce, x, y), 8)}


def main():
    from common import results_parser  # in this folder, where Python looks when this is the program

    args = results_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    parts = pd.Series(measure(read_celeba(args.root)), name="images a second and core")
    args.out.mkdir(parents=True, exist_ok=True)
    parts.to_csv(args.out / "scale_parts.csv")
    print(parts.round().astype(int).to_string())


if __name__ == "__main__":
    main()
