"""Recompute the published numbers from nbs/results, and say where a page has a different one (make numbers).

A claim is a piece of a page, written with numbers that are computed here. It must stand in README, or in the part of a
lesson that is called "What we saw". There, and in README's parts that are named in TABLES, each number needs a claim, or an
output of the same lesson that shows it: so no number can be added without saying where it comes from.
"""
import json
import re
from itertools import chain

import numpy as np
import pandas as pd

from celeba_nb.results import read_images
from celeba_nb.stats import order_share
from celeba_nb.study import PAPER, STUDY_METHODS, outcome_effects
from tools.notebooks import ROOT, name_of, notebooks, read, source

RESULTS = ROOT / "nbs/results"
TABLES = ["## Do random flips", "## How far do 1,000 labels go?", "## How fast?"]  # of README
NUMBER = re.compile(r"[+−-]?\d[\d,]*\.\d+%?|[+−-]?\d+%|[+−-]?\d+(?= points)")  # with a decimal point, %, or points


def table(name):
    "A file of nbs/results."
    return pd.read_csv(RESULTS / f"{name}.csv")


def signed(value, digits=2):
    "A number with its sign, as pages write it."
    return f"{value:+.{digits}f}".replace("-", "−")


def points(value, digits=2):
    "A difference of fractions in points."
    return signed(100 * value, digits)


def between(row, digits=2, sign=True):
    "The interval of an effect, in points."
    form = points if sign else lambda value, digits: f"{100 * value:.{digits}f}".replace("-", "−")
    return f"{form(row.low, digits)} to {form(row.high, digits)}"


def study():
    "README's and 05's numbers of the study on real faces."
    effects = outcome_effects(read_images(RESULTS / "study_images.npz"))
    pd.testing.assert_frame_equal(effects, table("study_effects"))
    runs = table("study_runs")
    by_method = runs.groupby("method")
    for method, short in zip(STUDY_METHODS, ("learning rate 0.001", "0.001 + flip", "0.0005", "0.0005 + flip")):
        mean, sd = by_method.mean(numeric_only=True).loc[method], by_method["test_accuracy"].std()[method]
        yield "README", (f"| {short} | {PAPER['test_accuracy'][method]:.2%} | {mean.test_accuracy:.2%} ({100 * sd:.2f}) "
                         f"| {mean.valid_loss:.4f} | {mean.train_loss:.4f} |")
    for row in effects[effects["outcome"] == "test_accuracy"].itertuples():
        verdict = re.sub("within .*", "within 0.2 points", row.verdict)
        yield "README", (f"| {row.effect} | {points(row.mean)} | {between(row)} | {row.p_holm:.2g} | {row.wins} of {row.n} "
                         f"| {verdict} |")
    values = runs.pivot(index="method", columns="seed", values="test_accuracy").loc[list(STUDY_METHODS)].to_numpy()
    share, one, two = 100 * order_share(values), *np.triu_indices(values.shape[1], 1)
    yield "README", f"appears in {share:.1f} of 100 ways to pick one run each (four equal methods would give it in {100 / 24:.1f})"
    yield "05_ablation", f"one run each gives the study's order in {share:.1f} of 100 ways to pick; four equal methods would in 4.2"
    apart = 100 * np.abs(values[:, one] - values[:, two]).mean()
    yield "05_ablation", f"two runs of the same method differ by {apart:.1f} points on average"


CLAIMS = [study]


def seen(nb):
    "The part of a lesson that sums up."
    text = [source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown"]
    found = [re.split(r"^## ", part.split("## What we saw", 1)[1], flags=re.M)[0] for part in text if "## What we saw" in part]
    return "\n".join(found)


def shown(nb):
    "All numbers in the outputs of a lesson, without signs."
    outputs = chain.from_iterable(cell.get("outputs", []) for cell in nb["cells"])
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return [float(number) for text in texts for number in re.findall(r"\d+(?:\.\d+)?", "".join(text).replace(",", ""))]


def is_shown(number, values):
    "Whether an output is this number, to its digits; a percentage may be a fraction there."
    digits = len(number.rstrip("%").partition(".")[2])
    value = float(number.strip("+−-%").replace(",", ""))
    return any(np.isclose(value, round(scale * shown, digits)) for shown in values for scale in (1, 100))


def pages():
    "Each page's text that must be backed, and the numbers that its own outputs show."
    readme = (ROOT / "README.md").read_text()
    parts = [part for part in re.split(r"^(?=## )", readme, flags=re.M) if part.startswith(tuple(TABLES))]
    yield "README", "\n".join(parts), []
    for path in notebooks():
        if text := seen(nb := read(path)):
            yield name_of(path), text, shown(nb)


def differences():
    "What is wrong: claims that a page doesn't make, and numbers that nothing backs."
    claims = [claim for claims in CLAIMS for claim in claims()]
    for page, text, values in pages():
        rest = text
        for claim in [claim for where, claim in claims if where == page]:
            if claim not in text:
                yield f"{page} doesn't say: {claim}"
            rest = rest.replace(claim, "")
        yield from (f"{page}: nothing gives {number}" for number in NUMBER.findall(rest) if not is_shown(number, values))


def main():
    wrong = list(differences())
    print("\n".join(wrong) or "All published numbers are what nbs/results gives.")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
