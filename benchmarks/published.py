"""What do published runs say? `celeba_nb.verdict` on the result files of three projects, from clones that you make.

    git clone https://github.com/hfawaz/dl-4-tsc clones/dl-4-tsc
    git clone https://github.com/yandex-research/tabular-dl-tabr clones/tabular-dl-tabr
    git clone https://github.com/nicklashansen/tdmpc2 clones/tdmpc2
    python benchmarks/published.py clones --out nbs/results/published.csv

Only figures are read: method, seed, data set or task, and outcome. A column of the table says from which commit. The names:

- Time series (Ismail Fawaz et al., 2019): networks that sort curves, such as heartbeats, into classes, in 85 data sets. `fcn` is
  convolutions up to the last layer, `resnet` has residual blocks, and `twiesn` learns only its last layer.
- Tables (Gorishniy et al., 2024): the prices of houses in California. `MLP-PLR` turns each number into many by sine waves of
  learned lengths. `CatBoost` and `XGBoost` add up many small decision trees. `TabR` also looks up similar houses; `TabR-S` does
  so without the waves. RMSE: less is better.
- Control (Hansen, Su and Wang, 2024): simulated robots in 39 tasks. `sac` learns which actions pay off; `dreamerv3`, `tdmpc` and
  its successor `tdmpc2` also learn to predict what an action leads to. Reward: more is better.
"""
import argparse
import json
import subprocess
from io import StringIO
from pathlib import Path

import pandas as pd

from celeba_nb import verdict

COLUMNS = ["method", "seed", "item", "outcome"]
HOUSES = {"MLP": "mlp/california/0", "MLP-PLR": "mlp/california/plr", "XGBoost": "xgboost_/california/2",
          "CatBoost": "catboost_/california/2", "TabR-S": "tabr/california/0", "TabR": "tabr/california/2-plr-lite"}


def git(clone, *words):
    "What git prints about a clone."
    return subprocess.run(["git", "-C", clone, *words], check=True, capture_output=True, text=True).stdout


def read(clone, path):
    "A file of the newest commit."
    return StringIO(git(clone, "show", f"HEAD:{path}"))


def files(clone, *folders):
    "The paths of all files in these folders."
    return git(clone, "ls-tree", "-r", "--name-only", "HEAD", *folders).splitlines()


def time_series(clone):
    "Nine networks on the 85 data sets of the UCR archive, ten initial weights."
    table = read(clone, "results/results-uea.csv")
    return pd.read_csv(table)[["classifier_name", "iteration", "dataset_name", "accuracy"]].set_axis(COLUMNS, axis=1)


def houses(clone):
    "Six methods that predict the price of houses in California, fifteen seeds."
    names = {f"exp/{folder}-evaluation": method for method, folder in HOUSES.items()}
    reports = [Path(path) for path in files(clone, *names) if path.endswith("report.json")]
    errors = [json.load(read(clone, path))["metrics"]["test"]["rmse"] for path in reports]
    return pd.DataFrame([(names[str(path.parents[1])], path.parent.name, 0, error) for path, error in zip(reports, errors)],
                        columns=COLUMNS)


def control(clone):
    "Four methods that learn control, three seeds: the last reward in the 39 tasks that have one (others count successes)."
    curves = [pd.read_csv(read(clone, path)).assign(method=Path(path).parent.name, item=Path(path).stem)
              for method in ("sac", "dreamerv3", "tdmpc", "tdmpc2") for path in files(clone, f"results/{method}/")]
    last = pd.concat(curves).sort_values("step").groupby(["method", "seed", "item"], as_index=False)["reward"].last()
    return last.dropna().set_axis(COLUMNS, axis=1)


# clone -> paper, how its files are read, and the question: with what, in which direction, and which difference is small
SOURCES = {
    "dl-4-tsc": ("10.1007/s10618-019-00619-1", time_series, "accuracy", {"base": "fcn", "margin": 0.005}),
    "tabular-dl-tabr": ("10.48550/arXiv.2307.14338", houses, "RMSE", {"base": "MLP-PLR", "margin": 0.005, "direction": "lower"}),
    "tdmpc2": ("10.48550/arXiv.2310.16828", control, "reward", {"base": "tdmpc", "margin": 20.0}),
}


def ask(clones, name):
    "The verdicts on one project's runs."
    paper, load, outcome, question = SOURCES[name]
    items = load(clones / name)
    runs = items.groupby(["method", "seed"], as_index=False)["outcome"].mean()
    found = verdict(runs, items=items if items["item"].nunique() > 1 else None, **question).effects.assign(outcome=outcome)
    sources = {"paper": paper, "source": name, "commit": git(clones / name, "rev-parse", "--short=12", "HEAD").strip()}
    return found.assign(**sources, items=items["item"].nunique())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clones", type=Path, help="the folder of the clones")
    parser.add_argument("--out", default="published.csv")
    options = parser.parse_args()
    table = pd.concat([ask(options.clones, name) for name in SOURCES])
    table.to_csv(options.out, index=False, float_format="%.6g")
    print(table.drop(columns=["paper", "commit"]).to_string(index=False))


if __name__ == "__main__":
    main()
