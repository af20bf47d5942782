"""Lesson 09 on real faces: more labels, ingredients, and the best recipes.

    OMP_NUM_THREADS=1 python benchmarks/few_labels.py --root "$CELEBA_ROOT"

This takes hours. A finished run is a row of a table in --out, and its folder is in --runs: a second start makes only what is
missing. Draws 6 and 7 of best-1k, and seeds 0 and 1 of best-10k, were made by the command line, on two threads. Written:
few_labels_curve.csv, few_labels_ingredients.csv, few_labels_best.csv, never_looking.csv.

First tries that no command makes again, on validation faces with one to four draws each: hints, not evidence.

- Worse: a teacher that is the moving average of its own student; a network trained further with its own frozen copy as teacher.
- No better than labels alone: pre-training without labels (BYOL, arXiv 2006.07733) for 1,000 steps.
- No difference that one run could show: more channels, a third residual block, a third generation, stronger augmentations, four
  teachers instead of one, other activations and blocks.
- With plain faces at the end, the networks said yes less often: before, they had learned to find attributes in recoloured,
  covered faces, and found too many in plain ones.
"""
from pathlib import Path

import pandas as pd

from celeba_nb.core import keep_memory
from celeba_nb.few_labels import CURVE, INGREDIENTS
from celeba_nb.files import read_celeba
from celeba_nb.metrics import majority_accuracy
from celeba_nb.recipe import RECIPES
from celeba_nb.results import ResultsTable, run_missing

BEST = {"best-1k": range(6), "best-100": range(8), "best-10k": [2]}  # recipe -> seeds
ASKED = [("curve", CURVE, range(4)), ("ingredients", INGREDIENTS, range(8)),
         *(("best", {name: RECIPES[name]}, seeds) for name, seeds in BEST.items())]  # table, recipes, seeds


def main():
    from common import results_parser  # in this folder, where Python looks when this is the program

    parser = results_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/few_labels"), help="where finished runs are kept")
    args = parser.parse_args()
    keep_memory()
    labels = read_celeba(args.root)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, recipes, seeds in ASKED:
        run_missing(ResultsTable(args.out / f"few_labels_{name}.csv"), recipes, seeds, labels, args.runs)
    train_truth, test_truth = (labels.attributes.to_numpy()[labels.rows(split)] for split in ("train", "test"))
    never = {"labels": [len(train_truth)], "test_accuracy": [majority_accuracy(train_truth, test_truth)]}
    pd.DataFrame(never).to_csv(args.out / "never_looking.csv", index=False)


if __name__ == "__main__":
    main()
