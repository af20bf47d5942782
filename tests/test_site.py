"""The site, as a reader finds it: built by `make docs`, opened in a browser, at a desk, in the dark and on a phone."""
import base64
import importlib
import inspect
import io
import os
import re
import subprocess
import sys
from contextlib import ExitStack, closing
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import numpy as np
import pytest
from PIL import Image

from celeba_nb.style import GREY
from tools import docs
from tools.cards import CARDS, SIZE, WIDTH
from tools.notebooks import PACKAGE, ROOT, copy_project, modules, name_of, notebooks, run
from tools.pdf import SITE, print_pdf
from tools.screenshots import serve

COURSE = [f"nbs/{name_of(path)}.html" for path in notebooks()]
MODULES = [*modules()]
API = ["api/index.html", *(f"api/{module}.html" for module in MODULES)]
OTHERS = ["index.html", *COURSE, *(f"{name}.html" for name in docs.BESIDE), "genindex.html", "search.html"]
PAGES = [*OTHERS, *API]
LOOKED_AT = [*OTHERS, "api/index.html", "api/study.html", "api/layers.html"]  # in the browser: all others of api/ are like these
on_pages = pytest.mark.parametrize("name", PAGES)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def build(out):
    "What `make docs` runs: (exit code, what it printed)."
    done = subprocess.run([sys.executable, "-m", "tools.docs", "--out", out], cwd=ROOT, text=True, timeout=600,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the built site."
    out = tmp_path_factory.mktemp("site")
    code, printed = build(out)
    assert code == 0, printed
    return out / "html"


def test_nbdev_gets_as_far_as_quarto(tmp_path, small):
    "What `nbdev-docs` does before it calls Quarto: it runs the cells that import something, and documents each name."
    tree = copy_project(tmp_path / "tree")
    code = ("import os; from nbdev.serve import proc_nbs; print(proc_nbs('nbs', n_workers=0), flush=True)"  # no forks of PyTorch
            "; os._exit(0)")  # to end its 54 shells takes IPython as long as all else
    done, printed = run([sys.executable, "-c", code], tree, {"PYTHONPATH": str(tree), "CELEBA_ROOT": str(small)}, timeout=300)
    assert done, printed
    assert all((tree / "_proc" / f"{name_of(path)}.ipynb").exists() for path in notebooks())


class Page(HTMLParser):
    "What a page links to, what can be linked to, its pictures, and the pages before and after it."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.pictures, self.beside = [], {"", "top"}, [], {}
        self.feed(re.sub(r'<span class="\w+">|</span>', "", path.read_text(encoding="utf-8")))  # most are colours of code

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id", ""))
        if tag == "img":
            self.pictures.append(given)
        if tag == "a" and given.get("class") in ("next-page", "prev-page"):
            self.beside[given["class"]] = given["href"]
        for name in ("href", "src"):
            if name in given:
                self.links.append(given[name])


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_pages_are_the_notebooks(pages):
    assert set(pages) == set(PAGES)


def test_course_is_read_in_order(pages):
    first, rest = [path for path in COURSE if "internals" not in path], [path for path in COURSE if "internals" in path]
    order = [*first, "docs/demo.html", *rest]
    for before, after in zip(["index.html", *order], order):
        assert urljoin(before, pages[before].beside["next-page"]) == after
        assert urljoin(after, pages[after].beside["prev-page"]) == before


@on_pages
def test_links_lead_somewhere(name, pages, site):
    broken = []
    for link in pages[name].links:
        if urlsplit(link).scheme or link.startswith("//"):
            assert urlsplit(link).scheme in ("https", "data", "mailto"), link
            continue
        path, anchor = urldefrag(unquote(urljoin(name, re.sub(r"\?v=\w+", "", link))))
        if not (site / path).is_file() or (path in pages and anchor not in pages[path].anchors):
            broken.append(link)
    assert not broken


@on_pages
def test_pictures_have_words(name, pages):
    for picture in pages[name].pictures:
        assert len(picture.get("alt", "").split()) >= 2, picture
        assert not re.search(r"_images/|\.png|[*`]|\]\(", picture["alt"]), picture["alt"]


@pytest.fixture(scope="module")
def modules():
    "The modules of the package, imported."
    return {module: importlib.import_module(f"{PACKAGE}.{module}") for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_each_exported_name_is_documented(module, pages, modules):
    exported = {name for name in modules[module].__all__ if not name.startswith("_")}
    names = {f"{PACKAGE}.{module}.{name}" for name in exported}
    assert not names - pages[f"api/{module}.html"].anchors


def test_a_module_has_a_line_for_each_name_and_the_parameters_folded(site):
    text = (site / "api" / "loop.html").read_text(encoding="utf-8")
    assert re.search(r'<td>.*?#celeba_nb.loop.bce".*?</td>\s*<td><p>Compute the binary cross-entropy', text)
    after = text[text.index('id="celeba_nb.loop.bce"') : text.index('id="celeba_nb.loop.train_step"')]
    folded = re.search(r"<details><summary>Parameters</summary>(.*?)</details>", after, re.S)[1]
    assert "in [-1, 1]" in folded and "the mean over images and attributes" in folded
    assert "<details open" not in text
    assert "<code" in folded and "returns" in folded and "-&gt;" not in folded


@pytest.mark.parametrize("name", API)
def test_no_page_shows_a_memory_address_or_only_the_type_of_a_constant(name, site):
    text = re.sub(r"<[^>]+>", "", (site / name).read_text(encoding="utf-8"))
    assert not re.findall(r".*(?:0x7f| at 0x).*", text) and not re.findall(r"^An? \w+\.$", text, re.M)


def test_a_constant_has_its_comment_and_its_value_or_source(site):
    text = re.sub(r"<[^>]+>", "", (site / "api" / "audit.html").read_text(encoding="utf-8"))
    assert text.count("In a group; with fewer, no gap is given.\n") == 2  # in the list of names, and below the name
    assert re.search(r"MIN_CASES.*\nIn a group;.*\n10\n", text)
    text = re.sub(r"<[^>]+>", "", (site / "api" / "options.html").read_text(encoding="utf-8"))
    assert "The folder to write." in text and "alias of" not in text
    text = re.sub(r"<[^>]+>", "", (site / "api" / "study.html").read_text(encoding="utf-8"))
    assert re.search(r"Source of PAPER\s*PAPER = pd.DataFrame", text)


def test_a_named_tuple_has_its_fields(site):
    text = (site / "api" / "layers.html").read_text(encoding="utf-8")
    after = text[text.index('id="celeba_nb.layers.ReceptiveField"') :].split("Source of")[0]
    assert "pixels between the fields of neighbouring units" in after and "kwargs" not in after


@pytest.mark.parametrize("module", MODULES)
def test_parameters_are_explained_and_the_source_is_that_of_the_name(module, site, modules):
    text = (site / "api" / f"{module}.html").read_text(encoding="utf-8")
    assert not re.search(r"<td>\s*(<p>\s*</p>)?\s*</td>", text.partition("<dl")[2]), "an empty cell"
    folds = re.findall(r"<summary>Source of ([\w.]+)</summary>(.*?)</details>", text, re.S)
    for name, shown in folds:
        code = re.sub(r"<[^>]+>", "", shown)
        assert re.search(rf"^ *(async )?(def|class) {name.split('.')[-1]}\b|^{name} = ", code, re.M), name
    defined = {name for name in modules[module].__all__ if not name.startswith("_")
               and (inspect.isclass(value := getattr(modules[module], name)) or inspect.isfunction(value))}
    assert defined <= {name for name, _ in folds}


def test_a_name_in_the_prose_leads_to_its_definition(site):
    text = (site / "nbs" / "01_data.html").read_text(encoding="utf-8")
    assert re.search(r'<a [^>]*href="../api/data.html#celeba_nb.data.find_root"[^>]*><code', text)


def test_a_term_says_what_it_is(site):
    text = (site / "nbs" / "03_loop.html").read_text(encoding="utf-8")
    assert re.search(r'<a [^>]*glossary.html#gradient"[^>]* title="how much one number changes[^"()]*"', text)


@on_pages
def test_other_sites_can_describe_a_page(name, site):
    text = (site / name).read_text(encoding="utf-8")
    assert len(re.search(r'<meta name="description" content="([^"]*)"', text)[1].split()) > 3
    for file in (re.search(r'property="og:image" content="https://[^"]*/(_static/[^"]*)"', text)[1], "_static/logo.png"):
        assert (site / file).stat().st_size < 200_000
    assert 'rel="icon"' in text


def test_a_formula_needs_no_script(site):
    text = (site / "nbs" / "03_loop.html").read_text(encoding="utf-8")
    assert "<math" in text and not re.search("<script[^>]*(mathjax|katex)", text, re.I)


def test_nothing_of_nbdev_or_quarto_is_left(site):
    for path in (site / "nbs").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for left in ("AUTOGENERATED", "show_doc(", "skip_showdoc", "code-fold", ":::", "{target=", "#| ", "{py:",
                     "–root"):
            assert left not in re.sub(r"<[^>]+>", "", text), f"{path.name}: {left}"


# In the browser.


@pytest.fixture(scope="module")
def address(site):
    "The site on this machine's own server."
    server = serve(site)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def window(browser, address):
    "Opens a window, which notes what goes wrong in it."
    def open_window(**options):
        page = browser.new_page(**{"viewport": DESK, **options})
        page.wrong = []
        page.on("console", lambda said: page.wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("requestfailed", lambda request: None if request.failure == "net::ERR_ABORTED"  # the page was left before
                else page.wrong.append(f"failed: {request.url}"))
        page.on("request", lambda request: None if request.url.startswith((address, "data:"))
                else page.wrong.append(f"asked elsewhere: {request.url}"))
        return page

    return open_window


@pytest.fixture(scope="module")
def one_window(window):
    "A window for one page after the other: to open one for each takes a second, and all styles and scripts are loaded anew."
    return window()


@pytest.fixture
def desk(one_window):
    "That window, as wide as a desk's screen and light."
    one_window.set_viewport_size(DESK)
    one_window.emulate_media(color_scheme="light")
    return one_window


@pytest.fixture(scope="module")
def axe():
    "The script of axe-core."
    found = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    return found.Axe().axe_script + SERIOUS


@pytest.fixture
def visit(window, address):
    "Opens a page in a window of its own, or in a given one; what goes wrong there fails the test."
    visited = []

    with ExitStack() as opened:
        def open_page(name, page=None, **options):
            page = page or opened.enter_context(closing(window(**options)))
            visited.append(page)
            page.wrong.clear()
            page.goto(f"{address}/{name}", wait_until="load")
            return page

        yield open_page
    wrong = [fault for page in visited for fault in page.wrong]
    assert not wrong, "\n".join(wrong)


# A rule's impact is that of all its faults: those that `check` would not tell of aren't looked for, which halves the time.
SERIOUS = "; axe._audit.rules.forEach(rule => { rule.enabled &&= ['serious', 'critical'].includes(rule.impact) })"
OPEN_FOLDS = """() => {
    document.querySelectorAll("details").forEach(fold => fold.open = true);
    document.getAnimations().forEach(move => move.finish());  // a fold fades in
}"""
COLOURS = ["color-contrast", "link-in-text-block"]
# Colours take axe minutes a page, so it looks at three of each kind on the site: same tags, classes and styles on the way up,
# but for sections and lines of code, which have no colours. All others are taken out, from the leaves up; the window remembers.
# A place where a line may break has no colour either: with one inside, no line would be a leaf.
THREE_OF_A_KIND = """nodes => {
    document.querySelectorAll("wbr").forEach(node => node.remove());
    const seen = JSON.parse(sessionStorage.seen ?? "{}");
    const kind = node => node.matches("body") ? "" : kind(node.parentElement) +
        (node.matches("section, .line") ? "" : `>${node.tagName}.${node.className} ${node.getAttribute("style")}`);
    for (const node of [...document.querySelectorAll(nodes)].reverse()) {
        const name = kind(node);
        if (node.children.length || !(seen[name] >= 3)) seen[name] = (seen[name] ?? 0) + 1;
        else node.replaceWith(node.matches("span") ? node.textContent : "");
    }
    sessionStorage.seen = JSON.stringify(seen);
}"""


def check(page, **options):
    "axe-core finds nothing serious or critical on a page."
    found = page.evaluate("options => axe.run(options)", {"resultTypes": ["violations"], **options})["violations"]
    faults = [f"{fault['help']}: {[node['html'][:200] for node in fault['nodes'][:3]]}"
              for fault in found if fault["impact"] in ("serious", "critical")]
    assert not faults, "\n".join(faults)


SMALL = """() => {
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), small = new Set();
    while (words.nextNode()) {
        const place = words.currentNode.parentElement, size = parseFloat(getComputedStyle(place).fontSize);
        if (words.currentNode.textContent.trim() && size > 0 && size < 12 && place.checkVisibility({ visibilityProperty: true }))
            small.add(`${size} px: ${place.outerHTML.slice(0, 100)}`);
    }
    return [...small];
}"""
CUT = """() => [...document.querySelectorAll("div.cell_input pre, details div.highlight pre, .cell_output pre")]
    .filter(code => !code.matches(".cell_output :has(.column)"))
    .filter(code => code.scrollWidth > code.clientWidth).map(code => code.textContent.slice(0, 100))"""


@pytest.mark.parametrize("name", LOOKED_AT)
def test_page(name, visit, desk, axe):
    page = visit(name, desk)
    assert PACKAGE in page.title()
    empty = "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
    assert page.evaluate(empty) == []
    page.evaluate(OPEN_FOLDS)
    page.evaluate(axe)
    assert page.evaluate(CUT) == []
    page.set_viewport_size(PHONE)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"{width} pixels wide on a phone"
    assert page.evaluate(CUT) == page.evaluate(SMALL) == []
    page.evaluate(THREE_OF_A_KIND, "pre span:not(.line)")  # these are nothing but coloured
    check(page, runOnly=["scrollable-region-focusable"])
    page.set_viewport_size(DESK)
    check(page, rules={rule: {"enabled": False} for rule in COLOURS})
    page.evaluate(THREE_OF_A_KIND, "body *:not(.line *)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        check(page, runOnly=COLOURS)


@pytest.mark.parametrize(("words", "place"), [
    ("AttributeCNN", "api/model.html#celeba_nb.model.AttributeCNN"),
    ("confidence interval", "docs/glossary.html#interval"),
    ("covered glasses", "docs/demo.html#demo-cover-the-glasses"),
    ("install", "index.html#install-and-run"),
    ("overfitting", "docs/glossary.html#overfitting"),
    ("sign-flip test", "nbs/05a_evidence.html#could-it-be-chance-the-sign-flip-test"),
])
def test_search_leads_to_the_section(words, place, visit, desk):
    page = visit("index.html", desk)
    page.fill("input[name=q]", words)
    page.press("input[name=q]", "Enter")
    found = page.locator(f"#search-results li:first-child a[href$='{place}']")
    found.wait_for()
    page.wait_for_load_state("networkidle")  # the search also fetches what it shows of each page
    found.click()
    page.wait_for_url(f"**/{place}")
    assert page.locator(f"[id='{place.partition('#')[2]}']").is_visible()


def test_a_term_is_shown_to_the_pointer_and_to_the_keyboard(visit):
    page = visit("nbs/03_loop.html")
    link, term = page.locator("a[data-term]").first, page.get_by_role("tooltip")
    link.hover()
    assert len(term.inner_text().split()) > 5
    page.keyboard.press("Escape")
    assert not term.is_visible()
    link.focus()
    assert term.is_visible() and link.get_attribute("aria-describedby") == "term"
    link.blur()
    term.wait_for(state="hidden")


def test_a_finger_opens_a_term_and_sees_that_a_table_goes_on(visit):
    page = visit("nbs/04_metrics.html", viewport=PHONE, has_touch=True)
    page.locator("article a[data-term]").first.tap()
    link = page.get_by_role("tooltip").get_by_role("link")
    assert link.inner_text() == "Open the glossary →" and page.url.endswith("04_metrics.html")
    assert link.bounding_box()["height"] >= 44
    page.goto(page.url.replace("nbs/04_metrics", "nbs/05a_evidence"))
    table = page.locator(".cell_output .more:has(.column)").first
    to_the_end = "box => { box.scrollLeft = box.scrollWidth; return !box.classList.contains('more') }"
    page.wait_for_function(to_the_end, arg=table.element_handle())  # again, if the page wasn't laid out yet


def test_a_second_tap_follows_the_link_of_a_term(visit):
    page = visit("nbs/04_metrics.html", viewport=PHONE, has_touch=True)
    first, second = page.locator("article a[data-term]").all()[:2]
    for term in (first, second):
        term.tap()
        page.wait_for_function("link => link.matches('[aria-describedby=term]')", arg=term.element_handle())
        assert page.url.endswith("04_metrics.html")
    second.tap()
    page.wait_for_url("**/docs/glossary.html#*")


@pytest.mark.parametrize(("name", "viewport"),
                         [("01_data", PHONE), ("01_data", DESK), ("11_explain", PHONE), ("13_limits", DESK)])
def test_a_picture_keeps_its_size(name, viewport, visit):
    "It has two pixels for each of the page's, so that words in it have the points that a plot asks for."
    page = visit(f"nbs/{name}.html", viewport=viewport)
    pictures = page.locator(".cell_output img")
    pictures.evaluate_all("images => images.forEach(image => image.loading = 'eager')")
    page.wait_for_function("() => [...document.querySelectorAll('.cell_output img')].every(image => image.complete)")
    shares = pictures.evaluate_all("images => images.map(image => 2 * image.clientWidth / image.naturalWidth)")
    assert shares and min(shares) > 0.95
    row = page.locator(".cell_output:has(img)").first
    assert viewport == DESK or row.evaluate("box => box.scrollWidth > box.clientWidth")


def test_lessons_are_printed_as_one_pdf(browser, address, tmp_path):
    "With its outline and its pictures; no link leads to the server that printed it."
    sizes = []
    for names in (["00_tour"], ["00_tour", "01_data"]):
        print_pdf(browser, address, names, tmp_path / "course.pdf")
        printed = (tmp_path / "course.pdf").read_bytes()
        sizes.append(len(re.findall(rb"/Type\s*/Page\b", printed)))
    assert 5 < sizes[0] < sizes[1] and b"/Outlines" in printed and b"127.0.0.1" not in printed
    assert f"{SITE}/nbs/02_model.html".encode() in printed
    assert len(re.findall(rb"/Subtype\s*/Image", printed)) > 10


def test_the_home_page_says_how_to_get_the_course(site):
    text = re.sub("<[^>]+>", "", (site / "index.html").read_text(encoding="utf-8"))
    assert f"git clone {docs.REPOSITORY}\ncd celeba_nb\nmake lab" in text


@pytest.mark.parametrize("viewport", [PHONE, DESK])
def test_words_on_the_cards_are_legible(viewport, visit, desk):
    desk.set_viewport_size(viewport)
    page = visit("index.html", desk)
    shown = page.locator(".sd-card img[src$='.svg']").evaluate_all("images => images.map(image => image.clientWidth)")
    assert len(shown) == len(CARDS) and min(shown) * SIZE / WIDTH >= 12


def test_on_a_phone_lines_break_where_a_reader_expects(visit):
    "A long expression before a dot or after a parenthesis; not after the # of a comment; no formula loses its comma."
    page = visit("nbs/internals/training.html", viewport=PHONE)
    tops = """line => { const found = document.createTreeWalker(line, NodeFilter.SHOW_TEXT), tops = [];
        while (found.nextNode()) for (let i = 0; i < found.currentNode.length; i++) {
            const range = document.createRange();
            range.setStart(found.currentNode, i); range.setEnd(found.currentNode, i + 1);
            tops.push([found.currentNode.data[i], range.getBoundingClientRect().top]);
        } return tops; }"""
    line = page.locator(".line", has_text="before = torch.backends.cudnn.deterministic").first.evaluate(tops)
    rows = ["".join(char for char, top in line if top == each).strip() for each in sorted({top for _, top in line})]
    assert rows == ["before = torch.backends.cudnn", ".deterministic"]
    for comment in page.locator(".c1:has(.whole)").all():
        assert len({top for _, top in comment.locator(".whole").evaluate(tops)}) == 1
    text = (re.sub(r'<span class="whole">.*?</span>', "", formulas) for formulas in
            re.findall("<p>.*?</p>", page.request.get(page.url.replace("internals/training", "05a_evidence")).text(), re.S))
    assert not re.findall(r"</math>[,.;:)]|\(<math", "".join(text))


@pytest.mark.parametrize("name", ["nbs/03_loop", "nbs/internals/training"])
def test_code_is_copied_as_it_was_written(name, site, visit, desk):
    cells = [docs.source(cell) for cell in docs.read(ROOT / f"{name}.ipynb")["cells"] if cell["cell_type"] == "code"]
    boxes = visit(f"{name}.html", desk).locator(".cell_input pre")
    shown = boxes.evaluate_all("boxes => boxes.map(box => box.textContent.trim())")
    plain = {docs.DIRECTIVE.sub("", text).strip() for text in cells}
    assert len(plain & set(shown)) > 0.8 * len(shown)  # others are folded together


def test_pictures_of_lines_and_those_of_faces():
    "Only the first are made paler in the dark."
    lines, faces = Image.new("RGBA", (1000, 600)), Image.new("RGBA", (1000, 600))
    lines.paste((0, 114, 178, 255), (0, 0, 1000, 100))
    faces.paste(Image.effect_noise((1000, 100), 90).convert("RGBA"), (0, 0))
    faces.paste(Image.merge("RGBA", [*(Image.effect_noise((300, 100), 90) for _ in range(3)), Image.new("L", (300, 100), 255)]))
    assert docs.is_plot(lines) and not docs.is_plot(faces)


@pytest.mark.parametrize("kind", ["plot", ""])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_grey_of_pictures_has_contrast(kind, scheme, visit, desk):
    desk.emulate_media(color_scheme=scheme)
    page = visit("nbs/01_data.html", desk)
    grey = io.BytesIO()
    Image.new("RGB", (40, 40), GREY).save(grey, "PNG")
    picture = base64.b64encode(grey.getvalue()).decode()
    page.evaluate("""([source, kind]) => {
        const image = Object.assign(new Image(40, 40), { id: "grey", src: source, className: kind, alt: "a grey square" });
        document.querySelector(".cell_output").replaceChildren(image);
        return image.decode();
    }""", [f"data:image/png;base64,{picture}", kind])
    shown = Image.open(io.BytesIO(page.locator("#grey").screenshot())).convert("RGB").getpixel((20, 20))
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert contrast(shown, [int(part) for part in re.findall(r"\d+", ground)[:3]]) >= 4.5


def contrast(*colours):
    "Of two colours of three bytes (WCAG 2)."
    def linear(byte):
        return byte / 255 / 12.92 if byte <= 10 else ((byte / 255 + 0.055) / 1.055) ** 2.4

    dark, light = sorted(np.dot([linear(byte) for byte in rgb], [0.2126, 0.7152, 0.0722]) + 0.05 for rgb in colours)
    return light / dark


def test_what_was_printed_begins_at_the_top_of_its_box(visit, desk):
    page = visit("nbs/01_data.html", desk)
    box = page.locator(".cell_output", has=page.locator(".stream")).first
    assert box.locator("pre").bounding_box()["y"] - box.bounding_box()["y"] < 6


def test_an_option_is_not_broken_at_its_hyphens(visit, desk):
    desk.set_viewport_size(PHONE)
    options = visit("index.html", desk).locator("pre .whole")
    pieces = options.evaluate_all("words => words.map(word => word.getClientRects().length)")
    assert len(pieces) > 20 and set(pieces) == {1}


def test_a_module_in_the_index_leads_to_its_page(pages, site):
    text = (site / "genindex.html").read_text(encoding="utf-8")
    for module in MODULES:
        assert re.search(rf'<a href="api/{module}.html#module-[\w.]+">(<strong>)?{PACKAGE}\.{module} \(module\)', text)


def test_a_phone_has_room_for_fingers_and_no_empty_lines(visit):
    page = visit("index.html", viewport=PHONE)
    for button in page.locator(".mobile-header :is(label, button):visible").all():
        assert min(button.bounding_box()[side] for side in ("width", "height")) >= 44
    assert not page.locator("#how-fast td:not(:has(p)):visible").count()


def test_dark_is_dark(visit, desk):
    page, ground = visit("index.html", desk), "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert sum(map(int, re.findall(r"\d+", light)[:3])) > 700 > 100 > sum(map(int, re.findall(r"\d+", dark)[:3]))


# The checks must be able to fail.


@pytest.mark.parametrize(("text", "alt"), [
    ("#| fig-alt: \"A curve.\"\nplt.plot(x)", "A curve."),
    ("plt.plot(x)\nplt.gca().set(title='It falls', xlabel='step', ylabel='loss')", "It falls. x axis: step. y axis: loss"),
    ("show(faces, 8, 'Eight of a kind')", "Eight of a kind"),
    ("plt.plot(x)", "How it goes. Look at the end"),
    ("print('This is not on the picture')", "How it goes. Look at the end"),
])
def test_words_for_a_picture(text, alt):
    assert docs.alternative(text, "## How it goes\n\nIt `starts` high. Look at the *end*:", "How it goes") == alt


@pytest.mark.parametrize(("text", "changed"), [
    ("[there](https://example.org){target=\"_blank\"}", "[there](https://example.org)"),
    ("[how](../README.md#the-course)", "[how](/index.md#the-course)"),
    ("[02](02_model.ipynb)", "[02](02_model.ipynb)"),
    ("[numbers](results)", f"[numbers]({docs.REPOSITORY}/tree/{docs.BRANCH}/nbs/results)"),
])
def test_links_are_rewritten(text, changed):
    assert docs.rewrite_links(text, ROOT / "nbs") == changed


def test_folds_of_one_name_that_follow_each_other_are_one():
    for name in ("03_loop", "07_augment"):
        cells = docs.convert(ROOT / "nbs" / f"{name}.ipynb")["cells"]
        twice = [cell["source"] for before, cell in zip(cells, cells[1:]) if docs.name_of_fold(cell) and not before.get("outputs")
                 and docs.name_of_fold(cell) == docs.name_of_fold(before)]
        assert not twice


def test_a_letter_of_the_glossary_leads_to_its_first_term():
    text = docs.letters("# G\n\n- [**ab**]{#ab}: x\n- [**ac**]{#ac}: y\n- [**b**]{#b}: z\n")
    assert "\n[A](#ab) [B](#b)\n" in text
    assert re.findall(r"letter\n(.)\n:::\n\n- \[\*\*(\w+)", text) == [("A", "ab"), ("B", "b")]


def test_callouts():
    assert docs.callouts('::: {.callout-tip title="x"}\nSo.\n:::') == ":::{tip}\nSo.\n:::"


@pytest.mark.filterwarnings("ignore")  # of MyST about Sphinx
def test_a_dead_link_is_an_error(tmp_path):
    (tmp_path / "index.md").write_text("# Home\n\n[gone](gone.md) and {py:obj}`celeba_nb.gone`\n")
    assert docs.sphinx(tmp_path, tmp_path / "out") != 0
