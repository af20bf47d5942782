"""Pictures of the site's pages, to look at before and after a change: python -m tools.screenshots --help

Each page is taken on a desk's and a phone's screen, light and dark, from its top (or from PAGE#anchor) down.
Build the site first (make docs).
"""
import argparse
import functools
import gzip
import io
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.browser import CHROMIUM, MISSING
from tools.docs import BUILD

PAGES = ["index", "nbs/00_tour", "nbs/01_data", "nbs/02_model", "nbs/03_loop", "nbs/04_metrics", "nbs/05a_evidence",
         "nbs/11_explain", "nbs/internals/training", "docs/glossary", "CONTRIBUTING", "genindex"]
SCREENS = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
HIGH = 4  # screens of a page on one picture


@functools.cache
def packed(path):
    "A file's text, compressed."
    return gzip.compress(path.read_bytes())


class Quiet(SimpleHTTPRequestHandler):
    "Without a log; texts are compressed, and what was loaded is kept for a while, as hosts of static sites have it."

    def log_message(self, *args):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".css", ".js") or not path.is_file():
            return super().send_head()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed(path))))
        self.end_headers()
        return io.BytesIO(packed(path))


def serve(site):
    "A server of this machine for the site's folder: its address is `http://127.0.0.1:{server.server_port}`."
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def take(browser, address, name, out):
    "One page, on each screen and in each theme."
    path, _, anchor = name.partition("#")
    for screen, size in SCREENS.items():
        for scheme in ("light", "dark"):
            window = browser.new_context(viewport=size, color_scheme=scheme)
            page = window.new_page()
            page.goto(f"{address}/{path}.html", wait_until="load")
            page.evaluate("for (const image of document.images) image.loading = 'eager'")
            page.wait_for_function("[...document.images].every(image => image.complete)")
            top = page.evaluate("anchor => document.getElementById(anchor)?.offsetTop ?? 0", anchor)
            height = min(HIGH * size["height"], page.evaluate("document.documentElement.scrollHeight") - top)
            picture = out / f"{name.replace('/', '-').replace('#', '-')}_{screen}_{scheme}.png"
            page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": top, "width": size["width"], "height": height})
            window.close()


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("pages", metavar="PAGE", nargs="*", default=PAGES, help="as in nbs/03_loop or nbs/03_loop#recap")
    parser.add_argument("--site", type=Path, default=BUILD / "html", help="folder of the built site")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "celeba_nb_pages", help="of the pictures")
    args = parser.parse_args()
    if MISSING:
        parser.error(MISSING)
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    server = serve(args.site)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in args.pages:
            take(browser, f"http://127.0.0.1:{server.server_port}", name, args.out)
        browser.close()
    print(f"{len(args.pages)} pages, {2 * len(SCREENS) * len(args.pages)} pictures: {args.out}")


if __name__ == "__main__":
    main()
