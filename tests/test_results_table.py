"""The tables of notebook 09: one file each, which is whole or not there, and never takes one run for another."""
import base64
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from celeba_nb import results
from celeba_nb.core import DataError, TrainingError, WriteError
from celeba_nb.few_labels import ADDED, CURVE, INGREDIENTS
from celeba_nb.recipe import RECIPES, Recipe
from celeba_nb.results import ResultsTable, paired_effects, run_missing
from celeba_nb.stats import interval
from tools.notebooks import ROOT

COMMITTED = sorted((ROOT / "nbs" / "results").glob("few_labels_*.csv"))


class MadeUpLabels(SimpleNamespace):
    def __len__(self):
        return len(self.identity)


LABELS = MadeUpLabels(identity=pd.Series(np.arange(30) // 2), fingerprint="faces")


def made_up_run(name, seed, attributes=40, first_row=0):
    "A run of 20 test images, with random answers."
    rng = np.random.default_rng([seed, len(name)])
    truth = rng.random((20, attributes)) < 0.3
    said = {key: np.where(rng.random(truth.shape) < 0.8, truth, ~truth) * 0.8 + 0.1 for key in ("test", "test_mirrored", "valid")}
    right = ((said["test"] > 0.5) == truth).mean()
    metrics = {"valid_accuracy": 0.8, "valid_loss": 0.4, "test_accuracy": right, "seconds": 1 / 3}
    rows = np.arange(first_row, first_row + 20)
    return SimpleNamespace(id=name, metrics=metrics, machine={"processor": "made up"}, recipe=Recipe(precision="float32"),
                           predictions=said | {"test_rows": rows, "test_truth": truth, "valid_truth": truth})


@pytest.fixture
def table(tmp_path):
    "Two methods, three seeds."
    made = ResultsTable(tmp_path / "table.csv")
    for seed in range(3):
        for method in ("a", "b"):
            made.add((method, seed), made_up_run(f"{method}{seed}", seed), LABELS)
    return made


def test_rows_come_back(table):
    again = ResultsTable(table.path)
    assert again.rows.equals(table.rows) and list(again.right) == list(table.right)
    assert all(np.array_equal(again.right[key], table.right[key]) for key in table.right)
    assert np.array_equal(again.groups, np.arange(20) // 2)
    assert {"run", "precision", "processor", "attributes"} <= set(again.rows)
    assert paired_effects(again, {"b for a": ("b", "a")}).equals(paired_effects(table, {"b for a": ("b", "a")}))


def test_other_rows_are_not_touched(table):
    before = table.path.read_text().splitlines()
    ResultsTable(table.path).add(("c", 0), made_up_run("c0", 0), LABELS)
    assert table.path.read_text().splitlines()[:len(before)] == before


def test_any_number_of_attributes(tmp_path):
    small = ResultsTable(tmp_path / "small.csv")
    run = made_up_run("x", 1, attributes=3)
    small.add(("a", 1), run, LABELS)
    assert np.isclose(ResultsTable(small.path).image_accuracies("a", [1]).mean(), run.metrics["test_accuracy"])


def test_a_changed_recipe_is_no_finished_run(table):
    assert table.has(("a", 1), "a1") and not table.has(("a", 3), "a3")
    with pytest.raises(TrainingError, match="'a' with seed 1 is run a1 .float32.*run x9.*recipe has changed"):
        table.has(("a", 1), "x9")


def test_run_missing_makes_what_is_missing(table, monkeypatch):
    "And asks before anything is run."
    made = []
    monkeypatch.setattr(results, "plan_runs", lambda recipes, seeds, labels: {
        (method, seed): f"{method}{seed}" for seed in seeds for method in recipes})
    monkeypatch.setattr(results, "run_id", lambda recipe, data: recipe)
    monkeypatch.setattr(results, "make_runs", lambda plan, *_: made.extend(plan) or {
        key: made_up_run(name, key[1]) for key, name in plan.items()})
    run_missing(table, {"a": None, "b": None}, range(4), LABELS, "folder")
    assert made == [("a", 3), ("b", 3)] and ResultsTable(table.path).has(("b", 3), "b3")
    monkeypatch.setattr(results, "run_id", lambda recipe, data: f"new {recipe}")
    with pytest.raises(TrainingError, match="recipe has changed"):
        run_missing(table, {"c": None, "a": None}, range(4), LABELS, "folder")
    assert len(made) == 2


def test_other_images_are_refused(table):
    with pytest.raises(TrainingError, match="other data"):
        table.add(("a", 7), made_up_run("a7", 7, first_row=1), LABELS)


def test_no_row_is_added_twice(table):
    before = table.path.read_bytes()
    with pytest.raises(TrainingError, match="'a' with seed 1 already has a row; remove it to add another"):
        table.add(("a", 1), made_up_run("a1", 1), LABELS)
    assert table.path.read_bytes() == before and len(table.rows) == 6


def test_a_row_is_there_or_not(table, monkeypatch):
    "One file: what is killed or fails while it is written leaves the table as it was."
    before = table.path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(WriteError):
        table.add(("c", 0), made_up_run("c0", 0), LABELS)
    assert table.path.read_bytes() == before and [path.name for path in table.path.parent.iterdir()] == ["table.csv"]


def test_two_processes_grow_one_table(table):
    "Each has read it before the other adds its row."
    other = ResultsTable(table.path)
    table.add(("c", 0), made_up_run("c0", 0), LABELS)
    other.add(("d", 0), made_up_run("d0", 0), LABELS)
    assert {("c", 0), ("d", 0)} < set(ResultsTable(table.path).right) and len(other.rows) == 8
    with pytest.raises(TrainingError, match="'d' with seed 0 already has a row; remove it to add another"):
        table.add(("d", 0), made_up_run("d0", 0), LABELS)


def spoil(text, row, column, value):
    "The text of a table with one field changed."
    lines = [line.split(",") for line in text.splitlines()]
    lines[row][lines[0].index(column)] = value
    return "\n".join(map(",".join, lines))


@pytest.mark.parametrize("change", [
    lambda text: spoil(text, 2, "test_accuracy", "0.9"),  # not what its right answers say
    lambda text: spoil(text, 2, "right", base64.b64encode(bytes([39] * 19)).decode()),  # an image less
    lambda text: spoil(text, 2, "right", "?"),
    lambda text: spoil(text, 1, "groups", ""),
    lambda text: text + text.splitlines()[1] + "\n",  # twice the same
    lambda text: text.replace("run,method", "number,way"),
    lambda text: "",
])
def test_a_table_that_contradicts_itself_is_not_read(table, change):
    table.path.write_text(change(table.path.read_text()))
    with pytest.raises(DataError, match="table.csv: "):
        ResultsTable(table.path)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_tables_hold_counts_and_no_images(path):
    "What looks like a blob is a small number for each test image, which has the mean that is beside it."
    table, text = ResultsTable(path), pd.read_csv(path, dtype=str)
    long = {column for column in text if text[column].str.len().max() > 60}
    assert long == {"right", "groups"} and text["groups"].notna().sum() == 1
    assert np.array_equal(np.unique(table.groups), np.arange(table.groups.max() + 1)) and len(table.groups) == 1000
    assert all(len(right) == 1000 and right.max() <= 40 and right.min() > 5 for right in table.right.values())


def test_committed_rows_know_their_run():
    "Where their recipe is still there; one recipe has one id in all tables."
    tables = [ResultsTable(path).rows for path in COMMITTED]
    runs, best = pd.concat(tables), {"best-100", "best-1k", "best-10k"}
    known = runs[runs["run"] != "unknown"]
    assert set(runs.loc[runs["run"] == "unknown", "method"]) == {
        "best-10k, 30 epochs", "best-1k, two looks", "best-1k, augmented to the end"}
    assert set(known["method"]) == {*CURVE, *INGREDIENTS, *best} and best <= set(RECIPES)
    same = known[known["method"].isin(["1000", "base"]) & (known["seed"] < 4)]
    assert same.groupby("seed")["run"].nunique().eq(1).all() and known["precision"].eq("float32").all()


def test_published_effects_did_not_move():
    "What notebook 09 and README say of the ingredients, and the interval of best-1k."
    parts = ResultsTable(ROOT / "nbs/results/few_labels_ingredients.csv")
    larger = paired_effects(parts, {method: (method, "base") for method in ADDED}).set_index("effect")
    assert larger.loc["128×128 pixels", ["mean", "low", "high"]].round(4).tolist() == [0.0083, 0.0071, 0.0095]
    assert larger.loc["unlabelled images", ["mean", "low", "high"]].round(4).tolist() == [0.0023, 0.0013, 0.0033]
    best = ResultsTable(ROOT / "nbs/results/few_labels_best.csv")
    low, high = interval(best.image_accuracies("best-1k", range(8)), best.groups)
    assert (round(low, 4), round(high, 4)) == (0.878, 0.8847)

