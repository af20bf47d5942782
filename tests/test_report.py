"""The page of a model in a real browser: it stays silent, asks for nothing, fits a phone, and is whole."""
import base64
import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from celeba_nb import cli, metrics
from celeba_nb.core import DataError, TrainingError
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.report import (
    _TEMPLATES,
    GROUPS,
    attribute_table,
    extreme_faces,
    find_baselines,
    find_drawn,
    gap_chart,
    group_report,
    learning_charts,
    line_chart,
    make_page,
    metric_intervals,
    metric_table,
    write_report,
)
from celeba_nb.run import load
from celeba_nb.sketch import make_sketch
from celeba_nb.training import train

FREQUENT = "learned to say what is most frequent"
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


@pytest.mark.parametrize("opened", [{"viewport": DESKTOP}], indirect=True)
def test_the_table_sorts_by_keyboard(opened, model):
    "By numbers, what isn't one last; a second time the other way round; and by name."
    tab, _, _ = opened

    def press(title):
        tab.get_by_role("button", name=title).focus()
        tab.keyboard.press("Enter")
        (head,) = tab.query_selector_all("th[aria-sort]")
        rows = [row.split("\t") for row in tab.inner_text("table.sortable tbody").splitlines()]
        return head.get_attribute("aria-sort"), rows

    order, rows = press("Recall")
    recall = [float(row[5].rstrip("%")) for row in rows if row[5] != "–"]
    assert order == "descending" and len(rows) == 40 and recall == sorted(recall, reverse=True)
    assert all(row[5] == "–" for row in rows[len(recall):])
    assert press("Recall")[0] == "ascending" and press("Attribute")[0] == "ascending"
    assert [row[0] for row in press("Gain, points")[1]][0] == attribute_table(load(model), find_baselines(load(model))).index[0]


@pytest.mark.parametrize("opened", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript_the_table_is_a_table(opened, model):
    tab, _, _ = opened
    names = [cell.inner_text() for cell in tab.query_selector_all("table.sortable tbody th")]
    assert names == [*attribute_table(load(model), find_baselines(load(model))).index]
    assert tab.query_selector("table.sortable button") is None


@pytest.mark.parametrize("opened", [{"viewport": PHONE}], indirect=True)
def test_a_name_is_only_a_name(opened, model):
    tab, said, _ = opened
    assert tab.inner_text("h1") == model.name and said == [] and tab.query_selector("h1 img") is None


def test_it_says_what_the_folder_says(model, page):
    text, metrics = page.read_text(), json.loads((model / "metrics.json").read_text())
    assert f"{100 * metrics['test_accuracy']:.1f}%" in text and "identities are unknown" in text
    for part in ("Wearing_Necktie", "Male and not Male", "Young and not Young", "celeba_nb.model.AttributeCNN", "temperature"):
        assert part in text


def test_with_the_data_it_resamples_identities(model, page):
    labels = read_celeba(model.parent / "faces")
    with_data, without = make_page(load(model), "x", labels), page.read_text()
    assert "resample identities" in with_data and "training labels" in with_data and "too narrow" not in with_data
    assert "validation labels" in without and "too narrow" in without
    with pytest.raises(TrainingError, match="not the data"):
        make_page(load(model), "x", labels.take(np.arange(len(labels) - 1)))


def test_a_model_that_knows_nothing_has_a_page(model):
    "All answers the same, groups that nobody is in: numbers that don't exist become a dash, and nothing breaks."
    run = load(model)
    known = {f"{split}{kind}": 0 * run.predictions[f"{split}{kind}"] for split in ("valid", "test") for kind in ("", "_truth")}
    made = make_page(replace(run, predictions={**run.predictions, **known}), "nothing")
    assert "nan" not in made.lower() and "–" in made and "to compare" in made


class Tags(HTMLParser):
    "Collects the tags of a page with their attributes."

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_it_is_one_file_with_one_script(page):
    "Whose hash the policy names, so that no other one runs."
    tags = Tags()
    tags.feed(page.read_text())
    kinds = [tag for tag, _ in tags.found]
    assert kinds.count("script") == 1 and not {"link", "img", "iframe", "object", "image"} & set(kinds) and kinds.count("h1") == 1
    assert all(len(values["aria-label"]) > 20 for tag, values in tags.found if tag == "svg") and kinds.count("svg") >= 3
    assert all(values["href"].startswith("#") for tag, values in tags.found if tag == "a")
    ids = [values["id"] for _, values in tags.found if "id" in values]
    assert len(ids) == len(set(ids)) > 6
    policy = [values["content"] for tag, values in tags.found if values.get("http-equiv") == "Content-Security-Policy"]
    script = page.read_text().partition("<script>")[2].partition("</script>")[0]
    named = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == [f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{named}'"]
    assert not any(name.startswith("on") for _, values in tags.found for name in values)


def test_it_says_what_the_data_were(model, page):
    "Numbers of drawn faces say nothing about photos; the groups of other attributes are left out."
    assert "drawn" in page.read_text() and "celebrities" not in page.read_text()
    run = load(model)
    assert "celebrities" in make_page(replace(run, kind="CelebA"), "x")
    names = [f"own {i}" for i in range(40)]
    made = make_page(replace(run, attributes=tuple(names), kind="own"), "x")
    assert "somebody entered" in made and "None of the attributes names a group" in made
    assert all(f">{name}</th>" in made for name in names)


def test_its_head_has_what_a_model_card_must_say(model, page):
    "The kind of data in its first line; then date, use, licence, temperature and thresholds."
    run, seen = load(model), page.read_text()
    assert "<p class=\"soft\">Trained on drawn faces" in seen and seen.index("Trained on drawn faces") < seen.index("<h1>")
    head = seen.partition('<dl class="facts">')[2].partition("</dl>")[0]
    assert run.machine["date"] in head and f"{run.temperature:.2f}: all logits" in head and "yes above 50%" in head
    assert "not for photos" in head and "Apache-2.0" in head and "non-commercial" not in head
    known = {"test": np.where(run.predictions["test_truth"], 0.9, 0.1)}
    other = make_page(replace(run, kind="CelebA", thresholds=(0.25,) * 39 + (0.5,), machine={},
                              predictions={**run.predictions, **known}), "x")
    assert FREQUENT not in other
    head = other.partition('<dl class="facts">')[2].partition("</dl>")[0]
    assert "date not recorded" in head and "non-commercial research" in head and "25.0% to" in head and "50.0%" in head


def test_it_says_when_a_network_only_learned_what_is_frequent(model):
    run = load(model)
    guess = np.broadcast_to(run.predictions["valid_truth"].mean(0), run.predictions["test"].shape)
    made = make_page(replace(run, predictions={**run.predictions, "test": guess}), "x")
    assert FREQUENT in made and "40 of 40 attributes get the same answer" in made


def test_only_drawn_faces_are_shown(model):
    "The four answered best, and the four answered worst; of photos none, whoever says that they are drawn."
    run, labels = load(model), read_celeba(model.parent / "faces")
    with_faces = make_page(run, "x", labels)
    right = (((run.predictions["test"] > 0.5) == run.predictions["test_truth"]).sum(1)).tolist()
    shown = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="Drawn face (\S+), (\d+) of 40 answers right"', with_faces)
    assert [int(n) for *_, n in shown] == [*sorted(right)[::-1][:4], *sorted(right)[:4]]
    assert base64.b64decode(shown[0][0]) == (model.parent / "faces" / "img_align_celeba" / shown[0][1]).read_bytes()
    assert "img-src data:; " in with_faces and not extreme_faces(run, None)
    photos = replace(labels, root=model.parent)  # as they are, but in a folder that the package didn't draw
    for claimed in ("drawn", "CelebA", None):
        assert not extreme_faces(replace(run, kind=claimed), photos)
    assert not extreme_faces(replace(run, kind="CelebA"), labels)


def test_drawn_faces_are_found_in_the_cache_folder(model, tmp_path, monkeypatch):
    "If they are those that it was trained on; else the page says how to show them."
    monkeypatch.setenv("CELEBA_NB_CACHE", str(tmp_path))
    make_sketch(tmp_path / "sketch-0", 8, 4, 4, progress=False)
    (tmp_path / "sketch-1").mkdir()
    without = write_report(model, tmp_path / "page.html").read_text()
    assert "Answered best" not in without and "<code>--root</code>" in without and "<code>--root</code>" not in make_page(
        replace(load(model), kind="CelebA"), "x")
    shutil.rmtree(tmp_path / "sketch-1")
    shutil.copytree(model.parent / "faces", tmp_path / "sketch-1")
    found = write_report(model, tmp_path / "page.html").read_text()
    assert found == make_page(load(model), model.resolve().name, read_celeba(model.parent / "faces")) and "Answered best" in found
    assert find_drawn(replace(load(model), kind="CelebA")) is None


def test_ticks_are_whole(model):
    "There is no epoch 1.5, and accuracies that hardly differ have ticks at points; gaps of nothing have them, too."
    for low, high in ((84.1, 87.4), (84.1, 84.7), (84.0, 84.0), (50, 90)):
        chart = line_chart({"a": ([1, 2], [low, high])}, "epoch", "accuracy, %", "x" * 30, whole=True)
        ticks = re.findall(r">([\d.−]+)</text>", chart)
        assert ticks[:2] == ["1", "2"] and len(ticks) >= 4 and all(tick.isdecimal() for tick in ticks), ticks
    for n in (1, 2, 3, 7):
        ticks = re.findall(r">([\d.−]+)</text>", line_chart({"a": (range(1, n + 1), [0.5] * n)}, "epoch", "", "x" * 30))
        assert set(ticks) & {"1", "2"} and not any(re.search(r"[1-9]\.\d", tick) for tick in ticks), ticks
    nothing = gap_chart(pd.DataFrame(dict.fromkeys(["gap", "low", "high"], [0.0]), ["Bald"]), "points", "x" * 30)
    assert re.findall(r">([\d.−]+)</text>", nothing) == ["−1", "0", "1"]


def test_the_same_run_gives_the_same_page(model, page):
    assert make_page(load(model), model.resolve().name) == page.read_text()
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        _TEMPLATES.get_template("report.html.jinja").render(name="x")


def test_out_is_no_folder(model, tmp_path):
    with pytest.raises(TrainingError, match="is a folder: give a file, such as"):
        write_report(model, tmp_path)


def test_charts_escape_and_are_the_same_each_time():
    lines = {"a<b": ([1, 2, 3], [0.5, 0.4, 0.3]), "c": ([1, 2, 3], [0.6, 0.5, 0.5])}
    chart = line_chart(lines, "epoch", "R&D", 'it "falls" <b>')
    assert 'aria-label="it &#34;falls&#34; &lt;b&gt;"' in chart and "a&lt;b" in chart and "R&amp;D" in chart
    assert chart.startswith('<svg role="img"') and chart.rstrip().endswith("</svg>") and "metadata" not in chart
    assert chart == line_chart(lines, "epoch", "R&D", 'it "falls" <b>') and "nan" not in chart
    assert chart.count("var(--first, #0a58b0)") == chart.count("#0a58b0") > 0  # each colour can change in the dark
    assert set(re.findall(r"#[0-9a-f]{6}", chart)) <= set(re.findall(r"--\w+, (#[0-9a-f]{6})", chart)) | {"#ffffff"}
    assert chart.count("stroke-dasharray") == 2  # the second line and its sample in the legend


def test_clear_gaps_stand_out():
    gaps = pd.DataFrame({"gap": [0.1, -0.05], "low": [0.02, -0.2], "high": [0.2, 0.1]}, index=["Smiling", "Bald"])
    both, unclear = gap_chart(gaps, "points", "x" * 30), gap_chart(gaps[1:], "points", "x" * 30)
    assert "var(--bad" in both and "var(--bad" not in unclear and "Smiling" in both and "−" in both
    heights = [float(re.search(r'viewBox="0 0 360 ([\d.]+)"', chart)[1]) for chart in (both, unclear)]
    assert np.isclose(heights[0] - heights[1], 20)


def test_learning_charts_of_short_and_seldom_validated_runs(model):
    history = load(model).history
    for shown in (history, history.iloc[:1], history.mask(history["epoch"] < history["epoch"].max(), np.nan).assign(
            epoch=history["epoch"], train_loss=history["train_loss"])):
        charts = learning_charts(shown, 0.8)
        assert f"in {len(shown)} epochs" in charts["losses"] and "never looking: 80.0%" in charts["accuracies"]
        assert not any("nan" in chart for chart in charts.values())


def test_tables_agree_with_the_metrics(model):
    run, labels = load(model), read_celeba(model.parent / "faces")
    known, unknown = find_baselines(run, labels), find_baselines(run)
    p, y = run.predictions["test"], run.predictions["test_truth"]
    assert len(np.unique(unknown.identities)) == len(y) > len(np.unique(known.identities))
    table, by_attribute = metric_table(run, known), attribute_table(run, known)
    assert np.isclose(table.loc["Accuracy", "value"], run.metrics["test_accuracy"])
    assert np.isclose(table.loc["Accuracy", "baseline"], by_attribute["majority"].mean())
    assert np.allclose(by_attribute["gain"], by_attribute["accuracy"] - by_attribute["majority"])
    assert by_attribute["gain"].is_monotonic_decreasing and np.isclose(by_attribute["accuracy"].mean(), metrics.accuracy(p, y))
    assert ((by_attribute["low"] <= by_attribute["gain"]) & (by_attribute["gain"] <= by_attribute["high"])).all()
    for attribute in GROUPS:
        overall = group_report(run, known, attribute)["overall"]
        member, right = y[:, labels.attributes.columns.get_loc(attribute)], metrics.image_accuracy(p, y)
        assert np.allclose(overall[["first", "second"]].astype(float), [right[~member].mean(), right[member].mean()])


def test_rows_that_the_data_do_not_have(model):
    "Of a record that was changed on purpose, with a fitting digest."
    run, labels = load(model), read_celeba(model.parent / "faces")
    for row in (2**62, -1):
        wrong = replace(run, predictions=run.predictions | {"test_rows": np.full_like(run.predictions["test_rows"], row)})
        with pytest.raises(DataError, match="there is no row"):
            find_baselines(wrong, labels)


def test_metric_intervals_resample_groups():
    rng = np.random.default_rng(0)
    p, y, groups = rng.random((60, 4)), rng.random((60, 4)) > 0.5, np.repeat(np.arange(20), 3)
    low, high = metric_intervals({"accuracy": metrics.accuracy}, p, y, groups)["accuracy"]
    assert np.allclose((low, high), metrics.bootstrap_interval(metrics.image_accuracy(p, y), groups), atol=0.02)
    assert metric_intervals({"one": lambda p, y: 1.0}, p, y, groups, 3) == {"one": (1.0, 1.0)}


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
