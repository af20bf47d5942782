"""Write the tables of notebook 09 in their present form: one CSV file each. Done once, and kept to show where the ids come from.

    CELEBA_ROOT=... python -m tools.convert_results

Before, a table was a CSV file and an .npz file, and a row had no run id and no precision. Both follow from the recipe, if it is
still what the row was made by: all rows come from an AMD EPYC without bfloat16 in hardware, where it is fourteen times slower,
and the rule of that time took the faster precision. The curve was made before recipes had `valid_every`, which changes no bit
of a result. Rows of recipes that are gone get "unknown". An id names recipe and data; a different processor gives different bits.
"""
from dataclasses import replace

import numpy as np
import pandas as pd

from celeba_nb.data import find_root
from celeba_nb.few_labels import CURVE, INGREDIENTS
from celeba_nb.files import read_celeba
from celeba_nb.recipe import RECIPES, run_id
from celeba_nb.results import ResultsTable
from celeba_nb.runs import plan_runs
from tools.notebooks import ROOT

RESULTS = ROOT / "nbs" / "results"
TABLES = {"curve": CURVE, "ingredients": INGREDIENTS, "best": {name: RECIPES[name] for name in ("best-1k", "best-10k")}}
BY_COMMAND = {("best-1k", 6), ("best-1k", 7), ("best-10k", 0), ("best-10k", 1)}  # celeba-nb train, on two threads


def ids(recipes, keys, labels):
    "The run id of each row."
    for method, seed in keys:
        if method in recipes:
            recipe = replace(recipes[method], device="cpu", precision="float32", memory_format="channels_last",
                             threads=2 if (method, seed) in BY_COMMAND else 1)
            yield run_id(plan_runs({method: recipe}, [seed], labels)[method, seed], labels.fingerprint)
        else:
            yield "unknown"


def convert(name, recipes, labels):
    "Make one file of two."
    path = RESULTS / f"few_labels_{name}.csv"
    rows = pd.read_csv(path, dtype={"method": str})
    keys = list(zip(rows["method"], rows["seed"]))
    rows.insert(0, "run", [*ids(recipes, keys, labels)])
    rows.insert(rows.columns.get_loc("processor"), "precision", np.where(rows["run"] == "unknown", "unknown", "float32"))
    old, table = np.load(path.with_suffix(".npz")), ResultsTable(path.with_suffix(".new"))
    table.rows, table.groups = rows.assign(attributes=40), old["groups"]
    table.right = {key: old["/".join(map(str, key))] for key in keys}
    table.write()
    table.path.replace(path)
    path.with_suffix(".npz").unlink()


if __name__ == "__main__":
    faces = read_celeba(find_root())
    for name, recipes in TABLES.items():
        convert(name, recipes, faces)
