"""The cell at the head of each notebook: it installs the course where it isn't, and does nothing where it is."""
import os
import re
import subprocess
import sys
import venv
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.test_packaging import link_distributions
from tools.lab import copy_course
from tools.launch import head, links, words
from tools.notebooks import PACKAGE, REPOSITORY, ROOT, copy_project, notebooks, read, run, source

SHOW = f"""
import {PACKAGE}, pandas
print('HERE', {PACKAGE}.__file__, os.getcwd(), len(os.listdir('results' if os.path.isdir('results') else '../results')) > 9)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    "A virtual environment as Colab's: PyTorch, IPython and pip are there, the course isn't."
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    link_distributions(folder, [*settings["DEFAULT"]["requirements"].split("\n")[1:], "ipython", "pip", "setuptools"])
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    "The working tree as a repository to clone."
    tree = copy_project(tmp_path_factory.mktemp("remote"))
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return tree


def launch(python, remote, folder, name="01_data"):
    "Run the cell of a notebook as IPython runs it, in a folder; its address leads to `remote`: what is printed."
    path = ROOT / "nbs" / f"{name}.ipynb"
    script = folder / "cell.ipy"
    script.write_text(source(head(path, read(path))[1]) + SHOW)
    env = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{remote}.insteadOf", "GIT_CONFIG_VALUE_0": REPOSITORY,
           "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",  # 0 means: no isolation
           "PYTHONPATH": None, "PATH": f"{python.parent}:{os.environ['PATH']}", "IPYTHONDIR": str(folder / ".ipython")}
    done, printed = run([python, "-m", "IPython", "--no-banner", "--colors=NoColor", script], folder, env, 300)
    assert done, printed
    return printed


def test_the_cell_where_nothing_is_installed(bare, remote, tmp_path):
    printed = launch(bare, remote, tmp_path)
    where = re.search(r"HERE (\S+) (\S+) True", printed)
    assert where, printed
    assert where[1].startswith(str(bare.parent.parent)) and where[2] == str(tmp_path / "course" / "nbs")
    written = (tmp_path / "course" / "README.md").stat().st_mtime_ns
    again = launch(bare, "/nowhere", tmp_path)  # as after a restart of the kernel: neither fetched nor installed again
    assert re.findall("HERE.*", again) == re.findall("HERE.*", printed)
    assert (tmp_path / "course" / "README.md").stat().st_mtime_ns == written


def test_the_cell_where_all_is_there(tmp_path):
    tree = copy_project(tmp_path / "tree")
    before = sorted(p.name for p in tree.rglob("*"))
    printed = launch(Path(sys.executable), "/nowhere", tree / "nbs")
    (tree / "nbs" / "cell.ipy").unlink()
    assert len(printed.strip().splitlines()) == 1 and f" {tree / 'nbs'} True" in printed
    assert sorted(p.name for p in tree.rglob("*") if ".ipython" not in p.parts and p.name != ".ipython") == before


@pytest.mark.parametrize("name", ["01_data", "internals/core"])
def test_the_cell_in_the_courses_own_folder(name, tmp_path):
    "As papermill and VS Code may run it: nothing is fetched into the checkout."
    tree = copy_project(tmp_path / "tree")
    printed = launch(Path(sys.executable), "/nowhere", tree, name)
    assert f" {(tree / 'nbs' / name).parent} " in printed and not (tree / "course").exists(), printed


def test_extras_are_named_where_they_are_needed():
    known = {"scale": {"dask", "accelerate"}, "explain": {"captum"}, "photo": {"dlib"}, "export": {"onnx", "onnxruntime"}}
    for path in notebooks():
        nb = read(path)
        used = {name for cell in nb["cells"] if cell["cell_type"] == "code"
                for name in re.findall(r"^ *(?:import|from) (\w+)", source(cell), re.M)}
        extras = {extra for extra, names in known.items() if names & used}
        named = re.search(r'"(?:\.\./)?\.\.(?:\[(.*)\])?"', source(head(path, nb)[1]))[1]
        assert extras <= set((named or "").split(",")), path.name


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "5 s"), (12.4, "10 s"), (13, "15 s"), (91, "90 s"), (100, "2 min")])
def test_words(seconds, text):
    assert words(seconds) == text


def test_links_lead_to_notebooks():
    for path in notebooks():
        assert all(link.endswith(path.name) and "/celeba_nb/" in link for link in links(path))


def test_binder_installs_what_the_notebooks_need():
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    extras = re.search(r"'\.\[(.*)\]'", script.read_text())[1].split(",")
    planned = re.search(r"'\.\[(dev,docs,.*)\]'", (ROOT / "Makefile").read_text())[1].split(",")
    assert {*extras, "docs"} == {*planned}


# JupyterLab, with a copy of the course.


def test_a_learners_changes_are_kept_and_the_rest_follows_the_course(tmp_path):
    course, lab = tmp_path / "course", tmp_path / "lab"
    (course / "nbs" / "results").mkdir(parents=True)
    (course / "docs").mkdir()
    lab.mkdir()
    names = ["README.md", "CONTRIBUTING.md", "nbs/a.ipynb", "nbs/b.ipynb", "nbs/results/t.csv", "docs/glossary.md", "nbs/.hidden"]
    for name in names:
        (course / name).write_text("first")
    assert copy_course(lab, course) == []
    assert sorted(path.relative_to(lab).as_posix() for path in lab.rglob("*") if path.is_file()) == sorted(
        [*(name for name in names if ".hidden" not in name), ".copied.json"])
    (lab / "nbs/a.ipynb").write_text("mine")
    assert copy_course(lab, course) == [] and (lab / "nbs/a.ipynb").read_text() == "mine"
    for name in names:
        (course / name).write_text("second")
    for _ in range(2):  # it is said each time
        assert copy_course(lab, course) == ["nbs/a.ipynb"]
        assert (lab / "nbs/a.ipynb").read_text() == "mine" and (lab / "nbs/b.ipynb").read_text() == "second"
    (lab / "nbs/a.ipynb").unlink()
    assert copy_course(lab, course) == [] and (lab / "nbs/a.ipynb").read_text() == "second"


def test_the_copy_has_what_the_lessons_link_to(tmp_path):
    copy_course(tmp_path)
    for path in (tmp_path / "nbs").glob("*.ipynb"):
        text = "".join(source(cell) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
            there = (path.parent / target).exists() or not target.endswith((".ipynb", ".md", ".svg", ".csv"))
            assert there, f"{path.name}: {target}"
