"""What do wrong labels cost, and who is judged worse? The tables of notebook 13.

    OMP_NUM_THREADS=1 python benchmarks/limits.py --root "$CELEBA_ROOT" --out nbs/results

Written: limits_noise.csv (25 networks on sketch faces with wrong labels), and, with --root, limits_labels.csv (pairs of
images of one person), limits_runs.csv, limits_gaps.csv and limits_answers.npz (eight networks on real faces, kept in
--runs: their calibration, the gaps between groups, and what each made of each image).
"""
import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from celeba_nb.audit import calibration_row, group_gaps, label_audit
from celeba_nb.data import find_root
from celeba_nb.files import identities, read_celeba
from celeba_nb.limits import flip_labels
from celeba_nb.metrics import accuracy
from celeba_nb.recipe import QUICKEST, Recipe
from celeba_nb.results import study_answers
from celeba_nb.study import Study
from celeba_nb.training import train

GROUPS = ["Male", "Young"]
ON_SKETCH = Recipe(**QUICKEST | {"train_images": None, "size": 32, "epochs": 6, "threads": 1})
ON_REAL = {
    "the study's, 5 epochs": Recipe(train_images=10_000, size=64, epochs=5),
    "small residual, 8 epochs": Recipe(train_images=10_000, **QUICKEST),
}


def noise_row(labels, noise, seed):
    "The accuracy of a network that learned from wrong labels: by right test labels, and by wrong ones."
    noisy = flip_labels(labels, noise, ("train", "valid"), seed)
    run = train(replace(ON_SKETCH, seed=seed), noisy, progress=False)
    rows = run.predictions["test_rows"]
    right, wrong = (each.attributes.to_numpy()[rows] for each in (labels, flip_labels(labels, noise, ("test",), seed)))
    return {"noise": noise, "seed": seed, "clean_test": accuracy(run.predictions["test"], right),
            "noisy_test": accuracy(run.predictions["test"], wrong), "processor": run.machine["processor"]}


def real_tables(labels, runs_folder, out):
    "Calibration of each run, what it made of each image, and the gaps between groups over the seeds."
    study = Study(ON_REAL, 4, runs_folder).run(labels)
    rows = [{"method": method, "seed": seed} | calibration_row(run)
            | {"seconds": run.metrics["seconds"], "processor": run.machine["processor"]}
            for (method, seed), run in study.runs.items()]
    pd.DataFrame(rows).to_csv(out / "limits_runs.csv", index=False)
    rows = labels.rows("test")
    who = identities(labels, rows)
    members = {group: labels.attributes[group].to_numpy()[rows] for group in GROUPS}
    np.savez_compressed(out / "limits_answers.npz", **study_answers(study), **members)
    gaps = [group_gaps([study.runs[method, seed] for seed in study.seeds], group, who).assign(method=method, group=group)
            for method in ON_REAL for group in GROUPS]
    pd.concat(gaps).rename_axis("of").round(5).to_csv(out / "limits_gaps.csv")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of the real CelebA")
    parser.add_argument("--runs", type=Path, default=Path("runs/limits"), help="where the networks on real faces are kept")
    parser.add_argument("--out", type=Path, default=Path("nbs/results"))
    args = parser.parse_args()
    os.environ.pop("CELEBA_ROOT", None)  # so that the faces without a --root are drawn ones
    sketch = read_celeba(find_root())
    table = pd.DataFrame([noise_row(sketch, noise, seed) for seed in range(5) for noise in (0.0, 0.1, 0.2, 0.3, 0.4)])
    table.to_csv(args.out / "limits_noise.csv", index=False)
    if args.root:
        real = read_celeba(args.root)
        label_audit(real).round(5).rename_axis("attribute").to_csv(args.out / "limits_labels.csv")
        real_tables(real, args.runs, args.out)


if __name__ == "__main__":
    main()
