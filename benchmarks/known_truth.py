"""Does `celeba_nb.verdict` tell the truth? Tables of runs whose effects are known, written to files and read again.

    python benchmarks/known_truth.py --out nbs/results/known_truth.csv

Each table has a base and three methods: with an effect of zero, of exactly the margin, and of four times the
margin. Columns, in %: `false_verdict`, how often the first is said to help or hurt; `false_same`, how
often the second is called the same; `found`, how often the third helps; `hurts`, how often it is said to hurt; `held`, the
intervals that hold the truth. Some minutes on one core.
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from celeba_nb import verdict
from celeba_nb.tables import read_csv

MARGIN = 0.002
TRUTH = {"nothing": 0.0, "as large as the margin": MARGIN, "four times the margin": 4 * MARGIN}
LUCK, NOISE, DIFFICULTY = 0.004, 0.002, 0.01  # of a seed (the same for all methods), of a run, of an item for one method
SETTINGS = {"8 pairs": (8, 0, True), "16 pairs": (16, 0, True), "8 pairs, 100 items": (8, 100, True),
            "8 and 8 independent runs": (8, 0, False), "16 and 16 independent runs": (16, 0, False)}


def make_tables(rng, seeds, items, paired):
    "Runs, and what each made of each item (None without items)."
    luck, rows, single = LUCK * rng.standard_normal(seeds), [], []
    for place, (method, effect) in enumerate({"base": 0.0, **TRUTH}.items()):
        own = luck if paired else LUCK * rng.standard_normal(seeds)
        values = 0.8 + effect + own + NOISE * rng.standard_normal(seeds)
        hard = DIFFICULTY * rng.standard_normal(items)
        for seed, value in enumerate(values):
            each = value + hard + DIFFICULTY * rng.standard_normal(items)
            name = seed if paired else seed + place * seeds
            rows.append((method, name, each.mean() if items else value))
            single += [(method, name, item, outcome) for item, outcome in enumerate(each)]
    columns = ["method", "seed", "item", "outcome"]
    runs = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    return runs, pd.DataFrame(single, columns=columns) if items else None


def ask(folder, runs, items):
    "The verdict on tables that were written to files and read again, by method."
    for name, table in (("runs", runs), ("items", items)):
        if table is not None:
            table.to_csv(folder / f"{name}.csv", index=False)
    found = verdict(read_csv(folder / "runs.csv"), "accuracy", "base", MARGIN,
                    items=None if items is None else read_csv(folder / "items.csv"))
    return found.effects.set_index("effect")


def measure(name, tables, seed=0):
    "One row of the table."
    seeds, items, paired = SETTINGS[name]
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(seed)
        found = [ask(Path(folder), *make_tables(rng, seeds, items, paired)) for _ in range(tables)]
    said = pd.DataFrame([each["verdict"] for each in found])
    held = [(each["low"] <= pd.Series(TRUTH)) & (pd.Series(TRUTH) <= each["high"]) for each in found]
    nothing, same, large = (said[name] for name in TRUTH)
    return {"setting": name, "tables": tables, "false_verdict": 100 * nothing.isin(["helps", "hurts"]).mean(),
            "false_same": 100 * same.str.startswith("the same").mean(), "found": 100 * (large == "helps").mean(),
            "hurts": 100 * (large == "hurts").mean(), "held": 100 * np.mean(held)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=250, help="tables for each row")
    parser.add_argument("--out", default="known_truth.csv")
    options = parser.parse_args()
    table = pd.DataFrame([measure(name, options.tables) for name in SETTINGS]).round(1)
    table.to_csv(options.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
