"""Lay out the site's pages from the notebooks, and let Sphinx build them (make docs).

The notebooks are in the dialect of nbdev and Quarto; here it becomes that of Sphinx and MyST. No cell is run. The names of
the package have pages of their own, which autodoc makes with the help of tools/api.py.
"""
import argparse
import ast
import base64
import io
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tools.cards import CARDS, WIDTH
from tools.drawings import FOLDER as DRAWINGS
from tools.drawings import svg
from tools.notebooks import (
    BRANCH,
    PACKAGE,
    REPOSITORY,
    ROOT,
    code,
    is_internal,
    modules,
    name_of,
    notebooks,
    python_of,
    read,
    source,
    write,
)
from tools.runtime import fetch

BUILD = ROOT / "docs" / "_build"
# What a card shows of a picture in many columns and rows, which would be too small: from the left, to the right, to the bottom.
SHOWN = {"01_data": (0.5, 1, 0.5), "02_model": (0, 1 / 3, 1), "07_augment": (0, 0.65, 1), "11_explain": (0.62, 1, 0.5),
         "12_photo": (0, 0.5, 1), "12a_yours": (0, 0.2, 0.5)}
DIRECTIVE = re.compile(r"^#\| *([\w-]+)(?:: *| +|$)(.*)\n?", re.M)
DEMO = "docs/demo"  # a part of the course
PROJECT = ["docs/glossary", "docs/teaching", "docs/race", "docs/cluster", "docs/promises", "docs/faults", "CONTRIBUTING",
           "CHANGELOG"]
BESIDE = [DEMO, *PROJECT]  # pages that stand beside the notebooks, as they are there


# Pictures need words, for those who can't see them.


def titles(text):
    "What a cell's code writes on its picture: titles (and captions that its own helpers get), the names of the axes."
    found = {"title": [], "xlabel": [], "ylabel": []}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        said = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        said += [(getattr(node.func, "attr", ""), argument) for argument in node.args[:1]]
        if getattr(node.func, "id", "print") != "print":
            said += [("what", argument) for argument in node.args if len(str(getattr(argument, "value", "")).split()) > 2]
        for name, value in said:
            name = {"what": "title", "suptitle": "title"}.get(name, name.removeprefix("set_"))
            if name in found and isinstance(getattr(value, "value", None), str) and value.value:
                found[name].append(plain(value.value))
    return found


def plain(text):
    "Prose without its markup."
    text = re.sub(r"\{py:\w+\}`([^<`]*?) *(<[^>]*>)?`", r"\1", re.sub(r"```.*?```|<[^>]+>", "", text, flags=re.S))
    return re.sub(r"\s+", " ", re.sub(r"!?\[([^]]*)\]\([^)]*\)|[*`$>]|^#+ .*$", r"\1", text, flags=re.M)).strip()


def alternative(text, prose, section):
    """A text for a cell's pictures: what the author says (`#| fig-alt: ...`), else what stands on the picture, else the
    section and the last words before the cell."""
    if given := dict(DIRECTIVE.findall(text)).get("fig-alt"):
        return given.strip("\"'")
    found = titles(python_of(text))
    axes = [f"{axis[0]} axis: {', '.join(dict.fromkeys(found[axis]))}" for axis in ("xlabel", "ylabel") if found[axis]]
    last = re.split(r"(?<=[.:?!])\s+(?=[A-Z`“\"])", plain(prose))[-1].rstrip(".:")
    return ". ".join([*(dict.fromkeys(found["title"]) or [part for part in (section, last) if part]), *axes])


def picture_of(cell):
    "The picture that a cell has drawn, if any."
    found = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
    return Image.open(io.BytesIO(base64.b64decode("".join(found[0])))).convert("RGBA") if found else None


def is_plot(picture):
    "Is a picture few colours on a clear ground, as lines are? Then a dark page may show it brighter. Faces stay as they are."
    return (np.asarray(picture.getchannel("A")) > 0).mean() < 0.4 and bool(picture.getcolors(1500))


# From the dialect of nbdev and Quarto to that of Sphinx.


def rewrite_links(text, folder):
    "Links to files that are no pages lead to the repository."
    def to_file(found):
        target = (folder / found[2]).resolve()
        beside = target.with_suffix("") in [ROOT / name for name in BESIDE]
        if beside or target.suffix in (".ipynb", ".png", ".svg") or not target.exists():
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"[{found[1]}]({REPOSITORY}/{kind}/{BRANCH}/{target.relative_to(ROOT).as_posix()})"

    text = re.sub(r"\]\((?:\.\./)*README\.md", "](/index.md", text)  # the home page
    text = re.sub(r"\[([^]]*)\]\((?!\w+:|#)([^)#\s]+)\)", to_file, text)
    return re.sub(r"(\]\([^)]*\))\{[^}]*\}", r"\1", text)


def title_cell(text, path):
    "The title with the number of a lesson, and the description."
    title, description = re.match(r"# (.*)\n+> (.*)", text).groups()
    number = "" if is_internal(path) else f"{path.stem.split('_')[0]} · "
    return f"# {number}{title}\n\n*{description}*"


def fold(cell):
    "What a folded cell is called on the page; None: the cell is shown."
    kinds = {type(node) for node in ast.parse(python_of(source(cell))).body}
    if kinds == {ast.Assert}:
        return "✓ checked"
    if re.fullmatch(r"(shutil\.rmtree\(\w+\)\n?)+", source(cell)):
        return "Clean up"
    if "hide-input" not in cell["metadata"].get("tags", []):
        return None
    return "Imports" if kinds & {ast.Import, ast.ImportFrom} else "More code"


def name_of_fold(cell):
    "What a converted cell's fold is called, if it is folded."
    return cell["metadata"].get("mystnb", {}).get("code_prompt_show")


def code_cell(cell, prose, section):
    "A cell of code without its directives, folded where it doesn't teach."
    text, called = source(cell), fold(cell)
    shown, picture = {"image": {"alt": alternative(text, prose, section)}}, picture_of(cell)
    if picture and is_plot(picture):
        shown["image"]["classes"] = "plot"
    if called:
        shown |= {"code_prompt_show": called, "code_prompt_hide": called}
    tags = ["hide-input"] if called else cell["metadata"].get("tags", [])
    return {**cell, "source": DIRECTIVE.sub("", text).strip("\n"), "metadata": {"mystnb": shown, "tags": tags}}


def convert(path):
    "A page for MyST-NB from a notebook."
    nb = read(path)
    title, *rest = nb["cells"]
    prose, section, cells = "", "", [{**title, "source": title_cell(source(title), path)}]
    for cell in rest:
        if cell["cell_type"] == "markdown":
            prose = rewrite_links(callouts(source(cell)), path.parent)
            section = plain("\n".join(re.findall(r"^##+ (.*)", prose, re.M)[-1:])) or section
            cells.append({**cell, "source": prose})
        elif code(cell) and not re.search(r"^#\| *hide\b", source(cell), re.M):
            shown = code_cell(cell, prose, section)
            before = cells[-1]
            if (called := fold(cell)) and called == name_of_fold(before) and not before["outputs"]:  # one fold for both
                shown["source"] = f"{cells.pop()['source']}\n\n{shown['source']}"
            cells.append(shown)
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return {"nbformat": 4, "nbformat_minor": 5, "cells": cells,
            "metadata": {"kernelspec": nb["metadata"]["kernelspec"], "language_info": language}}


def callouts(text):
    "Quarto's callouts as admonitions."
    return re.sub(r"^:::+ *\{ *\.callout-(note|tip|warning|important|caution).*\}", r":::{\1}", text, flags=re.M)


# The whole site.


def part(image, left, right, bottom):
    "A part of a picture, in shares of its width and height, without the title above all of it."
    inked = np.asarray(image.getchannel("A")).any(1)
    title = inked.argmax() + (~inked[inked.argmax() :]).argmax()
    below = title + round(bottom * (image.height - title))
    shown = image.crop((round(left * image.width), title, round(right * image.width), below))
    return shown.crop(shown.getchannel("A").getbbox())


def thumbnail(path, folder):
    """Write the picture of a lesson's card into a folder: the drawing of tools/cards.py, or what the cell with the tag
    `thumbnail` shows. Return its file's name, what is on it in words, and whether a dark page may show it brighter."""
    folder.mkdir(exist_ok=True)
    if draw := CARDS.get(path.stem):
        (folder / f"{path.stem}.svg").write_text(svg(draw, WIDTH), encoding="utf-8")
        return f"{path.stem}.svg", draw()[1], True
    [cell] = [cell for cell in read(path)["cells"] if "thumbnail" in cell["metadata"].get("tags", [])]
    picture = picture_of(cell)
    shown = part(picture, *SHOWN[path.stem]) if path.stem in SHOWN else picture
    shown.thumbnail((700, 700))  # two pixels for each of a card's
    shown.save(folder / f"{path.stem}.webp")
    return f"{path.stem}.webp", alternative(source(cell), "", path.stem.replace("_", " ")), is_plot(picture)


def cards(text, folder):
    "README's table of the lessons as a grid of cards, each with a picture of its lesson."
    def card(found):
        name, question, _, reading, computing = (part.strip() for part in found.groups())
        path = ROOT / "nbs" / f"{name}.ipynb"
        title = re.search(r"^# (.*)", source(read(path)["cells"][0]))[1]
        file, words, plot = thumbnail(path, folder)
        return (f"::::{{grid-item-card}} {name.split('_')[0]} · {title}\n:link: nbs/{name}\n:link-type: doc\n"
                f":img-top: nbs/thumbnails/{file}\n:img-alt: {words}\n{':class-img-top: plot' if plot else ''}\n\n"
                f"{question}\n\n:::{{card-footer}}\n{reading} to read · {computing} to run\n:::\n::::")

    head = r"^\| lesson \|.*\n\|[ |-]+\n"
    row = r"^\| \[(\w+)\]\(nbs/\w+\.ipynb\) \|(.*?)\|(.*?)\|(.*?)\|(.*?)\|$"
    text, grids = re.subn(rf"{head}((?:\| \[.*\n)+)", r":::::{grid} 1 2 2 3\n:gutter: 3\n\n\1:::::\n", text, flags=re.M)
    assert grids == 1, "README has no table of lessons any more"
    return re.sub(row, card, text, flags=re.M)


def buttons(text):
    "README's line of links, after its picture, as buttons."
    link = r"\[[^]]+\]\([^)]+\)"
    [line] = re.findall(rf"^{link}(?: · {link})+$", text, re.M)
    first, *others = line.split(" · ")
    return text.replace(line, " ".join([f"{first}{{.button .main}}", *(f"{other}{{.button}}" for other in others)]))


def home(pages, folder):
    "The home page: README, and after it the order of the pages."
    text = re.sub(r"^\[!\[.*\n", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M)  # badges
    text = text.replace("Clone the repository, and in its folder type\n\n    ", f"Type\n\n    git clone {REPOSITORY}\n"
                        f"    cd {REPOSITORY.rsplit('/')[-1]}\n    ")  # the repository's own page has a button for it
    text = buttons(cards(rewrite_links(text, ROOT), folder)).replace("sketch_faces.png", "sketch_faces.webp")

    def order(internals):
        return "\n".join(f"nbs/{name_of(path)}" for path in pages if is_internal(path) == internals)

    return (f"{text}\n```{{toctree}}\n:hidden:\n:caption: The course\n\n{order(False)}\n{DEMO}\n```\n\n"
            f"```{{toctree}}\n:hidden:\n:caption: Internals\n\n{order(True)}\n```\n\n"
            "```{toctree}\n:hidden:\n:caption: Reference\n\napi/index\nAll names <genindex>\n```\n\n"
            f"```{{toctree}}\n:hidden:\n:caption: The project\n\n{chr(10).join(PROJECT)}\n```\n")


def api(folder):
    "A page for each module, which autodoc and tools/api.py fill, and a page of all modules with a line each."
    folder.mkdir()
    for module in modules():
        name = f"{PACKAGE}.{module}"
        (folder / f"{module}.rst").write_text(f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n   :members:\n")
    listed = "\n".join(f"   {PACKAGE}.{module}" for module in modules())
    contents = "\n".join(f"   {module}" for module in modules())
    (folder / "index.rst").write_text(
        "API\n===\n\nThe modules of the package. Each has a page with its names.\n\n"
        f".. autosummary::\n\n{listed}\n\n.. toctree::\n   :hidden:\n\n{contents}\n")


def lay_out(pages, folder):
    "Write the pages where Sphinx looks for them, as the repository has them: so the links between them hold."
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "nbs" / "internals").mkdir(parents=True)
    (folder / "docs").mkdir()
    api(folder / "api")
    for path in pages:
        write(convert(path), folder / "nbs" / f"{name_of(path)}.ipynb")
    (folder / "index.md").write_text(home(pages, folder / "nbs" / "thumbnails"), encoding="utf-8")
    for name in BESIDE:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r'<a id="([^"]+)"></a>(\*\*.+?\*\*)', r"[\2]{#\1}", text)  # an anchor, as MyST writes it
        text = re.sub(r"^(You see pictures .*)$", r"[\1]{.no-search}", text, flags=re.M)  # most readers will not see it
        text = demo(text) if name == DEMO else letters(text) if name == "docs/glossary" else text
        (folder / f"{name}.md").write_text(rewrite_links(text, (ROOT / name).parent), encoding="utf-8")
    for picture in (*(ROOT / "docs").glob("*.svg"), *(ROOT / "docs").glob("demo*.png")):
        shutil.copy2(picture, folder / "docs")
    with Image.open(ROOT / "docs" / "sketch_faces.png") as faces:
        faces.save(folder / "docs" / "sketch_faces.webp", quality=85)  # a fifth of the bytes
    shutil.copytree(DRAWINGS, folder / "nbs" / DRAWINGS.name)


def letters(text):
    "The glossary, with each letter above its first term, and a link to that term above all."
    first = {}
    for anchor in re.findall(r"^- \[.*?\{#([^}]+)\}", text, re.M):
        first.setdefault(anchor[0].upper(), anchor)
    links = " ".join(f"[{letter}](#{anchor})" for letter, anchor in first.items())
    text = re.sub(r"^- ", f":::{{div}} letters\n{links}\n:::\n\n- ", text, count=1, flags=re.M)
    for letter, anchor in first.items():
        text = re.sub(rf"^- (?=.*?{{#{anchor}}})", f"\n:::{{div}} letter\n{letter}\n:::\n\n- ", text, count=1, flags=re.M)
    return text


def demo(text):
    "The demo's page: whether the runtime that its network needs is in the site."
    return text.replace('data-demo="face"', 'data-demo="face" data-runtime="yes"') if fetch() else text


def add_runtime(out):
    "Lay the demo's runtime beside its scripts, where it could be had."
    if folder := fetch():
        shutil.copytree(folder, out / "_static" / "demo" / "onnxruntime")


def sphinx(pages, out, builder="html"):
    "Build the site from its pages: 0 where there was no error and no warning."
    sys.modules["rfc3987_syntax"] = None  # nbformat would build its 38 grammars, for seconds; no notebook has such an address
    from sphinx.cmd.build import build_main

    return build_main(["-b", builder, "-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), "-d", str(out.parent / "doctrees"),
                       str(pages), str(out)])


def main():
    parser = argparse.ArgumentParser(prog="make docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=BUILD, help="folder of the site and of what it is made from")
    parser.add_argument("--builder", default="html", help="html, or linkcheck for the links to other sites")
    args = parser.parse_args()
    began = time.perf_counter()
    lay_out(notebooks(), args.out / "pages")
    shutil.rmtree(args.out / args.builder, ignore_errors=True)  # of a notebook that is gone, no page stays
    failed = sphinx(args.out / "pages", args.out / args.builder, args.builder)
    if not failed and args.builder == "html":
        add_runtime(args.out / args.builder)
    if not failed:
        print(f"{args.out / args.builder}/index.html: made in {time.perf_counter() - began:.0f} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
