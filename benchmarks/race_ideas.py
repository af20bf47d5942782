"""The thousand-faces race: 16 draws of its recipe, and what else was tried, one change at a time, on validation images.

    OMP_NUM_THREADS=1 python benchmarks/race_ideas.py --root "$CELEBA_ROOT" --out nbs/results --seeds 4

Each draw of 1,000 training images is used with and without the change. Written, a row a run: race_draws.csv (the recipe, whose
draws are those of the study's seeds 0 to 15) and race_ideas.csv.
"""
from dataclasses import replace

from common import study_parser

from celeba_nb.files import read_celeba
from celeba_nb.recipe import RECIPES
from celeba_nb.study import Study

IDEAS = {
    "race": {},
    "32 kernels instead of 64": {"model_args": {"filters": 32}},
    "128 kernels": {"model_args": {"filters": 128}},
    "patches of 4×4 pixels instead of 6×6": {"model_args": {"kernel": 4, "grid": 5}},
    "patches of 12×12, at every pixel": {"model_args": {"kernel": 12, "stride": 1}},
    "patches of 5×5, at every pixel": {"model_args": {"kernel": 5, "stride": 1}},
    "2×2 cells instead of 7×7": {"model_args": {"grid": 2}},
    "14×14 cells": {"model_args": {"grid": 14}},
    "images of 64×64, patches of 12×12": {"size": 64, "model_args": {"kernel": 12, "stride": 4}},
    "a third of the penalty": {"weight_decay": 0.33},
    "three times the penalty": {"weight_decay": 3.0},
    "a penalty for each attribute, by leave-one-out": {"weight_decay": 0.0},
}


def main():
    args = study_parser(__doc__, "runs/race_ideas").parse_args()
    labels = read_celeba(args.root)
    recipes = {name: replace(RECIPES["race"], threads=1, **changes, **args.options) for name, changes in IDEAS.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, some, seeds, outcome in (("race_draws", {"race": recipes["race"]}, 16, "test_accuracy"),
                                       ("race_ideas", recipes, args.seeds, "valid_accuracy")):
        runs = Study(some, seeds, args.runs).run(labels).metrics()
        kept = ["method", "seed", "run", outcome, "precision", "threads", "processor"]
        runs[kept].to_csv(args.out / f"{name}.csv", index=False)
        print(runs.groupby("method", sort=False)[outcome].mean().to_string())


if __name__ == "__main__":
    main()
