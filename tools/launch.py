"""The head of each notebook: where it can be run without installing anything, how long it takes, and the cell for Colab.
Cells that only install or import are folded in JupyterLab and on the site.

`make outputs` writes it, so that the repository's address is written in pyproject.toml alone, and each time is measured.
"""
import ast
from urllib.parse import quote

from tools.notebooks import BRANCH, FOLDED, PACKAGE, REPOSITORY, is_internal, name_of, python_of, source

COLAB = "https://colab.research.google.com/github/{name}/blob/{branch}/{file}"
BINDER = "https://mybinder.org/v2/gh/{name}/{branch}?labpath={quoted}"
# What else a notebook needs.
EXTRAS = {"10_scale": "scale", "11_explain": "explain", "attribution": "explain", "12_photo": "photo",
          "detection": "photo", "export": "export", "cli": "scale"}
CELL = """#| hide
#| eval: false
# Run elsewhere, as on Colab, this fetches the course and installs it. Beside the other notebooks it does nothing.
import importlib.util
import os

if os.path.isdir("nbs/results"):  # started in the course's own folder, as papermill and VS Code do
    %cd -q {folder}
elif not os.path.isdir("{results}"):
    if not os.path.isdir("course"):
        !git clone --quiet --depth 1 {repository} course
    %cd -q course/{folder}
if importlib.util.find_spec("{package}") is None:
    %pip install --quiet "{root}{extras}"
"""


def words(
    seconds,  # that a notebook took
):
    "A time in round figures: 5, 10 ... 90 seconds, or minutes."
    return f"{max(5, 5 * round(seconds / 5))} s" if seconds < 92 else f"{seconds / 60:.0f} min"


def links(path):
    "Where a notebook can be run in a browser."
    file = f"nbs/{name_of(path)}.ipynb"
    where = {"name": REPOSITORY.split("/", 3)[3], "branch": BRANCH, "file": file, "quoted": quote(file, safe="")}
    return COLAB.format(**where), BINDER.format(**where)


def head(path, nb):
    "The two cells after a notebook's title."
    colab, binder = links(path)
    text = f"*In a browser: [Colab]({colab}), [Binder]({binder}).*"
    if seconds := nb["metadata"].get(PACKAGE, {}).get("seconds"):
        text = f"*On two cores, with sketch faces, all cells take about {words(seconds)}.* {text}"
    extras = f"[{EXTRAS[path.stem]}]" if path.stem in EXTRAS else ""
    inside = is_internal(path)
    cell = CELL.format(repository=REPOSITORY, package=PACKAGE, extras=extras, folder="nbs/internals" if inside else "nbs",
                       root="../.." if inside else "..", results="../results" if inside else "results")
    return [{"cell_type": "markdown", "id": "launch-links", "metadata": {}, "source": text.splitlines(True)},
            {"cell_type": "code", "id": "launch-cell", "metadata": FOLDED, "execution_count": None, "outputs": [],
             "source": cell.strip().splitlines(True)}]


def only_sets_up(cell):
    "Does a cell only import, and call what sets up the page, such as `use_style()`?"
    if cell["cell_type"] == "markdown":
        return False
    body = ast.parse(python_of(source(cell))).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    calls = [node for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    return bool(imports) and len(imports) + len(calls) == len(body)


def with_head(path, nb):
    "The notebook with its head as it should be, and its imports folded."
    rest = [cell for cell in nb["cells"][1:] if not cell.get("id", "").startswith("launch-")]
    rest = [cell | {"metadata": FOLDED} if only_sets_up(cell) else cell for cell in rest]
    return nb | {"cells": [nb["cells"][0], *head(path, nb), *rest]}


def has_head(path, nb):
    "Are a notebook's head and the folds of its imports as they should be?"
    wanted = with_head(path, nb)["cells"]
    return [(source(cell), cell["metadata"]) for cell in wanted] == [(source(cell), cell["metadata"]) for cell in nb["cells"]]
