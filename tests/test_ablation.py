"""The study: what a picture, a table and a file say at their edges, how many runs fit, and who ends with whom."""
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest

from celeba_nb import study as rooms
from celeba_nb.recipe import Recipe
from celeba_nb.study import OUTCOMES, PAPER, Study, format_table, runs_at_once, save_study, study_recipes


@pytest.mark.parametrize("room, jobs", [(0.5, 1), (3.9, 3), (100, 4)])
def test_runs_fit_into_the_memory(room, jobs, monkeypatch):
    "As many runs at once as there is room for, but at least one; here four cores would do."
    monkeypatch.setattr(rooms, "cpu_count", lambda: 4)
    monkeypatch.setattr(rooms.psutil, "virtual_memory", lambda: SimpleNamespace(available=room * rooms._RUN_MEMORY))
    assert runs_at_once([Recipe(device="cpu", threads=1)] * 8) == jobs


@pytest.fixture
def study(tmp_path):
    "A study of two methods and three seeds, with made-up accuracies."
    made = Study(dict(list(study_recipes().items())[:2]), 3, tmp_path)
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
    monkeypatch.setattr(Study, "plot", lambda self, effects: rooms.plt.figure())
    save_study(study, pd.DataFrame({"effect": ["flip"]}))
    firsts = [(study.folder / f"{name}.csv").read_text().split(",")[0].strip() for name in ("runs", "table")]
    assert firsts == ["method", "method"]
    assert (study.folder / "effects.csv").read_text() == "effect\nflip\n"
    assert format_table(study.table()).splitlines()[1].split()[:2] == ["LR", "0.001"]
    assert list(study.table()["paper_accuracy"]) == list(PAPER["test_accuracy"][:2])
    assert list(study.table()) == [*pd.read_csv(rooms.Path(__file__).parents[1] / "nbs/results/study_table.csv")]


PARENT = """
import os, sys, time
from joblib import Parallel, delayed

def work(parent, busy):
    from celeba_nb.study import _end_with
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
    "Without their watch, idle ones stayed for 330 seconds, and busy ones for as long as we looked."
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
