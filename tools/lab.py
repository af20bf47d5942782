"""JupyterLab with the tour, in a copy of the course: what you save there changes nothing in the checkout (make lab).

The copy is in lab/. A notebook that you haven't changed follows the course when it is updated; one that you have
changed is kept as it is. To work on the course itself, open its own notebooks: .venv/bin/jupyter lab nbs
"""
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from tools.notebooks import ROOT

TOUR = "/lab/tree/nbs/00_tour.ipynb"
NO_NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def digest(path):
    "The digest of a file's content."
    return hashlib.sha256(path.read_bytes()).hexdigest()


def course_files(root=ROOT):
    "What a learner needs: the notebooks, their results and drawings, and the pages that they link to."
    found = [*(root / "nbs").rglob("*"), *(root / "docs").glob("*.md"), *(root / "docs").glob("*.png"), root / "README.md",
             root / "CONTRIBUTING.md"]
    return [path for path in found if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)]


def copy_course(folder, root=ROOT):
    "Bring the copy up to date; the files that the learner has changed stay, and are returned if the course has newer ones."
    record = folder / ".copied.json"
    copied = json.loads(record.read_text()) if record.exists() else {}
    kept = []
    for path in course_files(root):
        name = path.relative_to(root).as_posix()
        target, new = folder / name, digest(path)
        if target.exists() and digest(target) not in (copied.get(name), new):
            kept += [name] if copied.get(name) != new else []
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        copied[name] = new
    record.write_text(json.dumps(copied, indent=1))
    return kept


def write_settings(folder):
    "JupyterLab's settings for this project: it asks nothing about news. Your own settings come before them."
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "overrides.json").write_text(json.dumps(NO_NEWS))


def main():
    folder = ROOT / "lab"
    folder.mkdir(exist_ok=True)
    kept = copy_course(folder)
    print(f"Your copy of the course: {folder} (what you save there stays; the checkout is not changed)")
    for name in kept:
        print(f"{name}: yours is kept; the course has a newer one (to get it, remove yours and start again)")
    write_settings(Path(sys.prefix) / "share/jupyter/lab/settings")
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, "-m", "jupyter", "lab", f"--LabApp.default_url={TOUR}", *sys.argv[1:]])


if __name__ == "__main__":
    main()
