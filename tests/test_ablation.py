"""The study: what a picture, a table and a file say at their edges, how many runs fit, and which processes end together."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import pytest
from joblib import cpu_count, parallel_config

from celeba_nb import runs, workers
from celeba_nb.core import DataError, TrainingError
from celeba_nb.files import read_celeba
from celeba_nb.metrics import majority_accuracy
from celeba_nb.recipe import Recipe, run_id
from celeba_nb.results import read_answers, save_study
from celeba_nb.run import choose_rows
from celeba_nb.runs import find_runs, make_caches, make_runs, plan_runs, runs_at_once
from celeba_nb.study import (
    OUTCOMES,
    PAPER,
    STUDY_METHODS,
    Study,
    format_effects,
    format_table,
    image_outcomes,
    outcome_effects,
    plot_effects,
    study_lines,
    study_recipes,
)
from celeba_nb.training import count_cores


@pytest.mark.parametrize("room, jobs", [(0.5, 1), (3.9, 3), (100, 4)])
def test_runs_fit_into_the_memory(room, jobs, monkeypatch):
    "As many runs at once as there is room for, but at least one; here four cores would do."
    monkeypatch.setattr(runs, "cpu_count", lambda: 4)
    monkeypatch.setattr(runs.psutil, "virtual_memory", lambda: SimpleNamespace(available=room * runs.RUN_MEMORY))
    assert runs_at_once([Recipe(device="cpu", threads=1)] * 8) == jobs


@pytest.fixture
def study(tmp_path):
    "A study of two methods and three seeds, with made-up accuracies."
    made = Study(dict(list(study_recipes().items())[:2]), 3, tmp_path)
    made.kind = "CelebA"
    made.metrics = lambda: pd.DataFrame([{"method": method, "seed": seed} | dict.fromkeys(OUTCOMES, 0.8 + 0.01 * seed)
                                         for seed in range(3) for method in made.recipes])
    return made


def test_the_papers_numbers_are_drawn_where_there_are_some(study):
    "Three seeds and their mean; the paper's own numbers only for its outcomes and its methods."
    assert len(study.plot_outcome().lines) == 3 + 1 + 1
    assert np.allclose(study.plot_outcome().lines[3].get_ydata(), 0.81)
    assert len(study.plot_outcome("test_mirrored_accuracy").lines) == 3 + 1
    study.recipes = {"other": Recipe(), "methods": Recipe()}
    assert len(study.plot_outcome().lines) == 3 + 1


def test_tables_have_no_row_numbers(study, monkeypatch):
    "Neither for people nor for programs."
    monkeypatch.setattr(Study, "plot", lambda self, effects: plt.figure())
    monkeypatch.setattr("celeba_nb.results.study_answers", lambda study: {})
    save_study(study, pd.DataFrame({"effect": ["flip"]}))
    firsts = [(study.folder / f"{name}.csv").read_text().split(",")[0].strip() for name in ("runs", "table")]
    assert firsts == ["method", "method"]
    assert (study.folder / "effects.csv").read_text() == "effect\nflip\n"
    assert format_table(study.table()).index[0] == "LR 0.001"
    assert list(study.table()["paper_accuracy"]) == list(PAPER["test_accuracy"][:2])
    assert list(study.table()) == [*pd.read_csv(Path(__file__).parents[1] / "nbs/results/study_table.csv")]


PARENT = """
import os, sys, time
from joblib import Parallel, delayed

def work(parent, busy):
    from celeba_nb.workers import _end_with
    assert _end_with(parent) and _end_with(parent)
    until = time.time() + busy
    while time.time() < until:
        sum(range(1000))

Parallel(2)(delayed(work)(os.getpid(), 0.5) for _ in range(2))
print("ready", flush=True)
Parallel(2)(delayed(work)(os.getpid(), 600) for _ in range(2)) if sys.argv[1] == "busy" else time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_workers_end_with_a_killed_study(state):
    "Without their watch, idle workers stayed for 330 seconds, and busy ones for as long as we looked."
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    time.sleep(1)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    alive = psutil.wait_procs(workers, timeout=30)[1]
    for process in alive:
        process.kill()
    assert len(workers) >= 2 and not alive


# ---- what 05_ablation asserted before its definitions moved to internals/study


SMALL = {"train_images": 12, "valid_images": 4, "test_images": 6, "size": 16, "epochs": 1, "device": "cpu", "threads": 1,
         "model_args": {"channels": [2, 2], "hidden": 4}}
FLIPPED = "LR 0.001 + random horizontal flip"


@pytest.fixture(scope="module")
def recipes():
    return study_recipes(**SMALL)


@pytest.fixture(scope="module")
def plan(recipes, labels):
    return plan_runs(recipes, [0, 1], labels)


@pytest.fixture(scope="module")
def made(recipes, labels, tmp_path_factory):
    "A finished study of four methods and two seeds."
    return Study(recipes, 2, tmp_path_factory.mktemp("study")).run(labels, progress=False)


@pytest.fixture
def shelf(made, plan, labels, tmp_path):
    "A folder with the first two runs of the plan, with their weights."
    kept = Study({key[0]: plan[key] for key in list(plan)[:2]}, 1, tmp_path / "shelf")
    return kept.run(labels, progress=False, weights=True).folder


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*/recipe.json")}


def test_the_four_methods(recipes):
    assert list(recipes) == list(STUDY_METHODS) == list(PAPER.index)
    assert [recipe.lr for recipe in recipes.values()] == [0.001, 0.001, 0.0005, 0.0005]
    flip = "celeba_nb.augment.random_flip"
    assert [recipe.augment for recipe in recipes.values()] == [None, flip, None, flip]
    assert {(recipe.size, recipe.epochs) for recipe in recipes.values()} == {(16, 1)}
    assert study_recipes()["LR 0.001"] == Recipe(lr=0.001)


def test_a_plan_names_each_run_once(plan, labels):
    assert len(plan) == 8 and list(plan)[:4] == [(method, 0) for method in STUDY_METHODS]
    assert plan["LR 0.0005", 1].seed == 1 and plan["LR 0.0005", 1].lr == 0.0005
    names = {run_id(recipe, labels.fingerprint) for recipe in plan.values()}
    assert len(names) == 8 and not names & {run_id(recipe, "of other faces") for recipe in plan.values()}


def test_only_what_is_planned_is_found(made, plan, recipes, labels, shelf):
    found = find_runs(shelf, plan, labels)
    assert list(found) == list(plan)[:2]
    assert all(found[key].metrics == {**made.runs[key].metrics, "seconds": found[key].metrics["seconds"]} for key in found)
    assert (shelf / found["LR 0.001", 0].id / "weights.safetensors").exists() and found["LR 0.001", 0].weights is None
    assert find_runs(shelf, plan_runs(recipes, [1], labels), labels) == {}
    assert find_runs(shelf / "nowhere", plan, labels) == {}


def test_a_damaged_run_is_not_found(plan, labels, shelf):
    place = shelf / run_id(plan["LR 0.001", 0], labels.fingerprint)
    metrics = place / "metrics.json"
    metrics.write_text(metrics.read_text().replace("0.", "1.", 1))
    with pytest.warns(UserWarning, match="is not as it was written.*made again"):
        assert list(find_runs(shelf, plan, labels)) == [(FLIPPED, 0)]
    assert len(list(shelf.glob("*.damaged-*"))) == 1 and not place.exists()


def test_each_image_is_decoded_once(plan, labels):
    needed = {row for recipe in plan.values() for rows in choose_rows(recipe, labels).values() for row in rows}
    caches = make_caches(labels, plan.values(), progress=False)
    assert list(caches) == [16] and set(caches[16].rows) == needed
    one_method = [recipe for (method, _), recipe in plan.items() if method == "LR 0.001"]
    assert set(make_caches(labels, one_method, progress=False)[16].rows) == needed  # adding methods needs no more images
    two_sizes = make_caches(labels, [one_method[0], replace(one_method[0], size=8)], progress=False)
    assert [cache.size for cache in two_sizes.values()] == [16, 8] and make_caches(labels, [], False) == {}


def test_a_process_is_not_its_own_child():
    assert not workers._end_with(os.getpid())


def test_a_run_is_made_once(made, plan, labels, tmp_path):
    name = workers.make_run(plan[FLIPPED, 0], labels, tmp_path, weights=False)
    found, before = find_runs(tmp_path, plan, labels), written(tmp_path)
    assert list(found) == [(FLIPPED, 0)] and found[FLIPPED, 0].id == name
    assert np.array_equal(found[FLIPPED, 0].predictions["test"], made.runs[FLIPPED, 0].predictions["test"])
    assert not (tmp_path / name / "weights.safetensors").exists()
    assert workers.make_run(plan[FLIPPED, 0], labels, tmp_path, weights=False) == name and written(tmp_path) == before


def test_a_run_that_nobody_asked_for_is_refused(made, tmp_path):
    "As a worker with another version of the package could send it."
    run = made.runs[FLIPPED, 0]
    with pytest.raises(TrainingError, match="install the same version on all machines"):
        runs._receive(run, {}, tmp_path, weights=False)
    assert not [*tmp_path.iterdir()]
    runs._receive(run, {run.id: run.recipe}, tmp_path, weights=False)
    assert [path.name for path in tmp_path.iterdir()] == [run.id]


def test_a_study_marks_its_folder_while_it_runs(tmp_path):
    with workers.shared_mark(tmp_path / "new" / "study") as mark:
        assert [*mark.parent.iterdir()] == [mark] and mark.name.startswith(".")
    assert not mark.exists()


def test_a_study_removes_only_marks_of_killed_ones(tmp_path):
    "A worker that doesn't find its study's mark would make runs that another study is making."
    killed = tmp_path / ".killed.shared"
    killed.touch()
    with workers.shared_mark(tmp_path) as mark:
        assert not killed.exists()
        with workers.shared_mark(tmp_path) as other:
            assert {*tmp_path.iterdir()} == {mark, other}
        assert mark.exists() and not other.exists()


def test_how_many_runs_at_once(plan):
    todo = list(plan.values())
    assert {recipe.threads for recipe in todo} == {1} and runs_at_once(todo) == min(8, cpu_count())
    assert runs_at_once(todo[:1]) == runs_at_once([]) == 1
    assert runs_at_once([replace(recipe, threads=cpu_count()) for recipe in todo]) == 1
    assert runs_at_once([replace(recipe, device="cuda") for recipe in todo]) == 1
    with parallel_config(n_jobs=3):
        assert runs_at_once(todo) is None


def test_only_missing_runs_are_made(plan, labels, shelf):
    three, before = {key: plan[key] for key in list(plan)[:3]}, written(shelf)
    assert list(make_runs(three, labels, shelf, progress=False)) == list(three) == list(find_runs(shelf, three, labels))
    assert before.items() <= written(shelf).items() and len(written(shelf)) == 3


def test_two_at_once_give_the_same_bits(made, plan, labels, tmp_path):
    two = list(plan)[:2]
    more = {("more threads", seed): replace(plan[two[0]], threads=1 + count_cores(), seed=seed) for seed in range(2)}
    with parallel_config(n_jobs=2), pytest.warns(UserWarning) as said:
        both = make_runs({key: plan[key] for key in two} | more, labels, tmp_path, progress=False)
    assert all(np.array_equal(both[key].predictions["test"], made.runs[key].predictions["test"]) for key in two)
    assert len([one for one in said if "threads are more than" in str(one.message)]) == 1  # said here, not by each worker


def test_a_study_is_recipes_seeds_and_a_folder(made, recipes):
    assert Study(recipes, [3, 5], "here").seeds == [3, 5] and Study(recipes, [3, 5], "here").folder == Path("here")
    assert made.seeds == [0, 1] and list(made.runs)[:4] == [(method, 0) for method in recipes]
    assert len(written(made.folder)) == len(made.runs) == len(made.metrics()) == 4 * 2


def test_a_study_goes_on_to_the_same_bits(recipes, labels, tmp_path):
    first = Study(recipes, 1, tmp_path).run(labels, progress=False)
    before = written(tmp_path)
    again = Study(recipes, 1, tmp_path).run(labels, progress=False)
    assert again.table().equals(first.table()) and written(tmp_path) == before and len(before) == 4
    for method in ("LR 0.001", "LR 0.0005"):
        shutil.rmtree(tmp_path / first.runs[method, 0].id)
    mended = Study(recipes, 1, tmp_path).run(labels, progress=False)
    assert mended.metrics().drop(columns="seconds").equals(first.metrics().drop(columns="seconds"))


def test_outcomes_image_by_image(made):
    run = made.runs["LR 0.001", 0]
    assert [len(image_outcomes(run, outcome)) for outcome in OUTCOMES] == [6, 4, 1, 6]
    for outcome in OUTCOMES:
        assert np.isclose(image_outcomes(run, outcome).mean(), run.metrics[outcome])
        assert np.allclose(made.values(outcome).mean(2).ravel(order="F"), made.metrics()[outcome])
    fortieths = 40 * image_outcomes(run, "test_accuracy")
    assert np.allclose(fortieths, fortieths.round(), atol=1e-4) and 0 <= fortieths.min() and fortieths.max() <= 40
    assert made.values("test_accuracy").shape == (4, 2, 6) and made.values("train_loss").shape == (4, 2, 1)


def test_groups_are_identities_or_images(made, recipes, labels):
    assert all(len(made.groups(outcome)) == made.values(outcome).shape[2] for outcome in OUTCOMES)
    nameless = Study(recipes, 2, made.folder)
    nameless.runs, nameless.labels = made.runs, replace(labels, identity=None)
    rows = choose_rows(recipes["LR 0.001"], labels)
    assert np.array_equal(nameless.groups("test_accuracy"), rows["test"])
    assert np.array_equal(nameless.groups("valid_loss"), rows["valid"])


def test_all_runs_are_judged_on_the_same_images(made, labels):
    assert len({tuple(run.predictions["test_rows"]) for run in made.runs.values()}) == 1
    assert len({tuple(choose_rows(run.recipe, labels)["train"]) for run in made.runs.values()}) == 2  # one a seed


@pytest.fixture
def three(tmp_path):
    "Two made-up runs of a method of the study, and one of a different method."
    study = Study({"LR 0.001": Recipe(lr=0.001), "mine": Recipe(lr=0.1, augment="celeba_nb.augment.random_flip")}, 2, tmp_path)
    study.kind = "CelebA"
    table = pd.DataFrame({"method": ["LR 0.001", "LR 0.001", "mine"], "test_accuracy": [0.80, 0.84, 0.90]})
    study.metrics = lambda: table.assign(**dict.fromkeys(list(OUTCOMES)[1:], 0.5))
    return study.table()


def test_a_table_of_methods(three):
    assert np.allclose(three["test_accuracy"], [0.82, 0.90]) and three["n"].tolist() == [2, 1]
    assert np.isclose(three["test_accuracy_sd"][0], np.sqrt(2 * 0.02**2)) and np.isnan(three["test_accuracy_sd"][1])
    assert three["paper_accuracy"][0] == 0.8350 and np.isnan(three["paper_accuracy"][1])
    assert three["lr"].tolist() == [0.001, 0.1] and three["flip"].tolist() == [False, True]


def test_a_table_for_people(three):
    shown = format_table(three)
    assert list(shown["accuracy (sd)"]) == ["82.00% (2.83)", "90.00% (–)"] and list(shown["the study's"]) == ["83.50%", "–"]
    assert shown["valid loss"].iloc[0] == "0.5000"


AMOUNTS = {"effect": "flip", "mean": 0.01, "low": 0.004, "high": 0.016, "p": 0.01, "p_holm": 0.0234, "wins": 7, "n": 8}
ROWS = pd.DataFrame([
    AMOUNTS | {"outcome": "test_accuracy", "verdict": "helps"}, AMOUNTS | {"outcome": "valid_loss", "verdict": "hurts"},
    AMOUNTS | {"outcome": "test_accuracy", "low": np.nan, "high": np.nan, "n": 1, "verdict": "none"}])


def test_effects_for_people():
    as_accuracy, alone, as_loss = format_effects(ROWS).reset_index().to_numpy().tolist()
    assert as_accuracy == ["test accuracy", "flip", "+1.00", "+0.40 to +1.60", "0.0234", "7 of 8", "helps"]
    assert alone == ["test accuracy", "flip", "+1.00", "–", "0.0234", "7 of 1", "none"]
    assert as_loss == ["valid loss", "flip", "+0.0100", "+0.0040 to +0.0160", "0.0234", "7 of 8", "hurts"]


def test_the_published_tables_fit_a_terminal():
    "A block for each outcome, a line for each effect, its verdict last."
    effects, table = (pd.read_csv(RESULTS / f"study_{name}.csv") for name in ("effects", "table"))
    lines = ["".join(line) for line in study_lines(effects)]
    rows = format_table(table).reset_index().to_string(index=False).splitlines()
    assert max(map(len, [*lines, *rows])) <= 80 and rows[1].lstrip().startswith("LR 0.001 ")
    blocks = "\n".join(lines).strip().split("\n\n")
    assert [block.partition("\n")[0] for block in blocks] == [
        "test accuracy, points (higher is better)", "valid loss, nats (lower is better)", "train loss, nats (lower is better)",
        "test mirrored accuracy, points (higher is better)"]
    assert re.fullmatch(r"  lower rate  \+0.03 .* the same within 0.2 points", blocks[0].splitlines()[3])
    assert study_lines(effects)[3][1] == "helps"


def test_a_plot_shows_the_outcome_asked_for():
    "Points to the right help for an accuracy, and hurt for a loss; the title is the finding."
    (ax,) = plot_effects(ROWS, {"flip": np.array([0.008, 0.012])}, "valid_loss").axes
    assert ax.get_xlabel().startswith("← helps        hurts →\nvalid loss\n") and ax.get_title(loc="left") == "flip: hurts"
    assert ax.lines[0].get_xdata().tolist() == [0.008, 0.012] and ax.lines[2].get_xdata().tolist() == [0.01]
    assert ax.lines[1].get_xdata().tolist() == [0.004, 0.016]  # from end to end of the interval
    in_points = plot_effects(ROWS[:1], {})
    assert in_points.axes[0].get_xlabel().startswith("← hurts        helps →\npoints of test accuracy\n")
    assert in_points.axes[0].lines[2].get_xdata().tolist() == [1.0] and in_points.get_suptitle() == "flip helps"
    assert plot_effects(ROWS[2:].assign(verdict="no difference seen"), {}).get_suptitle() == "No difference seen"


def test_effects_and_files_of_a_study(made):
    effects = made.effects()
    assert len(effects) == 4 * 3 and (effects["n"] == 2).all() and (effects["p_holm"] >= effects["p"]).all()
    assert (effects["low"] <= effects["mean"]).all() and (effects["mean"] <= effects["high"]).all()
    assert [ax.get_title(loc="left").split(":")[0] for ax in made.plot(effects).axes] == ["", "flip", "lower rate", "interaction"]
    assert np.allclose(made.plot_outcome().lines[2].get_ydata(), made.table()["test_accuracy"])
    paths = save_study(made, effects)
    assert [path.name for path in paths] == ["runs.csv", "table.csv", "effects.csv", "answers.npz", "study.png"]
    assert all(path.parent == made.folder for path in paths) and paths[4].read_bytes()[1:4] == b"PNG"
    runs, table, kept = (pd.read_csv(path) for path in paths[:3])
    assert np.allclose(runs[list(OUTCOMES)], made.metrics()[list(OUTCOMES)]) and runs["run"].nunique() == 8
    assert format_table(table).equals(format_table(made.table())) and format_effects(kept).equals(format_effects(effects))
    pd.testing.assert_frame_equal(outcome_effects(read_answers(paths[3])), effects)
    for outcome, pairs in zip(OUTCOMES, map(made.pairs, OUTCOMES)):
        assert np.allclose([each.mean() for each in pairs.values()], effects.loc[effects["outcome"] == outcome, "mean"])


def test_the_papers_results_are_only_shown_beside_those_of_its_faces(made):
    "The drawn faces' tables and pictures show nothing of the real faces', and the other way round."
    assert made.kind == "drawn" and "paper_accuracy" not in made.table() and "study's" not in format_table(made.table())
    assert len(made.plot_outcome().lines) == 2 + 1
    made.kind = "CelebA"
    assert "the study's" in format_table(made.table()) and len(made.plot_outcome().lines) == 2 + 2
    assert np.allclose(made.plot_outcome().lines[3].get_ydata(), PAPER["test_accuracy"])
    made.kind = "drawn"


@pytest.mark.parametrize("content", [b"", b"PK", b"method,seed\n"])
def test_what_isnt_the_images_of_a_study_is_named(tmp_path, content):
    (tmp_path / "answers.npz").write_bytes(content)
    with pytest.raises(DataError, match="answers.npz: not the answers of a study"):
        read_answers(tmp_path / "answers.npz")


RESULTS = Path(__file__).parents[1] / "nbs/results"


@pytest.mark.skipif(not os.environ.get("CELEBA_ROOT"), reason="CELEBA_ROOT is unset: no real CelebA here")
def test_the_published_baseline_is_that_of_the_labels():
    "Never looking, on the test images of the real study: the mean over its 16 draws of training images."
    told, labels = json.loads((RESULTS / "study_made_with.json").read_text()), read_celeba(os.environ["CELEBA_ROOT"])
    if labels.fingerprint != told["fingerprint of the data"]:
        pytest.skip("other images than the study's")
    truth, rows = labels.attributes.to_numpy(), [choose_rows(Recipe(seed=seed), labels) for seed in range(16)]
    found = np.mean([majority_accuracy(truth[each["train"]], truth[each["test"]]) for each in rows])
    assert round(found, 5) == told["never looking"]
