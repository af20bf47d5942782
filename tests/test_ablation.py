"""The study: what a picture, a table and a verdict say at their edges, and how many runs fit."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from celeba_nb import ablation
from celeba_nb.recipe import Recipe
from celeba_nb.stats import verdict
from celeba_nb.study import (
    OUTCOMES,
    PAPER,
    RUN_MEMORY,
    Study,
    format_table,
    plot_outcome,
    runs_at_once,
    save_study,
    study_recipes,
)


@pytest.mark.parametrize("room, jobs", [(0.5, 1), (3.9, 3), (100, 4)])
def test_runs_fit_into_the_memory(room, jobs, monkeypatch):
    "As many runs at once as there is room for, but at least one; here four cores would do."
    monkeypatch.setattr(ablation, "cpu_count", lambda: 4)
    monkeypatch.setattr(ablation.psutil, "virtual_memory", lambda: SimpleNamespace(available=room * RUN_MEMORY))
    assert runs_at_once([Recipe(device="cpu", threads=1)] * 8) == jobs


def test_seven_seeds_allow_a_verdict():
    "As the help of `celeba-nb study` says."
    assert verdict(0.01, -0.001, 0.02, 0.9, n=6, questions=3) == "too few seeds to tell"
    assert verdict(0.01, -0.001, 0.02, 0.9, n=7, questions=3) == "no difference seen"
    assert verdict(0.01, 0.001, 0.02, 3 * 2 / 2**7, n=7, questions=3) == "helps"


@pytest.fixture
def study(tmp_path):
    "A study of two methods and three seeds, with made-up accuracies."
    made = Study(dict(list(study_recipes().items())[:2]), 3, tmp_path)
    made.values = lambda outcome: np.array([[[0.8]] * 3, [[0.9]] * 3])
    made.metrics = lambda: pd.DataFrame([{"method": method, "seed": seed} | dict.fromkeys(OUTCOMES, 0.8)
                                         for seed in range(3) for method in made.recipes])
    return made


def test_the_papers_numbers_are_drawn_where_there_are_some(study):
    "Three seeds and their mean; the paper's own numbers only for its outcomes and its methods."
    assert len(plot_outcome(study).lines) == 3 + 1 + 1
    assert len(plot_outcome(study, "test_mirrored_accuracy").lines) == 3 + 1
    study.recipes = {"other": Recipe(), "methods": Recipe()}
    assert len(plot_outcome(study).lines) == 3 + 1


def test_tables_have_no_row_numbers(study, monkeypatch):
    "Neither for people nor for programs."
    monkeypatch.setattr(ablation, "plot_study", lambda *args: ablation.plt.figure())
    save_study(study, pd.DataFrame({"effect": ["flip"]}))
    firsts = [(study.folder / f"{name}.csv").read_text().split(",")[0].strip() for name in ("runs", "table")]
    assert firsts == ["method", "method"]
    assert (study.folder / "effects.csv").read_text() == "effect\nflip\n"
    assert format_table(study.table()).splitlines()[1].split()[:2] == ["LR", "0.001"]
    assert list(study.table()["paper_accuracy"]) == list(PAPER["test_accuracy"][:2])
