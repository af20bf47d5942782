"""What is committed is exported, cleaned, documented, free of real faces and of traces of the machine it came from."""
import ast
import base64
import filecmp
import io
import os
import re
import runpy
import subprocess
import sys
import tokenize
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tools.drawings import DRAWINGS, FOLDER, result, svg, write_drawings
from tools.figures import public_definitions, undocumented
from tools.notebooks import (
    FLOORS,
    PACKAGE,
    ROOT,
    code,
    copy_project,
    is_internal,
    module_of,
    modules,
    name_of,
    notebooks,
    project_files,
    python_of,
    read,
    source,
)
from tools.outputs import WIDGET, is_sealed, seal, with_times

NOTEBOOKS = {name_of(path): path for path in notebooks()}
MODULES = {module: name_of(path) for module, path in modules().items()}
on_modules = pytest.mark.parametrize("module", MODULES)
SOURCES = [path for path in project_files() if path.suffix == ".py"]
on_notebooks = pytest.mark.parametrize("name", NOTEBOOKS)


def outputs(name):
    "Pairs of a notebook's code cells and their outputs."
    return [(cell, out) for cell in read(NOTEBOOKS[name])["cells"] for out in cell.get("outputs", [])]


def text_of(out):
    "All the text of an output: what was printed, shown or raised."
    shown = [value for kind, value in out.get("data", {}).items() if kind.startswith("text/")]
    parts = [out.get("text", ""), *out.get("traceback", []), *shown]
    return "\n".join("".join(part) for part in parts)


def changed(command, folder, tmp_path):
    "The names of the files below `folder` that an nbdev command would change, create or delete."
    tree = copy_project(tmp_path / "tree")
    subprocess.run([Path(sys.executable).with_name(command)], cwd=tree, check=True, capture_output=True)
    names = {p.relative_to(root).as_posix() for root in (ROOT, tree) for p in (root / folder).rglob("*")
             if p.is_file() and "__pycache__" not in p.parts and ".ipynb_checkpoints" not in p.parts
             and p.name != ".last_checked"}
    return sorted(n for n in names if not ((ROOT / n).exists() and (tree / n).exists()
                                           and filecmp.cmp(ROOT / n, tree / n, shallow=False)))


def test_package_is_exported(tmp_path):
    assert changed("nbdev-export", PACKAGE, tmp_path) == [], "run nbdev-export; never edit the package by hand"


def test_notebooks_are_clean(tmp_path):
    assert changed("nbdev-clean", "nbs", tmp_path) == [], "run nbdev-clean"


@on_notebooks
def test_outputs_are_kept_without_counts(name):
    cells = [cell for cell in read(NOTEBOOKS[name])["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] is None for cell in cells)
    assert all(out.get("execution_count") is None for _, out in outputs(name))
    for cell in cells:
        shows = re.search(r"^(print|plt\.show)\(", source(cell), re.M)
        if shows and not re.search(r"^#\| *eval: *false", source(cell), re.M):
            assert cell["outputs"], f"no output kept (make outputs): {source(cell)[:200]}"
    assert not [out for _, out in outputs(name) if out["output_type"] == "error"]


@on_notebooks
def test_outputs_hold_no_progress_bars(name):
    "A widget without its state shows as an empty line, and the time that a bar tells changes with every run."
    for _, out in outputs(name):
        assert WIDGET not in out.get("data", {})
        assert not re.search(r"\d+%\|", text_of(out))


@on_notebooks
def test_outputs_come_from_sketch_faces(name):
    "Committed outputs name no folder but the cache (as ~/...), so a CELEBA_ROOT in them shows."
    for cell, out in outputs(name):
        found = re.findall(r"(?<![\w.~/:<>])/(?!tmp/folder)[a-zA-Z][\w.-]*/[\w./-]+", text_of(out))
        assert not found, f"{found} in the output of:\n{source(cell)[:300]}"


@on_notebooks
def test_outputs_were_made_by_make_outputs(name):
    "Which unsets CELEBA_ROOT: so what is committed shows no real face, and belongs to the code above it."
    assert is_sealed(read(NOTEBOOKS[name])), f"run: make outputs OUTPUTS={name}"


@on_notebooks
def test_pictures_are_sharp_png_or_svg(name):
    "JPEGs in outputs would be the images themselves. A plot has two pixels for each of the page's, if `use_style` was called."
    for _, out in outputs(name):
        for kind, data in out.get("data", {}).items():
            assert not kind.startswith("image/") or kind in ("image/png", "image/svg+xml"), kind
            if kind == "image/png":
                picture = Image.open(io.BytesIO(base64.b64decode("".join(data))))
                assert picture.format == "PNG"
                assert out["metadata"].get("image/png") == {"width": picture.width // 2, "height": picture.height // 2}


def code_of(path):
    "The Python that a file holds: a module's text, or a notebook's code cells."
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = [c for c in read(path)["cells"] if c["cell_type"] == "code"]
    return "\n".join(python_of("\n".join(code(c))) for c in cells)


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS.values()], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_star_imports(path):
    stars = [node.lineno for node in ast.walk(ast.parse(code_of(path)))
             if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert not stars


def project_imports(module):
    "The modules of the package that a module imports, with the names that it takes from them."
    found = {}
    for node in ast.walk(ast.parse((ROOT / PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            full = {alias.name: set() for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = f"{PACKAGE}.{node.module or ''}".rstrip(".") if node.level else node.module
            full = {start: {alias.name for alias in node.names}}
            if start == PACKAGE:
                full = {f"{PACKAGE}.{alias.name}": set() for alias in node.names}
        else:
            continue
        for name, names in full.items():
            if name.startswith(PACKAGE + ".") and (other := name.split(".")[1]) in MODULES:
                found.setdefault(other, set()).update(names)
    return found


@on_modules
def test_imports_go_to_floors_below(module):
    floor = {name: number for number, floor in enumerate(FLOORS, 1) for name in floor}
    wrong = [f"{other} (floor {floor[other]})" for other in project_imports(module) if floor[other] >= floor[module]]
    assert not wrong, f"{module} (floor {floor[module]}) imports {wrong}: only floors below may be imported"


def test_each_module_has_a_floor():
    assert set(MODULES) == {name for floor in FLOORS for name in floor}


def test_modules_are_those_of_the_notebooks():
    "An export leaves the file of a module that is no more; two notebooks that export one module overwrite each other."
    exported = [module_of(read(path)) for path in notebooks()]
    assert len(MODULES) == len([module for module in exported if module])
    assert {path.stem for path in (ROOT / PACKAGE).glob("*.py")} == {*MODULES, "__init__", "_modidx"}


@pytest.mark.parametrize("module", ["core", "stats", "recipe", "cli"])
def test_imports_no_pytorch(module):
    "So that a command line answers at once."
    code = f"import sys, {PACKAGE}.{module}; print(*[name for name in ('torch', 'torchvision') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_no_public_name_is_a_module():
    "Or `from celeba_nb import report` would be the one or the other, as it happens."
    both = {f"{module}.{name}" for module in MODULES for name in public_names(module) if name in MODULES}
    assert not both


def public_names(module):
    "What a module hands out: its `__all__`, and what it defines without an underscore."
    tree = ast.parse((ROOT / PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(getattr(target, "id", "") == "__all__" for target in targets):
            names |= set(ast.literal_eval(node.value))
        else:
            names |= {node.name} if hasattr(node, "name") else {t.id for t in targets if isinstance(t, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_notebooks_are_found_everywhere():
    "What lies below nbs is tested, published, measured and linked: each tool asks the same function."
    there = {path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert there == {*notebooks()} == {*NOTEBOOKS.values()} and len(NOTEBOOKS) == len(there)
    assert [name for name in NOTEBOOKS if is_internal(NOTEBOOKS[name])] == [
        f"internals/{module}" for floor in FLOORS for module in floor if f"internals/{module}" in NOTEBOOKS]


def test_index_leads_to_internals():
    index = runpy.run_path(ROOT / PACKAGE / "_modidx.py")["d"]["syms"]
    assert index[f"{PACKAGE}.core"][f"{PACKAGE}.core.DataError"] == ("internals/core.html#dataerror", f"{PACKAGE}/core.py")


@on_notebooks
def test_results_are_read_by_lessons(name):
    "A notebook runs in its own folder: `results` is beside the lessons, and not beside the internals."
    cells = [c for c in read(NOTEBOOKS[name])["cells"] if c["cell_type"] == "code" and not c["id"].startswith("launch-")]
    told = [text for cell in cells for text in re.findall(r"""["'](?:\.\./)*results\b[^"']*["']""", source(cell))]
    assert not is_internal(NOTEBOOKS[name]) or not told


@on_modules
def test_no_development_tool_at_run_time(module):
    text = (ROOT / PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|import) (nbdev|execnb|IPython|ipywidgets|pytest)\b", text, re.M)


@on_modules
def test_public_definitions_are_documented(module):
    path = ROOT / PACKAGE / f"{module}.py"
    missing = [f"{name}: {what}" for name, node in public_definitions(path) for what in undocumented(node, path)]
    assert not missing, "\n".join(missing)


def test_ruff():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def registry_hosts():
    "The package registries that this machine is set up with, other than the public one."
    settings = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings += "\n".join(value for name, value in os.environ.items() if re.search("INDEX|PROXY|REGISTRY", name, re.I))
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s'\"]+", settings)}
    return {host for host in hosts if host and not host.endswith(("pypi.org", "pythonhosted.org"))}


def test_no_trace_of_a_machine():
    "No home or work folder, and no package registry's host, in any file of the project."
    folders = re.compile(r"(?<![\w~.])/(?:root|work|home/\w+|Users/\w+|opt/\w+)/[\w.]")
    hosts = registry_hosts()
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        text = re.sub(r'"image/png": "[^"]*"', "", text)
        found += [f"{path.relative_to(ROOT)}: {hit[0]!r}" for hit in folders.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: a registry's host" for host in hosts if host in text]
    assert not found, "\n".join(found)


def test_no_large_files_and_no_images_of_faces():
    "Outside the notebooks' outputs the only images are README's, the drawings, and the drawn faces of the demo and of a test."
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        limit = 6_000_000 if path.suffix == ".ipynb" else 500_000
        assert path.stat().st_size <= limit, f"{name}: {path.stat().st_size:,} bytes"
        if name.startswith("tests/old_records/"):  # of sketch faces, as earlier versions wrote them
            assert path.stat().st_size <= 20_000, name
            continue
        if name.startswith("nbs/results/") and name.endswith("_answers.npz"):  # a number for each run and test image: no picture
            for key, array in np.load(path).items():
                outcomes = "(train|valid|test|test_mirrored)_(loss|accuracy)(_groups)?"
                assert re.fullmatch(rf"methods|seeds|attributes|{outcomes}|Male|Young", key)  # the last two: groups of people
                assert array.ndim < 4 and (not key.endswith("accuracy") or array.max() <= 40)
            continue
        assert path.suffix not in {".pt", ".pth", ".pkl", ".npy", ".npz", ".safetensors", ".zip", ".parquet"}, name
        if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".svg"}:
            of_demo = re.fullmatch(r"docs/(demo(_heaps)?\.png|_static/demo/person_\d+_\d\.webp)", name)  # python -m tools.demo
            known = name == "tests/sketch_faces.png" or path.parent == FOLDER or of_demo
            assert known or name in readme, f"{name}: README does not show it"


def test_drawings_are_those_of_the_script(tmp_path):
    write_drawings(tmp_path)
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(path.name for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_text() == (FOLDER / path.name).read_text(), f"{path.name}: run python -m tools.drawings"
    assert svg(result) == (ROOT / "docs" / "result.svg").read_text(), "run python -m tools.drawings"


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_each_drawing_is_in_a_lesson_and_legible_on_a_phone(draw):
    lessons = "".join(source(cell) for path in notebooks() for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    assert re.search(rf"!\[[^]]{{30,}}\]\(drawings/{draw.__name__}.svg\)", lessons), "no lesson shows it with words for the blind"
    sizes = [int(size) for size in re.findall(r'font-size="(\d+)"', svg(draw))]
    assert 'width="390"' in svg(draw) and min(sizes) >= 12


def test_pages_and_makefile_agree():
    "README has the targets that a learner needs, CONTRIBUTING the others."
    pages = {name: (ROOT / f"{name}.md").read_text(encoding="utf-8") for name in ("README", "CONTRIBUTING")}
    targets = set(re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split())
    named = {name: set(re.findall(r"(?:`|^ *)make ([\w-]+)", text, re.M)) for name, text in pages.items()}
    assert {"lab", "study", "test", "docs"} <= named["README"] and named["README"] | named["CONTRIBUTING"] == targets


def test_tables_tell_how_long_each_notebook_takes():
    for path in notebooks():
        table = (ROOT / ("CONTRIBUTING.md" if is_internal(path) else "README.md")).read_text(encoding="utf-8")
        assert with_times(table, [path]) == table, "run make outputs"
        name = name_of(path)
        assert re.search(rf"^\| \[{name}\]\(nbs/{name}.ipynb\) .*\| (\d+ s|\d+ min) \|$", table, re.M), name


def test_readme_names_what_exists():
    "Every local link in README and in the notebooks' prose leads to a file."
    pages = [(ROOT / "README.md", (ROOT / "README.md").read_text(encoding="utf-8"))]
    pages += [(path, source(cell)) for path in NOTEBOOKS.values() for cell in read(path)["cells"]
              if cell["cell_type"] == "markdown"]
    broken = []
    for page, text in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            on_github = target.startswith("../../actions/")  # from the badges to the repository's own pages there
            if not urlsplit(target).scheme and not on_github and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken, "\n".join(broken)


# Names that are no more. CHANGELOG and the package's own table of old names (OLD_...), for old records, still say them.

GONE = """Album ALONE Alone BothWays call_hooks CHAIN conv_norm cut_out find_judges find_name find_team honesty_part Hook Judges
LAYOUTS Ledger like_weight load_sound LOOK make_objective multiply_adds objective_args points_inside ready_made
relight run_name run_way SmallResNet STICKY Team TEN_LOOKS way_script _pick_sound""".split()
ORDINARY = {  # words that may be said, but are no names of the package: where they were -> what they were
    "core": "hold", "drawing": "dice Look SIZE", "sketch": "people", "files": "people who", "images": "squeeze SIZE",
    "augment": "chain", "loop": "everyone WAYS", "speed": "WAYS", "study": "METHODS percent", "scale": "Share piece",
    "few_labels": "grow", "explain": "METHODS explain", "photo": "Face FRAME ask look distinct",
    "report": "report percent points span", "cli": "study sketch"}
FIELDS = {"objective", "objective_args", "average", "layout"}  # of Recipe
MODULES_GONE = ["train", "ablation", "progress"]


def say_old_names(text):
    "The names that are no more in a piece of code, or of prose between backticks."
    said = re.findall(rf"(?<!\w)(?:{'|'.join(GONE)})(?!\w)", text)
    said += re.findall(rf"{PACKAGE}[./](?:{'|'.join(MODULES_GONE)})(?:\.py)?(?!\w|\.html)", text)
    said += [field for field in FIELDS if re.search(rf"--{field.replace('_', '-')}(?![\w-])", text)]
    return said + [field for field in FIELDS for call in re.findall(r"(?:Recipe|replace|study_recipes)\(([^()]*)\)", text)
                   if re.search(rf"(?<!\w){field}=", call)]


def without_strings(text):
    "Code without its strings: the rooms that read old records name what stands in them."
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


def without_old_table(text):
    "Code without the assignments to OLD_...: the table of old names."
    lines = text.splitlines()
    for node in ast.parse(text).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(getattr(target, "id", "").startswith("OLD") for target in targets):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)


def in_backticks(text):
    "The code of a page of prose: blocks, and what stands between backticks."
    return "\n".join(re.findall(r"```.*?```|^(?: {4}|\t).*$|`[^`\n]+`", text, re.M | re.S))


PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("path", [*sorted((ROOT / PACKAGE).glob("[!_]*.py")), *NOTEBOOKS.values(), *PAGES],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_old_names_are_gone(path):
    reads_old_records = path.stem in ("recipe", "record")
    plain_code = without_strings if reads_old_records else without_old_table
    if path.suffix == ".ipynb":
        texts = [in_backticks(source(cell)) if cell["cell_type"] == "markdown" else plain_code(python_of(source(cell)))
                 for cell in read(path)["cells"]]
    else:
        text = path.read_text(encoding="utf-8")
        texts = [in_backticks(text) if path.suffix == ".md" else plain_code(text)]
    assert [name for text in texts for name in say_old_names(text)] == []


@pytest.mark.parametrize("module", ORDINARY)
def test_old_ordinary_names_are_gone(module):
    assert not public_names(module) & set(ORDINARY[module].split())


# The checks must be able to fail.


@pytest.mark.parametrize(("text", "names"), [
    ("`find_name(text)`", ["find_name"]), ("`FIND_NAMES`", []), ("x = celeba_nb.train", ["celeba_nb.train"]),
    ("celeba_nb.training", []), ("celeba-nb train --layout x --average-of y", ["layout"]),
    ("Recipe(average=0.9)", ["average"]), ("MultilabelAccuracy(average=None)", []), ("train.LAYOUTS", ["LAYOUTS"]),
])
def test_say_old_names(text, names):
    assert say_old_names(text) == names


def test_the_table_of_old_names_may_say_them():
    assert say_old_names(without_old_table("OLD_FIELDS = {\n'a': 'SmallResNet'}\nx = 1")) == []


@pytest.mark.parametrize(("text", "missing"), [
    ('def f(\n    x,  # (n,)\n):\n    "Does."', []),
    ('def f(\n    x,\n):\n    "Does."', ["no comment for x"]),
    ("def f(\n    x,  # (n,)\n):\n    return x", ["no docstring"]),
    ('class A:\n    "Is."\n    def f(\n        self,\n        x,\n    ):\n        "Does."', ["no comment for f.x"]),
    ('@dataclass\nclass A:\n    "Is."\n    x: int  # (n,)\n    y: int', ["no comment for y"]),
    ('def f(x: Annotated[int, Option(help="Number.")]):\n    "Does."', []),
])
def test_undocumented(text, missing, tmp_path):
    path = tmp_path / "m.py"
    path.write_text(text + "\n")
    assert undocumented(ast.parse(text).body[0], path) == missing
    assert list(tokenize.generate_tokens(io.StringIO(text).readline))


def test_seal_breaks():
    nb = {"metadata": {}, "cells": [{"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": [
        {"output_type": "execute_result", "data": {"text/plain": ["1"]}, "metadata": {}, "execution_count": 3}]}]}
    assert not is_sealed(nb)
    nb["metadata"][PACKAGE] = {"seal": seal(nb)}
    nb["cells"].append({"cell_type": "markdown", "source": "Prose may change."})
    assert is_sealed(nb)
    nb["cells"][0]["source"] = "x = 2\nx"
    assert not is_sealed(nb)
    nb["cells"][0] |= {"source": "x = 1\nx", "outputs": []}
    assert not is_sealed(nb)
