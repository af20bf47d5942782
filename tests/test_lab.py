"""Real JupyterLab in a real browser: notebooks are run from the first cell to the last, on sketch faces, as a reader would.

Each gap is first left open, where its check must say so, and then filled with the folded solution, where the check
must be content. So test_notebooks doesn't run these once more.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from chromium import IN_LAB, MISSING
from PIL import Image

from tools.notebooks import ROOT, code_cell, exercises, notebooks, read, source, write

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

TIME_LIMIT = 600  # seconds for a notebook
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"},  # all outputs stay in the page, seen or not
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}

RUN = """async () => {
    const app = window.jupyterapp, panel = app.shell.currentWidget;
    await app.restored; await panel.revealed; await panel.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
}"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells"
STATUS = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"


def with_solutions(nb):
    "The notebook with, after each check of an open gap, the solution and the check once more."
    cells = nb["cells"]
    for exercise in reversed([e for e in exercises(nb) if e.check and e.solution]):
        again = code_cell(f"{source(cells[exercise.check])}\n# again")
        cells[exercise.check + 1 : exercise.check + 1] = [code_cell(exercise.solution), again]
    return nb


@pytest.fixture(scope="module")
def lab(tmp_path_factory, sketch_faces):
    "The address of a JupyterLab that shows a copy of the notebooks, and the folder of the copy."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(".*"))
    for path in notebooks(folder):
        write(with_solutions(read(path)), path)
    for name, settings in SETTINGS.items():
        path = folder / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    env = {k: v for k, v in os.environ.items() if k not in ("CELEBA_ROOT", "CELEBA_NB_STRICT", "MPLBACKEND")}
    env |= {"PYTHONPATH": str(ROOT), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
               "--LabApp.expose_app_in_browser=True", "--IdentityProvider.token=",
               "--ServerApp.disable_check_xsrf=True"]  # no other door than this machine's own
    with open(folder / "log", "w+") as log:
        server = subprocess.Popen(command, cwd=folder / "nbs", env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield address(folder / "log", server), folder / "nbs"
        finally:
            server.terminate()
            server.wait(30)


def address(log, server):
    "Where the server listens, once it does."
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab didn't start:\n{log.read_text()}")


@pytest.fixture
def page(browser, lab):
    "A page of its own, whose kernel ends with it."
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    yield page
    page.close()
    kernels = json.load(urllib.request.urlopen(f"{lab[0]}/api/kernels"))
    for kernel in kernels:
        urllib.request.urlopen(urllib.request.Request(f"{lab[0]}/api/kernels/{kernel['id']}", method="DELETE"))


def run_all(page, address, name):
    "Open a notebook, run all its cells, wait until the last has ended: the cells with their outputs."
    page.goto(f"{address}/lab/workspaces/auto-{name.replace('/', '-')}/tree/{name}.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(f"{STATUS[6:]} === 'idle'")  # before, a dialog about the kernel would be in the way
    page.set_default_timeout(1000 * TIME_LIMIT)
    page.evaluate(RUN)
    page.wait_for_function(f"{STATUS[6:]} === 'idle'")
    cells, before = page.evaluate(CELLS), None
    while cells != before:  # what was printed last still travels
        page.wait_for_timeout(200)
        cells, before = page.evaluate(CELLS), cells
    return cells


def outputs(cells, kind):
    return [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == kind]


def holds(cells, mime, text=""):
    "How many outputs have a form of this kind, and a plain text that begins so."
    shown = [output.get("data", {}) for kind in ("display_data", "execute_result") for output in outputs(cells, kind)]
    return sum(mime in data and "".join(data.get("text/plain", "")).startswith(text) for data in shown)


WIDGET = "application/vnd.jupyter.widget-view+json"
UPLOADED = ".widget-output"  # where the answer to an uploaded photo appears


def upload(page, file):
    "Press the button of 12_photo, and choose a file as a person would."
    with page.expect_file_chooser() as chooser:
        page.locator(".jp-OutputArea-output button.widget-upload").click()
    chooser.value.set_files(file)


def answer_to_a_photo(page, folder):
    "The button takes a photo and shows the chart; after it a letter, and says what is wrong."
    from celeba_nb.data import find_root
    from celeba_nb.detection import Similarity, put_face
    from celeba_nb.files import read_celeba
    from celeba_nb.images import open_photo

    labels = read_celeba(find_root())
    face = open_photo(labels.read(labels.rows("test")[0]))
    photo = put_face(face, Similarity(1.5, 200 + 150j), np.array([90, 120, 150]), 700)
    Image.fromarray(photo).save(folder / "me.png")
    (folder / "letter.png").write_text("Dear reader")
    upload(page, folder / "me.png")
    page.wait_for_selector(f"{UPLOADED} img", timeout=60_000)
    assert page.locator(UPLOADED).inner_text().startswith("me.png: 1 face")
    chart = page.locator(f"{UPLOADED} img")
    assert chart.count() == 1 and chart.evaluate("image => image.complete && image.naturalWidth > 500")
    upload(page, folder / "letter.png")
    page.wait_for_function(f"document.querySelector('{UPLOADED}').innerText.includes('not a picture')", timeout=60_000)
    assert chart.count() == 0 and page.faults == []


THEN = {"12_photo": answer_to_a_photo}  # what is tried after the last cell


@pytest.mark.parametrize("name", IN_LAB)
def test_notebook_in_jupyterlab(name, lab, page, tmp_path):
    cells = [cell for cell in run_all(page, lab[0], name) if cell["cell_type"] == "code"]
    assert [c["source"] for c in cells if not c["execution_count"] and c["source"].strip()] == [], "cells that did not run"
    assert [f"{o['ename']}: {o['evalue']}" for o in outputs(cells, "error")] == []
    assert ["".join(o["text"]) for o in outputs(cells, "stream") if o["name"] == "stderr"] == []
    assert page.faults == []

    gaps = exercises(read(ROOT / "nbs" / f"{name}.ipynb"))
    checks = [cell for cell in cells if re.search(r"^with check\(", "".join(cell["source"]), re.M)]
    told = ["".join(output["text"]).split(" (")[0].strip() for output in outputs(checks, "stream")]
    assert told == ["Not yet", "Right."] * len(gaps)

    shown = page.locator(".jp-OutputArea-output img")
    assert shown.count() == holds(cells, "image/png"), "each plot is a picture in the page"
    sharp = "images => images.map(i => i.complete && i.naturalWidth > Math.max(50, 1.9 * (i.getAttribute('width') || 999)))"
    assert all(shown.evaluate_all(sharp)), "each has two pixels for each of the page's"

    bars = page.locator(".jp-OutputArea-output .widget-hprogress .progress-bar")
    others = sum(holds(cells, WIDGET, kind) for kind in ("FileUpload(", "Output("))
    assert bars.count() >= holds(cells, WIDGET) - others, "each bar is a widget"
    short = [width for width in bars.evaluate_all("bars => bars.map(b => b.style.width)") if width != "100%"]
    assert short == [], "bars that didn't reach their end"
    if name in THEN:
        THEN[name](page, tmp_path)
