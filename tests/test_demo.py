"""The site's demo, in the browser: its network answers as PyTorch does, and each part answers at once."""
import json
import re
import shutil

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt

from celeba_nb.core import ATTRIBUTES
from tools import demo, docs, runtime
from tools.notebooks import ROOT
from tools.screenshots import serve

FACTS = json.loads((demo.FOLDER / "demo.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
GLASSES = ATTRIBUTES.index("Eyeglasses")
needs_runtime = pytest.mark.skipif(not runtime.FOLDER.exists(), reason="onnxruntime-web is missing: python -m tools.runtime")


# What is committed.


@pytest.mark.parametrize(("person", "number"), [(0, 0), (1, 1), (2, 255), (3, 84)])
def test_faces_are_those_that_the_package_draws(person, number):
    drawn, saved = (np.asarray(image, dtype=int) for image in
                    (demo.tile(demo.people()[person], number), demo.saved_tile(person, number)))
    assert np.abs(drawn - saved).mean() < 4  # WebP loses a little; another face or combination differs by far more


def test_weights_are_small_and_have_learned_something():
    sizes = [path.stat().st_size for path in demo.FOLDER.iterdir()]
    assert max(sizes) <= 500_000 and sum(sizes) <= 3_000_000
    assert FACTS["accuracy"] > FACTS["never_looking"] + 0.05


def test_rates_are_those_of_the_test_faces():
    found, false, positives = (np.array(FACTS[name]) for name in ("found", "false", "positives"))
    assert found.shape == false.shape == (40, 101)
    assert (np.diff(found) <= 0).all() and (np.diff(false) <= 0).all() and (found[:, 0] <= positives).all()
    right = found[:, 50] + FACTS["faces"] - positives - false[:, 50]
    assert np.isclose(right.sum() / (40 * FACTS["faces"]), FACTS["accuracy"])


def test_glasses_are_found_as_often_in_the_text_as_in_the_tables():
    assert FACTS["covering"]["before"]["yes"] == FACTS["found"][GLASSES][50]
    assert FACTS["covering"]["faces"] == FACTS["positives"][GLASSES]


def test_onnxruntime_gives_what_pytorch_gave():
    onnxruntime = pytest.importorskip("onnxruntime")
    image = torch.from_numpy(np.array(demo.saved_tile(0, 1))).permute(2, 0, 1)
    session = onnxruntime.InferenceSession(demo.FOLDER / "network.onnx", providers=["CPUExecutionProvider"])
    (p,) = session.run(None, {"pixels": demo.resize(image, 64)[None].numpy()})
    assert np.abs(p[0] - FACTS["asked"]).max() < 1e-4


def test_prose_says_what_was_measured():
    covering = FACTS["covering"]
    told = [FACTS["accuracy"], FACTS["never_looking"], *[covering[name]["mean"] for name in ("before", "covered", "below")]]
    for number in [*[f"{share:.0%}" for share in told[2:]], *[f"{share:.1%}" for share in told[:2]], str(covering["faces"]),
                   *[str(covering[name]["yes"]) for name in ("before", "covered", "below")]]:
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]\d)", PAGE), number


# The page, without the theme and the lessons: tests/test_site.py looks at it among the others.


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A site of the demo's page alone."
    out = tmp_path_factory.mktemp("demo")
    (out / "docs").mkdir()
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    for name, text in {"demo": docs.demo(PAGE), "without_runtime": PAGE}.items():
        (out / "docs" / f"{name}.html").write_text(head + MarkdownIt("commonmark").render(text), encoding="utf-8")
    for picture in (ROOT / "docs").glob("demo*.png"):
        shutil.copy2(picture, out / "docs")
    shutil.copytree(docs.DRAWINGS, out / "nbs" / docs.DRAWINGS.name)
    shutil.copytree(demo.FOLDER, out / "_static" / "demo")
    docs.add_runtime(out)
    return out


@pytest.fixture(scope="module")
def page(site, browser):
    "The demo's page, which asks for nothing outside this machine and reports no error."
    server = serve(site)
    address, wrong = f"http://127.0.0.1:{server.server_port}", []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((address, "data:", "blob:")) else wrong.append(request.url))
    page.goto(f"{address}/docs/demo.html")
    page.locator("[data-demo=heaps] .demo-scores").wait_for()
    yield page
    page.close()
    server.shutdown()
    assert not wrong, "\n".join(wrong)


def call(page, module, expression):
    "What an expression gives in the browser, with a module of the demo as `m`; promises are kept."
    return page.evaluate(f"async facts => {{ const m = await import('/_static/demo/{module}.js'); return {expression}; }}", FACTS)


def status(page, part):
    "The line that a screen reader reads, once it has settled."
    page.wait_for_timeout(200)
    return page.locator(f"[data-demo={part}] [role=status]").inner_text()


def test_kernel_is_a_convolution(page):
    weights = [-1, 0, 1, -2, 0, 2, -1, 0, 1]
    side, pixels = FACTS["kernel_face"]["side"], torch.tensor(FACTS["kernel_face"]["pixels"]) / 255
    theirs = call(page, "kernel", f"m.convolve(facts.kernel_face.pixels.map(byte => byte / 255), {side}, {weights})")
    ours = torch.nn.functional.conv2d(pixels.view(1, 1, side, side), torch.tensor(weights).float().view(1, 1, 3, 3))
    assert np.allclose(theirs, ours.ravel(), atol=1e-5)


def test_kernel_moves_by_keyboard(page):
    before = status(page, "kernel")
    page.get_by_label("column").press("ArrowRight")
    after = status(page, "kernel")
    assert after != before and re.fullmatch(r"vertical edges, column 9, row 11: the nine products add up to −?\d\.\d\d\.", after)
    cells = page.locator("[data-demo=kernel] .demo-nine").nth(2).locator("td").all_inner_texts()
    total = sum(float(text.replace("−", "-")) for text in cells)
    assert abs(total - float(re.search(r"up to (.*)\.$", after)[1].replace("−", "-"))) < 0.05  # each is rounded


def test_kernel_runs_and_nothing_else_moves(page):
    place = page.locator("[data-demo=kernel]")
    shown, button = place.locator("[aria-hidden]"), place.get_by_role("button")
    read, before = status(page, "kernel"), button.bounding_box()
    button.click()
    page.wait_for_function("[...document.querySelectorAll('[data-demo=kernel] output')][1].value === '3'")
    assert re.search(r"column \d+, row \d", shown.inner_text())[0] != re.search(r"column \d+, row \d+", read)[0]
    assert button.inner_text() == "Stop" and button.bounding_box() == before
    assert place.locator("[role=status]").inner_text() == read  # nobody wants to hear each step
    button.click()
    assert status(page, "kernel") == shown.inner_text() != read


@pytest.mark.parametrize(("lr", "said"), [("0.5", "Too slow"), ("4", "It has arrived"), ("14", "Too fast")])
def test_valley_answers_a_learning_rate(page, lr, said):
    page.get_by_label("learning rate").fill(lr)
    assert said in status(page, "valley")
    b, share = torch.tensor(3.0, requires_grad=True), torch.tensor(FACTS["smiles"])
    for _ in range(12):
        torch.nn.functional.binary_cross_entropy_with_logits(b, share).backward()
        b = (b - float(lr) * b.grad).detach().requires_grad_()
    assert abs(call(page, "valley", f"m.descend({lr}, facts.smiles).at(-1)") - b.item()) < 1e-3


def test_heaps_hold_all_faces_and_a_threshold_moves(page):
    total = call(page, "heaps", f"m.bins(Object.assign([...facts.found[{GLASSES}]], {{ total: facts.positives[{GLASSES}] }}))")
    assert sum(total) == FACTS["positives"][GLASSES] and min(total) >= 0
    place = page.locator("[data-demo=heaps]")
    place.get_by_label("threshold").fill("20")
    recall, negatives = FACTS["found"][GLASSES][20] / FACTS["positives"][GLASSES], FACTS["faces"] - FACTS["positives"][GLASSES]
    assert f"yes above 20%: {recall:.0%} of the" in status(page, "heaps")
    assert place.locator(".demo-scores td").first.inner_text() == f"{recall:.0%}"
    place.get_by_label("threshold").fill("50")
    assert place.locator(".demo-scores td").nth(1).inner_text() == f"{FACTS['false'][GLASSES][50] / negatives:.1%}" == "0.1%"
    label, plot = (place.locator(part).bounding_box() for part in ("text >> text='100%'", "svg"))
    assert label["x"] + label["width"] <= plot["x"] + plot["width"]  # the edge cuts nothing off


@pytest.mark.parametrize("how", ["as a file", "without JavaScript"])
def test_pictures_stay_where_nothing_can_run(how, site, page, browser):
    address = f"file://{site}/docs/demo.html" if how == "as a file" else page.url
    other = browser.new_context(java_script_enabled=how == "as a file").new_page()
    other.goto(address)
    assert other.locator("[data-demo] img:visible").count() == 4
    assert other.get_by_text("You see pictures on this page instead of the demo?").is_visible()
    other.context.close()


def test_without_the_runtime_the_other_parts_work(page, browser):
    other = browser.new_page()
    other.goto(page.url.replace("demo.html", "without_runtime.html"))
    other.locator("[data-demo=heaps] .demo-scores").wait_for()
    assert other.locator("[data-demo] img:visible").count() == 1
    assert other.get_by_text("the network can't answer here").is_visible()
    other.close()


# With the network.


ASK = """await (async () => {
    const image = new Image();
    image.src = `/_static/demo/${facts.people[0].file}_0.webp`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = facts.size;
    const pen = canvas.getContext("2d");
    pen.drawImage(image, facts.size[0], 0, ...facts.size, 0, 0, ...facts.size);  // number 1: glasses
    const { squeeze } = await import("/_static/demo/pixels.js");
    const planes = squeeze(pen.getImageData(0, 0, ...facts.size), 64);
    return [[...planes], [...await (await m.loadNetwork(64))(planes)]];
})()"""


@needs_runtime
def test_browser_answers_as_pytorch_does(page):
    planes, p = call(page, "network", ASK)
    ours = demo.resize(torch.from_numpy(np.array(demo.saved_tile(0, 1))).permute(2, 0, 1), 64)
    assert np.abs(np.array(planes) - ours.numpy().ravel().astype(int)).max() <= 1
    assert np.abs(np.array(p) - FACTS["asked"]).max() < 1e-3


@pytest.fixture
def face(page):
    "The face, its network awake, nothing painted."
    place = page.locator("[data-demo=face]")
    if (start := place.get_by_role("button", name="Start the demo")).is_visible():
        start.click()
    place.get_by_role("cell", name="%").first.wait_for()
    place.get_by_role("button", name="Wipe it off").click()
    return place


def answer(face, name="Eyeglasses"):
    "The answer about an attribute, in percent."
    return int(re.match(r"\d+", face.get_by_role("row", name=name).locator("td").nth(1).inner_text())[0])


@needs_runtime
def test_cover_the_glasses(page, face):
    face.get_by_label("Eyeglasses").check()
    page.wait_for_timeout(300)
    before = answer(face)
    assert before > 80
    seconds = page.evaluate("""async () => {
        const rows = [...document.querySelectorAll(".demo-answers tr")];
        const cell = rows.find(row => row.innerText.startsWith("Eyeglasses")).cells[2];
        const began = performance.now(), text = cell.textContent;
        [...document.querySelectorAll("button")].find(button => button.textContent === "Cover the glasses").click();
        while (cell.textContent === text) await new Promise(requestAnimationFrame);
        return (performance.now() - began) / 1000;
    }""")
    assert seconds < 1
    for name in ("Eyeglasses", "Wearing Lipstick"):  # docs/demo.png shows the same
        assert abs(answer(face, name) - 100 * FACTS["asked_covered"][ATTRIBUTES.index(name.replace(" ", "_"))]) < 1
    assert face.get_by_role("row", name=re.compile("Eyeglasses .* no wrong")).is_visible()
    assert re.search(rf"The paint changes most: .*Eyeglasses {before}% → {answer(face)}%", status(page, "face"))


@needs_runtime
def test_a_phone_shows_the_button_that_covers_the_glasses_at_once(page, browser):
    other = browser.new_page(viewport={"width": 390, "height": 844})
    other.goto(page.url)
    other.get_by_role("button", name="Start the demo").click()
    cover = other.get_by_role("button", name="Cover the glasses").bounding_box()
    assert 0 < cover["y"] < 844 - cover["height"]
    other.close()


@needs_runtime
def test_paint_by_mouse_and_by_keyboard(page, face):
    canvas, painted = face.get_by_role("application"), face.locator(".demo-track.painted")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 110, steps=4)
    page.mouse.up()
    painted.first.wait_for()
    canvas.press("Delete")
    painted.first.wait_for(state="detached")
    canvas.press("ArrowUp")
    canvas.press("Space")
    painted.first.wait_for()


@needs_runtime
def test_threshold_moves_bars_and_rates(page, face):
    face.get_by_label("threshold").fill("10")
    found = face.get_by_role("row", name="Eyeglasses").locator("td").nth(2).inner_text()
    assert found == f"{FACTS['found'][GLASSES][10] / FACTS['positives'][GLASSES]:.0%}"
    assert "of 40 questions" in status(page, "face")
    face.get_by_label("threshold").fill("50")


def test_without_the_runtime_the_page_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(runtime, "FOLDER", tmp_path / "none")
    monkeypatch.setattr(runtime, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runtime.fetch.__wrapped__() is None
    assert re.fullmatch(r"The demo's network will not answer: .*Install npm.*\n", capsys.readouterr().out)


def test_another_archive_is_refused(tmp_path):
    (tmp_path / "other.tgz").write_bytes(b"something else")
    with pytest.raises(OSError, match="its hash differs"):
        runtime.unpack(tmp_path / "other.tgz", tmp_path / "files")
