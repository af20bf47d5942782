"""The page of a model in a real browser: it stays silent, asks for nothing, fits a phone, and is whole."""
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from celeba_nb import cli
from celeba_nb.core import TrainingError
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.report import make_page, write_report
from celeba_nb.run import load
from celeba_nb.sketch import make_sketch
from celeba_nb.training import train

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A tiny run on sketch faces, in its folder; the folder's name is as hostile as a name may be."
    root = tmp_path_factory.mktemp("report")
    labels = read_celeba(make_sketch(root / "faces", 60, 40, 60, progress=False))
    folder = root / "<img src=x onerror=alert(1)> & 'quotes'"
    train(Recipe(train_images=None, size=16, epochs=2, device="cpu", threads=1), labels, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def page(model):
    return write_report(model, model.parent / "page.html")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser to look with")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed: no browser to look with")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page, request):
    "The page in a browser without a connection; with what the browser said and asked for."
    context = browser.new_context(offline=True, **request.param)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda made: asked.append(made.url))
    tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    tab.goto(page.as_uri())
    yield tab, said, asked
    context.close()


views = pytest.mark.parametrize("opened", [
    {"viewport": PHONE, "color_scheme": "light"}, {"viewport": PHONE, "color_scheme": "dark"},
    {"viewport": {"width": 320, "height": 568}}, {"viewport": DESKTOP, "color_scheme": "light"},
], ids=["phone", "phone, dark", "small phone", "desktop"], indirect=True)


@views
def test_it_is_silent_whole_and_fits(opened, page):
    tab, said, asked = opened
    assert said == [] and asked == [page.as_uri()]
    assert not re.search(r"[a-z%)]\.[A-Z]", tab.inner_text("body").split("How was it made?")[-2])
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
    assert tab.evaluate("document.body.scrollWidth") <= tab.viewport_size["width"]


@views
def test_all_can_be_read(opened):
    "Text stands out from its ground (WCAG asks for 4.5 to 1), and none is tiny."
    tab, _, _ = opened
    found = tab.evaluate("""() => [...document.querySelectorAll('h1,h2,h3,p,td,th,small,figcaption,summary,a')].map(e => {
        const style = getComputedStyle(e); let ground = e
        while (ground && getComputedStyle(ground).backgroundColor == 'rgba(0, 0, 0, 0)') ground = ground.parentElement
        const colour = getComputedStyle(ground || document.body).backgroundColor
        return [style.color, colour, parseFloat(style.fontSize), e.tagName]})""")

    def light(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1:-1].split(",")[:3]]
        return sum(weight * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
                   for weight, c in zip((0.2126, 0.7152, 0.0722), parts))
    for colour, ground, size, tag in found:
        low, high = sorted((light(colour), light(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (colour, ground, tag)
        assert size >= 12, tag
    assert len(found) > 300


@views
def test_pictures_and_headings(opened):
    tab, _, _ = opened
    pictures = tab.evaluate("""() => [...document.querySelectorAll('svg, img')].map(e => [
        e.getAttribute('role'), e.getAttribute('aria-label') || e.alt, e.getBoundingClientRect().width])""")
    assert len(pictures) >= 4
    assert all(role == "img" and len(alt) > 20 and width > 200 for role, alt, width in pictures)
    levels = tab.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert tab.evaluate("document.documentElement.lang") == "en" and tab.title()
    for link in tab.query_selector_all("nav a"):
        assert tab.query_selector(link.get_attribute("href")).query_selector("h2")


@pytest.mark.parametrize("opened", [{"viewport": PHONE}], indirect=True)
def test_a_name_is_only_a_name(opened, model):
    tab, said, _ = opened
    assert tab.inner_text("h1") == model.name and said == [] and tab.query_selector("h1 img") is None


def test_it_says_what_the_folder_says(model, page):
    text, metrics = page.read_text(), json.loads((model / "metrics.json").read_text())
    assert f"{100 * metrics['test_accuracy']:.1f}%" in text and "identities are unknown" in text
    for part in ("Wearing_Necktie", "Male and not Male", "Young and not Young", "celeba_nb.model.AttributeCNN", "temperature"):
        assert part in text


def test_with_the_data_it_draws_people(model):
    labels = read_celeba(model.parent / "faces")
    assert "draw identities" in make_page(load(model), "x", labels)
    with pytest.raises(TrainingError, match="not the data"):
        make_page(load(model), "x", labels.take(np.arange(len(labels) - 1)))


def test_a_model_that_knows_nothing_has_a_page(model):
    "All answers the same, groups that nobody is in: numbers that don't exist become a dash, and nothing breaks."
    run = load(model)
    for split in ("valid", "test"):
        run.predictions[split][:] = run.predictions[f"{split}_truth"][:] = 0
    made = make_page(run, "nothing")
    assert "nan" not in made.lower() and "–" in made and "to compare" in made


def change_predictions(folder, **changed):
    with np.load(folder / "predictions.npz") as file:
        arrays = dict(file) | changed
    np.savez_compressed(folder / "predictions.npz", **{key: value for key, value in arrays.items() if value is not None})


DAMAGES = {
    "no recipe": lambda folder: (folder / "recipe.json").unlink(),
    "no predictions": lambda folder: (folder / "predictions.npz").unlink(),
    "cut predictions": lambda folder: os.truncate(folder / "predictions.npz", 5000),
    "empty predictions": lambda folder: (folder / "predictions.npz").write_bytes(b""),
    "a pickle": lambda folder: np.savez(folder / "predictions.npz", test=np.array([{}], dtype=object)),
    "cut history": lambda folder: (folder / "history.csv").write_text(""),
    "binary history": lambda folder: (folder / "history.csv").write_bytes(b"\xff\xfe\x00epoch"),
    "cut weights": lambda folder: (folder / "weights.safetensors").write_bytes(b"x" * 20),
    "metrics no JSON": lambda folder: (folder / "metrics.json").write_text("{"),
    "metrics without seconds": lambda folder: (folder / "metrics.json").write_text("{}"),
    "no truth": lambda folder: change_predictions(folder, test_truth=None),
    "fewer rows": lambda folder: change_predictions(folder, test=np.zeros((3, 40), np.float32)),
    "39 columns": lambda folder: change_predictions(folder, valid=np.zeros((40, 39), np.float32)),
    "NaN": lambda folder: change_predictions(folder, test=np.full((60, 40), np.nan, np.float32)),
    "logits": lambda folder: change_predictions(folder, test=np.full((60, 40), -3, np.float32)),
    "truth as text": lambda folder: change_predictions(folder, test_truth=np.full((60, 40), "no")),
    "rows of another length": lambda folder: change_predictions(folder, test_rows=np.arange(3)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_clear_line(model, tmp_path, damage):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    DAMAGES[damage](folder)
    done = CliRunner().invoke(cli.app, ["report", str(folder), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 1 and not (tmp_path / "page.html").exists()
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and str(folder) in done.stderr
