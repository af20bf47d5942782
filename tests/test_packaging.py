"""The wheel holds the package and nothing else, and works with the runtime requirements alone."""
import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.notebooks import PACKAGE, copy_project, modules

MODULES = [*modules()]
DEVELOPMENT = ["nbdev", "execnb", "IPython", "ipywidgets", "jupyterlab", "nbconvert", "pytest", "ruff"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel, built from a copy of the project with the setuptools of the `dev` extra: no network needed."
    tree = copy_project(tmp_path_factory.mktemp("tree"))
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation"], cwd=tree, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel):
    "The wheel's metadata."
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def closure(requirements):
    "The distributions that these requirements bring, with all that those require."
    found, left = {}, [Requirement(r) for r in requirements]
    seen = set()
    while left:
        requirement = left.pop()
        for extra in {"", *requirement.extras}:
            if (key := (requirement.name.lower(), extra)) in seen:
                continue
            seen.add(key)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            dist = found[requirement.name.lower()] = distribution(requirement.name)
            for text in dist.requires or []:
                further = Requirement(text)
                if not further.marker or further.marker.evaluate({"extra": extra}):
                    further.marker = None
                    left.append(further)
    return found.values()


def link_distributions(folder, requirements):
    "Links in a virtual environment to the distributions that these requirements bring."
    (site,) = folder.glob("lib/python*/site-packages")
    for dist in closure(requirements):
        tops = {file.parts[0] for file in dist.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(dist.locate_file(top))


@pytest.fixture(scope="module")
def python(wheel, metadata, tmp_path_factory):
    """A virtual environment with the wheel and the runtime requirements, and not one package more.

    Installing PyTorch again would take minutes and gigabytes, so each required distribution is linked to.
    """
    folder = tmp_path_factory.mktemp("runtime")
    venv.create(folder, symlinks=True)
    link_distributions(folder, [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r])
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
                    wheel], check=True)
    return python


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if ".dist-info/" not in n]
    assert {f"{PACKAGE}/{module}.py" for module in MODULES} <= set(names)
    assert f"{PACKAGE}/report.html.jinja" in names
    assert all(name.startswith(f"{PACKAGE}/") and name.endswith((".py", ".jinja")) for name in names), names


def test_metadata(metadata):
    assert metadata["Name"] in (PACKAGE, PACKAGE.replace("_", "-"))
    assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) >= {"dev", "photo", "export", "scale", "explain", "bench"}
    needed = {Requirement(r).name for r in metadata.get_all("Requires-Dist") if "extra ==" not in r}
    assert {"torch", "torchvision", "numpy", "pandas", "pillow", "typer"} <= needed
    assert not needed & {"nbdev", "jupyterlab", "ipywidgets", "pytest"}


@pytest.mark.parametrize("name", DEVELOPMENT)
def test_runtime_has_no_development_tool(python, name, tmp_path):
    found = subprocess.run([python, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True)
    assert f"No module named '{name}'" in found.stderr


def test_imports_outside_the_source_tree(python, tmp_path):
    code = "import sys, importlib\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    names = [f"{PACKAGE}.{module}" for module in MODULES]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run([python, "-c", code, *names], cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert all(Path(line).is_relative_to(python.parent.parent) for line in found.stdout.splitlines()), found.stdout
    assert found.stdout.count("\n") == len(MODULES) > 0


def test_command_line(python, tmp_path):
    command = python.with_name("celeba-nb")
    shown = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name in ("study", "train", "evaluate", "reproduce", "sketch"):
        assert name in shown.stdout
