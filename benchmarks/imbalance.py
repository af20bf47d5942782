"""Rare attributes: do a weighted loss, a sampler, or thresholds help, and what do they cost?

    OMP_NUM_THREADS=1 python benchmarks/imbalance.py --root "$CELEBA_ROOT" --out nbs/results

Three methods are trained as in lesson 07 (the small residual network, 64×64, 20 epochs, 1,000 images), with paired seeds; the
fourth, thresholds, takes the base's runs and says yes above the threshold that is best for the balanced accuracy on the
validation images. Each is compared with the base. Each outcome is a family of its questions, declared here before the runs:
accuracy and balanced accuracy (three), average precision and log loss after the temperature (two, since thresholds change
neither). Intervals and verdicts of the accuracy are about new seeds and new identities, of the other outcomes about new seeds.
Finished runs are kept in --runs, and a second start goes on from them. Written: imbalance_runs.csv, imbalance_effects.csv.
"""
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from celeba_nb.answers import calibrate
from celeba_nb.core import keep_memory
from celeba_nb.files import read_celeba
from celeba_nb.metrics import balanced_accuracy, image_accuracy, log_loss, mean_average_precision, tune_thresholds
from celeba_nb.recipe import Recipe
from celeba_nb.stats import effect_rows
from celeba_nb.study import Study

METHODS = {
    "base": {},
    "weighted loss": {"loss": "celeba_nb.imbalance.WeightedBCE"},
    "sampler": {"sampler": "celeba_nb.imbalance.rare_answers"},
}
OUTCOMES = {"accuracy": "higher", "balanced_accuracy": "higher", "mean_average_precision": "higher", "log_loss": "lower"}
OF_ANSWERS = ("accuracy", "balanced_accuracy")  # outcomes that thresholds can change
BASE = Recipe(model="celeba_nb.model.ResNet", model_args={"channels": [16, 48, 96, 128]}, size=64, optimizer="AdamW",
              lr=0.002, weight_decay=0.05, schedule="cosine", epochs=20, threads=1)


def answers(run, thresholds):
    "The yes (1) and no (0) of the test images."
    limits = tune_thresholds(run.predictions["valid"], run.predictions["valid_truth"]) if thresholds else 0.5
    return (run.predictions["test"] > limits).astype(float)


def outcomes(run, thresholds):
    "Outcome -> its values: for each test image, or one for the run."
    p, truth, yes = run.predictions["test"], run.predictions["test_truth"], answers(run, thresholds)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*left out of the mean")
        return {"accuracy": image_accuracy(yes, truth), "balanced_accuracy": np.array([balanced_accuracy(yes, truth)]),
                "mean_average_precision": np.array([mean_average_precision(p, truth)]),
                "log_loss": np.array([log_loss(calibrate(run, p), truth)])}


def tables(study):
    "A row a run, and a row an effect: each method minus the base."
    runs = {(method, seed): outcomes(run, False) for (method, seed), run in study.runs.items()}
    runs |= {("thresholds", seed): outcomes(study.runs["base", seed], True) for seed in study.seeds}
    means = pd.DataFrame([{"method": method, "seed": seed} | {name: one.mean() for name, one in found.items()}
                          for (method, seed), found in runs.items()])
    effects = []
    for outcome, better in OUTCOMES.items():
        methods = [*METHODS, *(["thresholds"] if outcome in OF_ANSWERS else [])]
        values = np.array([[runs[method, seed][outcome] for seed in study.seeds] for method in methods])
        groups = study.groups("test_accuracy") if outcome == "accuracy" else np.zeros(1)
        weights = {method: tuple((name == method) - (name == "base") for name in methods) for method in methods[1:]}
        effects.append(effect_rows(values, groups, weights, better).assign(outcome=outcome))
    return means, pd.concat(effects)[["outcome", "effect", "mean", "low", "high", "p", "p_holm", "wins", "n", "verdict"]]


def main():
    from common import study_parser  # in this folder, where Python looks when this is the program

    args = study_parser(__doc__, "runs/imbalance").parse_args()
    keep_memory()
    base = replace(BASE, **args.options)
    study = Study({method: replace(base, **change) for method, change in METHODS.items()}, args.seeds, args.runs)
    means, effects = tables(study.run(read_celeba(args.root)))
    args.out.mkdir(parents=True, exist_ok=True)
    means.to_csv(args.out / "imbalance_runs.csv", index=False)
    effects.to_csv(args.out / "imbalance_effects.csv", index=False)
    print(means.groupby("method", sort=False).mean().drop(columns="seed").round(4).to_string(), effects.to_string(), sep="\n\n")


if __name__ == "__main__":
    main()
