"""What the tests and the tools share: the notebooks, their exercises, and a way to run one in its own process."""
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "celeba_nb"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = PYPROJECT["project"]["urls"]["Repository"]
BRANCH = PYPROJECT["tool"]["nbdev"]["branch"]
FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}  # a cell's metadata: in JupyterLab, on the site


# What may import what: a module imports only from floors below its own. A maintainer reads the internals in this order.
FLOORS = [floor.split() for floor in (
    "core stats style exercises layers", "fileio", "sources formats", "label_tables", "layouts parquet",
    "drawing files model metrics pretrained tables", "compare sketch images architectures recipe",
    "data augment imbalance device attribution detection record",
    "state batches", "loop", "checkpoint run patches", "answers", "training", "workers", "runs", "study speed scale",
    "results benchmark audit", "few_labels explain photo limits export", "report console", "options", "experiments", "cli")]


def notebooks(root=ROOT):
    "The notebooks in the order in which they are read: the lessons, then the internals, floor by floor."
    every = [module for floor in FLOORS for module in floor]
    found = [path for path in (root / "nbs").rglob("*.ipynb")
             if not any(part.startswith((".", "_")) for part in path.relative_to(root).parts)]
    place = {name: every.index(name) for name in every}
    return sorted(found, key=lambda path: (is_internal(path), is_internal(path) and place.get(path.stem, len(every)), path.name))


def is_internal(path):
    "Does a notebook hold plumbing, which no lesson asks its reader to open?"
    return path.parent.name == "internals"


def name_of(path):
    "A notebook by its path below nbs, as in 05_ablation and internals/core."
    return f"internals/{path.stem}" if is_internal(path) else path.stem


def read(path):
    "A notebook as nested dictionaries."
    return json.loads(path.read_text(encoding="utf-8"))


def write(nb, path):
    "The notebook as a file."
    path.write_text(json.dumps(nb, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def source(cell):
    "The text of a cell."
    return "".join(cell["source"])


def code(cell):
    "A code cell's lines of code: no directives (`#| export`), no empty lines."
    return [line for line in source(cell).splitlines() if line.strip() and not line.startswith("#|")]


def python_of(text):
    "A cell's text as Python, each command of IPython (`%pip`, `!git`) replaced by `pass`."
    return re.sub(r"^( *)[%!].*", r"\1pass", text, flags=re.M)


def code_cell(text):
    "A new code cell."
    return {"cell_type": "code", "id": f"new-{abs(hash(text)):x}"[:60], "metadata": {}, "execution_count": None,
            "outputs": [], "source": text}


def module_of(nb):
    "The module that a notebook is exported to, or None."
    found = re.search(r"^#\| default_exp (\w+)", "\n".join(source(cell) for cell in nb["cells"]), re.M)
    return found[1] if found else None


@cache
def modules():
    "The modules of the package, each with its notebook, in the order of the notebooks."
    return {module: path for path in notebooks() if (module := module_of(read(path)))}


def project_files(root=ROOT):
    "The files that belong to the project: what git tracks, or would."
    command = ["git", "ls-files", "-zco", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [path for name in sorted(set(listed.split("\0")) - {""}) if (path := root / name).is_file()]


def copy_project(folder, root=ROOT):
    "A copy of the project's files in a different folder, to try things that must not touch the working tree."
    for path in project_files(root):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder


# Exercises: the text with two folded hints, a gap (a cell that begins with "# Exercise 1"), its check, the folded solution.

GAP = re.compile(r"# Exercise (\w+)")
HINT = re.compile(r"<details><summary>Hint \d</summary>\s*(.+?)\s*</details>", re.S)
SOLUTION = re.compile(r"^ *```python\n( *# Exercise (\w+).*?)^ *```", re.M | re.S)


@dataclass
class Exercise:
    name: str
    gap: int  # position of the cell with the gap
    check: int | None  # position of the cell that checks it
    hints: list[str]
    solution: str | None


def exercises(nb):
    "The exercises with a gap, in order."
    cells = nb["cells"]
    prose = [source(cell) if cell["cell_type"] == "markdown" else "" for cell in cells]
    folded = {name: textwrap.dedent(text) for text, name in SOLUTION.findall("\n".join(prose))}
    found = []
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "code" and (gap := GAP.match("\n".join(code(cell)))):
            check = next((j for j in range(i + 1, len(cells)) if cells[j]["cell_type"] == "code"), None)
            checks = check and re.search(r"^with check\(\):", source(cells[check]), re.M)
            text = next(prose[j] for j in range(i, -1, -1) if f"**Exercise {gap[1]}" in prose[j] or j == 0)
            found.append(Exercise(gap[1], i, check if checks else None, HINT.findall(text), folded.get(gap[1])))
    return found


PROBE = """
try:
    exec({check!r})
except AssertionError as error:
    assert str(error).startswith("Not yet ("), f"what fails is not inside the check: {{error}}"
else:
    raise AssertionError("exercise {name}: the check passes though the gap is open")
"""


def solved(nb, prove=True):
    "The notebook with each gap filled; with `prove`, each check is first made to fail on the open gap."
    nb = copy.deepcopy(nb)
    cells = nb["cells"]
    for exercise in reversed([e for e in exercises(nb) if e.check and e.solution]):
        open_gap = cells[exercise.gap]
        probe = PROBE.format(check=source(cells[exercise.check]), name=exercise.name)
        cells[exercise.gap : exercise.gap + 1] = [
            *([open_gap, code_cell(probe)] if prove else []), code_cell(exercise.solution)]
    return nb


RUN = """
import sys
from nbdev.test import test_nb
passed, seconds = test_nb(sys.argv[1])
sys.exit(not passed)
"""


def notebook_command(path):
    "The command that runs a notebook's cells as tests, in a process of its own."
    return [sys.executable, "-c", RUN, str(path)]


def run(command, cwd, env, timeout):
    "Run a command and all it starts: (did it succeed?, what it printed). At the time limit all of it is killed."
    env = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace")
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for started in [*psutil.Process(process.pid).children(recursive=True), process]:
            started.kill()
        printed = process.communicate()[0] + f"\nStopped after {timeout:.0f} s."
    return process.returncode == 0, without_bars(printed)


def without_bars(printed):
    "What was printed, of a progress bar only its end."
    return re.sub(r"[^\n]*\r(?!\n)", "", printed)
