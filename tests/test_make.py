"""The Makefile says in one line what is missing, and sets up only what is needed."""
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from tools.lowest import TRIED, lowest
from tools.notebooks import ROOT

TARGETS = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split()
PIP = "-m pip install"


@pytest.fixture
def tree(tmp_path):
    "The files that make looks at, without a .venv."
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    return tmp_path


def make(tree, *args, **env):
    "Run make; standard output and standard error as one text."
    options = re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.M)  # `make test TEST=...` exports TEST
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", *options)}
    done = subprocess.run([shutil.which("make"), *args], cwd=tree, env={**clean, **env}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def fake_python(tree, first):
    "A Python that runs a line before everything else."
    path = tree / "fake-python"
    code = f"import sys; {first}; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    path.chmod(0o755)
    return path


def tools_without(tree, *missing):
    "A PATH with the tools of this machine except some."
    folder = tree / "path"
    folder.mkdir()
    for name in ("sh", "sed", "cat", "rm", "touch", "echo", "find", "git", "python3"):
        if name not in missing and (found := shutil.which(name)):
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_known(tree, target):
    code, shown = make(tree, "-n", target, f"PYTHON={sys.executable}")
    assert code == 0, shown
    if target == "study":
        assert f"{PIP} -qq" in shown and "[dev" not in shown and "celeba-nb study --out runs/study" in shown
    elif target == "bench":
        assert "[bench]" in shown and "celeba-nb bench --json runs/bench.json" in shown
    elif target in ("docs", "pdf"):
        assert "'.[dev,docs]'" in shown and "python -m tools.docs" in shown
        assert ("python -m tools.pdf" in shown) == (target == "pdf")
    elif target == "lowest":
        assert ".venv/lowest/bin/python -m pip" in shown and "[dev" not in shown and "tools.lowest --try" in shown
    elif target == "colab":
        assert "--constraint tools/colab.txt" in shown and "[dev" not in shown and "tools.colab" in shown
    elif target != "clean":
        assert "[dev,docs,scale,explain,photo,export]" in shown and shown.count(PIP) == 1


@pytest.mark.parametrize("target", ["study", "test"])
def test_nothing_to_set_up_the_second_time(tree, target):
    (tree / ".venv").mkdir()
    for stamp in ("ready", "ready-dev"):
        (tree / ".venv" / stamp).touch()
    _, shown = make(tree, "-n", target)
    assert PIP not in shown
    later = time.time() + 5
    os.utime(tree / "settings.ini", (later, later))
    _, shown = make(tree, "-n", target)
    assert PIP in shown


@pytest.mark.parametrize("target", ["study", "lab", "docs", "bench"])
@pytest.mark.parametrize("name", ["copy", "a copy"])
def test_a_checkout_that_was_copied_or_moved(tree, tmp_path_factory, target, name):
    "A .venv that was copied or moved holds programs that would run the code of the old place, or that are not found."
    def stamp(place):
        (place / ".venv").mkdir(exist_ok=True)
        for stamp in ("ready", "ready-dev", "ready-docs", "ready-bench"):
            (place / ".venv" / stamp).write_text(f"{place}\n")

    stamp(tree)
    other = shutil.copytree(tree, tmp_path_factory.mktemp("other") / name)
    _, here = make(tree, "-n", target)
    _, there = make(other, "-n", target)
    assert PIP not in here and PIP in there and "-m venv --clear .venv" in there
    stamp(other)
    assert PIP not in make(other, "-n", target)[1]


def test_a_stamp_says_where_it_was_made(tree):
    "All stamps, with one fake Python that installs nothing."
    python = tree / "fake-python"
    python.write_text('#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi\n')
    python.chmod(0o755)
    for stamp in ("ready", "ready-dev", "ready-docs", "ready-bench"):
        shutil.rmtree(tree / ".venv", ignore_errors=True)
        code, shown = make(tree, f".venv/{stamp}", f"PYTHON={python}", "python_problem=")
        assert code == 0, shown
        assert {(tree / ".venv" / name).read_text() for name in ("ready", stamp)} == {f"{tree}\n"}


def only_line(shown):
    "The one line that make printed."
    lines = [line for line in shown.splitlines() if line.strip()]
    assert len(lines) == 1, shown
    return lines[0]


def test_python_is_missing(tree):
    code, shown = make(tree, "study", PATH=tools_without(tree, "python3"))
    assert code and "python3 is missing: install Python 3.11 or newer" in only_line(shown)
    assert not (tree / ".venv").exists()


def test_python_is_too_old(tree):
    old = fake_python(tree, "sys.version_info = (3, 9, 2)")
    code, shown = make(tree, "test", f"PYTHON={old}")
    assert code and "needs Python 3.11 or newer, and this is 3.9" in only_line(shown)
    assert not (tree / ".venv").exists()


def test_python_has_no_venv(tree):
    bare = fake_python(tree, "sys.modules['ensurepip'] = None")
    code, shown = make(tree, "study", f"PYTHON={bare}")
    assert code and "no venv module" in only_line(shown)


def test_python_does_not_run(tree):
    code, shown = make(tree, "study", f"PYTHON={shutil.which('false')}")
    assert code and "does not run: install Python 3.11 or newer" in only_line(shown)


def test_git_is_missing(tree):
    (tree / ".venv").mkdir()
    (tree / ".venv" / "ready-dev").touch()
    code, shown = make(tree, "test", PATH=tools_without(tree, "git"))
    assert code and "git is missing" in only_line(shown)


@pytest.mark.parametrize("beside", [True, False])
def test_ci_takes_real_celeba_where_it_lies_beside_the_clone(tmp_path, beside):
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / ".ci", clone / ".ci")
    if beside:
        (tmp_path / "shared" / "celeba").mkdir(parents=True)
    fake = tmp_path / "bin" / "make"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$1" = test ] || exit 0\necho "$1 on <$CELEBA_ROOT> in $(pwd)"\nexit 3\n')
    fake.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k != "CELEBA_ROOT"} | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run([clone / ".ci" / "run"], env=env, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stdout == f"test on <{tmp_path / 'shared' / 'celeba' if beside else ''}> in {clone}\n"


def test_lower_bounds_become_equalities():
    settings = {key: "" for key in TRIED} | {"requirements": "\nscipy>=1.11\nfastcore>=2.2,<3\nface-models",
                                             "scale_requirements": "dask[distributed]>=2024.5"}
    assert lowest(settings) == ["scipy==1.11", "fastcore==2.2", "dask==2024.5"]
