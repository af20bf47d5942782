"""Lighthouse's scores of the built site's main pages: python -m tools.lighthouse --help

It needs node, and npm fetches Lighthouse (not in `make test`). Build the site first (make docs).
"""
import argparse
import json
import os
import subprocess
from pathlib import Path

from tools.browser import CHROMIUM
from tools.docs import BUILD
from tools.screenshots import serve

PAGES = ["index", "nbs/00_tour", "nbs/03_loop", "docs/demo"]
ASKED = ["performance", "accessibility", "best-practices", "seo"]


def scores(address, preset):
    "The four scores of a page, 0 to 100, and what costs points."
    command = ["npx", "--yes", "lighthouse", address, "--quiet", "--output=json", f"--only-categories={','.join(ASKED)}",
               "--chrome-flags=--headless --no-sandbox", *(["--preset=desktop"] if preset == "desktop" else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "CHROME_PATH": CHROMIUM}, timeout=600)
    report = json.loads(done.stdout)
    lost = [f"{name} {report['audits'][name].get('displayValue', '')}".strip() for category in report["categories"].values()
            for name in (part["id"] for part in category["auditRefs"] if part["weight"])
            if (report["audits"][name]["score"] or 0) < 0.9 and report["audits"][name]["scoreDisplayMode"] != "notApplicable"]
    return [round(100 * (report["categories"][name]["score"] or 0)) for name in ASKED], lost


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.lighthouse", description=__doc__)
    parser.add_argument("pages", metavar="PAGE", nargs="*", default=PAGES, help="as in nbs/03_loop")
    parser.add_argument("--site", type=Path, default=BUILD / "html", help="folder of the built site")
    args = parser.parse_args()
    server = serve(args.site)
    print("page, device:", ", ".join(ASKED))
    for name in args.pages:
        for preset in ("phone", "desktop"):
            found, lost = scores(f"http://127.0.0.1:{server.server_port}/{name}.html", preset)
            print(f"{name}, {preset}: {', '.join(map(str, found))}", f"({'; '.join(lost)})" if lost else "", flush=True)


if __name__ == "__main__":
    main()
