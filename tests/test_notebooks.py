"""The cells are the tests: every notebook runs from top to bottom, on sketch faces, and on real CelebA where it is.

Each gap is first left open, where its check must fail, and then filled with the folded solution.
"""
import ast
import os
import re
import shutil
import symtable

import pytest
from chromium import IN_LAB, MISSING
from forked import run_notebook

from tools.notebooks import ROOT, exercises, is_internal, name_of, notebooks, python_of, read, solved, source, write

NOTEBOOKS = {name_of(path): path for path in notebooks()}
CELEBA = os.environ.get("CELEBA_ROOT")
without_celeba = pytest.mark.skipif(not CELEBA, reason="CELEBA_ROOT is unset: no real CelebA here")
PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "no_network")])  # a process that calls another machine fails
TIME_LIMIT = 900  # seconds for one notebook


def asks_for_faces(name):
    "Does a notebook take the faces that it finds? The others do the same whatever the data."
    return bool(re.search(r"find_root|CELEBA_ROOT", "\n".join(
        source(cell) for cell in read(NOTEBOOKS[name])["cells"] if not cell["id"].startswith("launch-"))))


DRAWS_ITS_OWN = ["11_explain", "13_limits"]  # whose faces are drawn even where real ones are: these they look at besides
RUNS = [(name, "sketch") for name in NOTEBOOKS
        if (MISSING or name not in IN_LAB) and not (CELEBA and name in DRAWS_ITS_OWN)]
RUNS += [pytest.param(name, "celeba", marks=without_celeba) for name in NOTEBOOKS if asks_for_faces(name)]


@pytest.mark.parametrize(("name", "data"), RUNS)
def test_notebook(name, data, sketch_faces, tmp_path):
    "On sketch faces, those that test_lab runs in JupyterLab are not run a second time."
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "nbs" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    write(solved(read(NOTEBOOKS[name])), path)
    env = {"CELEBA_NB_STRICT": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": PATH,
           "CELEBA_ROOT": CELEBA if data == "celeba" else None}
    passed, printed = run_notebook(path, env, TIME_LIMIT)
    assert passed, f"{name} on {data}:\n{printed[-8000:]}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_exercises_are_whole(name):
    found = exercises(read(NOTEBOOKS[name]))
    assert found or is_internal(NOTEBOOKS[name]), "no exercise with a gap: no code cell begins with '# Exercise 1'"
    for exercise in found:
        assert exercise.check, f"exercise {exercise.name}: the next code cell does not check it inside `with check():`"
        assert len(exercise.hints) == 2, f"exercise {exercise.name}: two folded hints, each telling more, stand in its text"
        assert exercise.solution, f"exercise {exercise.name}: no folded solution that begins with '# Exercise ...'"
    assert len({exercise.name for exercise in found}) == len(found), "two exercises have the same number"


def names_defined(text):
    "The names that a cell's code leaves behind; what a function calls its own variables isn't among them."
    table = symtable.symtable(python_of(text), "cell", "exec")
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_namespace()}


def names_used(text):
    "The names that a cell's code reads, inside its functions and outside."
    nodes = ast.walk(ast.parse(python_of(text)))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def test_names_defined_and_used():
    text = "def f(x):\n    y = x\n    return y + z\nclass C: pass\nfor i in r: k = i"
    assert names_defined(text) == {"f", "C", "i", "k"} and names_used(text) == {"x", "y", "z", "i", "r"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_open_gap_stops_nobody(name):
    "You can leave an exercise out: no later cell but its check uses what the gap defines."
    cells = read(NOTEBOOKS[name])["cells"]
    for exercise in exercises(read(NOTEBOOKS[name])):
        made = names_defined(source(cells[exercise.gap]))
        later = [cell for i, cell in enumerate(cells) if i > exercise.gap and i != exercise.check and cell["cell_type"] == "code"]
        assert not [source(cell) for cell in later if made & names_used(source(cell))]


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
        ("code", "from celeba_nb.exercises import check"),
        ("code", f"# Exercise 1\ndef double(x):\n    return {gap}"),
        ("code", f"with check():\n    assert {check}"),
        ("markdown", "<details><summary>Solution</summary>\n\n```python\n# Exercise 1\ndef double(x):\n"
                     f"    return {solution}\n```\n</details>"))


@pytest.mark.parametrize(("nb", "passes"), [
    (exercise(), True),
    (exercise(solution="3 * x"), False),  # the solution is wrong
    (exercise(gap="x + x"), False),  # the gap is no gap
    (exercise(check="double(21) != 7"), False),  # the check accepts anything
    (notebook(("code", "assert 1 + 1 == 3")), False),
    (notebook(("code", "#| eval: false\nassert 1 + 1 == 3")), True),
])
def test_runner(nb, passes, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    write(solved(nb), tmp_path / "nb.ipynb")
    passed, printed = run_notebook(tmp_path / "nb.ipynb", {"CELEBA_NB_STRICT": "1", "PYTHONPATH": PATH}, timeout=60)
    assert passed is passes, printed
