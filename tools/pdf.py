"""The course as one PDF, printed by Chromium from the site (make pdf): the lessons in their order, with an outline.

Answers, hints and solutions stay folded, as they are on the site: they are for after the attempt.
"""
import argparse
from pathlib import Path

from tools.browser import CHROMIUM, MISSING
from tools.docs import BUILD
from tools.notebooks import PYPROJECT, is_internal, name_of, notebooks
from tools.screenshots import serve

SITE = PYPROJECT["project"]["urls"]["Documentation"]
# All lessons in one page, each from the top of a sheet. A link to another page leads to the public site.
GATHER = """async ([names, site]) => {
    const articles = await Promise.all(names.map(async name => {
        const address = new URL(`nbs/${name}.html`, location.href);
        const page = new DOMParser().parseFromString(await (await fetch(address)).text(), "text/html");
        for (const image of page.images) image.src = new URL(image.getAttribute("src"), address), image.loading = "eager";
        for (const link of page.querySelectorAll("article a[href]"))
            link.href = new URL(link.getAttribute("href"), address).href.replace(new URL(".", location.href).href, site);
        return page.querySelector("article");
    }));
    document.body.replaceChildren(...articles);
    await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
}"""
PRINT = """
    @page { size: A4; margin: 18mm 16mm; }
    body { font-size: 10pt; background: none; }
    article { break-before: page; padding: 0; }
    article:first-child { break-before: auto; }
    .headerlink, .copybtn, .demo { display: none; }
    h1, h2, h3 { break-after: avoid; }
    .cell_output, img, tr { break-inside: avoid; }
    .cell_output, .table-wrapper { overflow: visible; mask-image: none !important; }
    .cell_output img { max-width: 100% !important; height: auto; }
"""


def print_pdf(browser, address, names, file):
    "Print these lessons of a site that is served at an address."
    page = browser.new_page(color_scheme="light")
    page.goto(f"{address}/")
    page.evaluate(GATHER, [names, f"{SITE}/"])
    page.add_style_tag(content=PRINT)
    page.pdf(path=file, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
    page.close()


def main():
    parser = argparse.ArgumentParser(prog="make pdf", description=__doc__)
    parser.add_argument("--site", type=Path, default=BUILD / "html", help="folder of the built site (make docs)")
    parser.add_argument("--out", type=Path, default=BUILD / "celeba_nb.pdf", help="the PDF")
    args = parser.parse_args()
    if MISSING:
        parser.error(MISSING)
    if not (args.site / "index.html").is_file():
        parser.error(f"{args.site}: there is no site here; build it first (make docs)")
    from playwright.sync_api import sync_playwright

    server, lessons = serve(args.site), [name_of(path) for path in notebooks() if not is_internal(path)]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        print_pdf(browser, f"http://127.0.0.1:{server.server_port}", lessons, args.out)
        browser.close()
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
