"""The sequel to the study's own question: random flips, or alternating ones (Jordan, 2024, https://arxiv.org/abs/2404.00498)?

    OMP_NUM_THREADS=1 python benchmarks/alternating.py --root "$CELEBA_ROOT" --out nbs/results --seeds 16

A random flip may show an image twice the same way round. An alternating one doesn't: chance decides how an image is shown in the
first epoch, and each next epoch shows it the other way round. Both of the study's learning rates, with its images, initial
weights and orders, against its runs with random flips (study_answers.npz). One question, declared here before the runs: the
mean effect over both rates on the test accuracy, with the study's margin. Written: alternating_runs.csv, which has what each
run made of each image; a second start goes on from it.
"""
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, cpu_count, delayed

from celeba_nb.core import keep_memory
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback
from celeba_nb.results import ResultsTable, read_answers
from celeba_nb.run import choose_rows
from celeba_nb.stats import effect_rows
from celeba_nb.study import MARGIN, STUDY_METHODS, study_recipes
from celeba_nb.training import train

PINNED = {"threads": 1, "precision": "bfloat16", "memory_format": "channels_last"}  # as the study's runs
RANDOM = [method for method in STUDY_METHODS if "flip" in method]  # with which each is compared
METHODS = {method.replace("random", "alternating"): method for method in RANDOM}


def no_change(x, generator):
    "What these recipes name as their augmentation: the flips are made by `Alternating`."
    return x


class Alternating(Callback):
    "Images of a cache. Training images are flipped in every second epoch: half of them in the first, the others in the next."

    def __init__(self, cache, train_rows, seed):
        self.cache, self.labels, self.epoch = cache, cache.labels, 0
        self.first = np.zeros(len(cache.labels), dtype=bool)
        self.first[train_rows] = np.random.default_rng(seed).random(len(train_rows)) < 0.5
        self.second = np.zeros_like(self.first)
        self.second[train_rows] = ~self.first[train_rows]

    def on_epoch(self, state):
        self.epoch += 1

    def __getitem__(self, rows):
        images, flipped = self.cache[rows], torch.from_numpy((self.first, self.second)[self.epoch % 2][rows])
        return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def make(recipe, labels):
    "A run with alternating flips."
    rows = choose_rows(recipe, labels)
    cache = ImageCache(labels, recipe.size, np.concatenate(list(rows.values())), progress=False)
    images = Alternating(cache, rows["train"], recipe.seed)
    return train(recipe, labels, cache=images, callbacks=(images,), progress=False)


def effect(alternating, study):
    "Alternating instead of random flips, mean over the learning rates: from a table of runs, and from the study's answers."
    right, groups = study["test_accuracy"]
    seeds = sorted(set.intersection(*(set(alternating.rows.loc[alternating.rows["method"] == name, "seed"]) for name in METHODS)))
    values = [alternating.image_accuracies(name, seeds) for name in METHODS]
    values += [right[list(STUDY_METHODS).index(name)][seeds] for name in METHODS.values()]
    return effect_rows(np.array(values), groups, {"alternating for random flips": (0.5, 0.5, -0.5, -0.5)}, "higher", MARGIN)


def main():
    from common import study_parser  # in this folder, where Python looks when this is the program

    args = study_parser(__doc__, "runs/alternating").parse_args()
    keep_memory()
    labels, table = read_celeba(args.root), ResultsTable(args.out / "alternating_runs.csv")
    studied = study_recipes(**PINNED | args.options)
    for seed in range(args.seeds):
        plan = {(name, seed): replace(studied[random], augment="alternating.no_change", seed=seed)
                for name, random in METHODS.items() if (name, seed) not in table.right}
        for key, run in zip(plan, Parallel(cpu_count())(delayed(make)(recipe, labels) for recipe in plan.values())):
            table.add(key, run, labels)
    print(pd.DataFrame(effect(table, read_answers(args.out / "study_answers.npz"))).to_string(index=False))


if __name__ == "__main__":
    main()
