"""The cells are the tests: every notebook runs from top to bottom, on sketch faces, and on real CelebA where it is.

Each gap is first left open, where its check must fail with its hint, and then filled with the folded solution.
Cells marked `#| slow` are left out, as nbdev-test leaves them out; CELEBA_NB_FLAGS=slow runs them too.
"""
import os
import shutil
import time

import pytest

from tools.notebooks import ROOT, exercises, notebook_command, notebooks, read, run, solved, source, write

NOTEBOOKS = {path.stem: path for path in notebooks()}
CELEBA = os.environ.get("CELEBA_ROOT")
real = pytest.param("celeba", marks=pytest.mark.skipif(not CELEBA, reason="CELEBA_ROOT is unset: no real CelebA here"))
PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "no_network")])  # a process that calls another machine fails
TIME_LIMIT = 900  # seconds for one notebook


def run_notebook(name, data, folder, threads):
    "Run a notebook, with its gaps filled, in a folder of its own: (did it pass?, what it printed, seconds)."
    shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    write(solved(read(NOTEBOOKS[name])), folder / "nbs" / f"{name}.ipynb")
    env = {"CELEBA_NB_STRICT": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(threads), "PYTHONPATH": PATH}
    env["CELEBA_ROOT"] = CELEBA if data == "celeba" else None
    began = time.perf_counter()
    command = notebook_command(folder / "nbs" / f"{name}.ipynb", os.environ.get("CELEBA_NB_FLAGS", ""))
    return *run(command, folder, env, TIME_LIMIT), time.perf_counter() - began


@pytest.mark.parametrize("data", ["sketch", real])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name, data, notebook_runs, record_property):
    passed, printed, seconds = notebook_runs[name, data].result()
    record_property("seconds", seconds)
    assert passed, f"{name} on {data}:\n{printed[-8000:]}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_exercises_are_whole(name):
    found = exercises(read(NOTEBOOKS[name]))
    assert found, "no exercise with a gap: no code cell begins with '# Exercise 1'"
    for exercise in found:
        assert exercise.check, f"exercise {exercise.name}: the next code cell does not check it with `with hint(...)`"
        assert exercise.solution, f"exercise {exercise.name}: no folded solution that begins with '# Exercise ...'"
    assert len({exercise.name for exercise in found}) == len(found), "two exercises have the same number"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_first_cell_is_the_title(name):
    "Other prose in the title cell vanishes from the site."
    first = source(read(NOTEBOOKS[name])["cells"][0]).strip().splitlines()
    assert first[0].startswith("# ")
    assert all(line.startswith("> ") for line in first[1:] if line), first


# The runner itself must be able to fail.


def notebook(*cells):
    return {"metadata": {}, "nbformat": 4, "nbformat_minor": 5,
            "cells": [{"cell_type": kind, "id": str(i), "metadata": {}, "source": text,
                       **({"outputs": [], "execution_count": None} if kind == "code" else {})}
                      for i, (kind, text) in enumerate(cells)]}


def exercise(gap="...", solution="2 * x", check="double(21) == 42"):
    return notebook(
        ("code", "from celeba_nb.exercises import hint"),
        ("code", f"# Exercise 1\ndef double(x):\n    return {gap}"),
        ("code", f"with hint('Twice.'):\n    assert {check}"),
        ("markdown", "<details><summary>Solution</summary>\n\n```python\n# Exercise 1\ndef double(x):\n"
                     f"    return {solution}\n```\n</details>"))


@pytest.mark.parametrize(("nb", "passes"), [
    (exercise(), True),
    (exercise(solution="3 * x"), False),  # the solution is wrong
    (exercise(gap="x + x"), False),  # the gap is no gap
    (exercise(check="double(21) != 7"), False),  # the check accepts anything
    (notebook(("code", "assert 1 + 1 == 3")), False),
    (notebook(("code", "#| eval: false\nassert 1 + 1 == 3")), True),
    (notebook(("code", "#| slow\nassert 1 + 1 == 3")), True),
])
def test_runner(nb, passes, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write(solved(nb), tmp_path / "nb.ipynb")
    env = {"CELEBA_NB_STRICT": "1", "PYTHONPATH": PATH}
    passed, printed = run(notebook_command(tmp_path / "nb.ipynb"), tmp_path, env, timeout=60)
    assert passed is passes, printed
