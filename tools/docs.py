"""Lay out the site's pages from the notebooks, with nbdev's own processing, and let Sphinx build them (make docs).

nbdev's `proc_nbs` adds the documentation of each exported name and the links to it, in the dialect of Quarto. Here this
becomes the dialect of Sphinx and MyST. No cell is run.
"""
import argparse
import ast
import base64
import functools
import importlib
import inspect
import os
import re
import shutil
import sys
import time
from dataclasses import is_dataclass
from pathlib import Path
from types import SimpleNamespace

from tools.drawings import FOLDER as DRAWINGS
from tools.notebooks import (
    BRANCH,
    PACKAGE,
    PYPROJECT,
    REPOSITORY,
    ROOT,
    is_internal,
    module_of,
    name_of,
    notebooks,
    python_of,
    read,
    source,
    write,
)
from tools.runtime import fetch

BUILD = ROOT / "docs" / "_build"
SITE = PYPROJECT["project"]["urls"]["Documentation"]
DIRECTIVE = re.compile(r"^#\| *([\w-]+)(?:: *| +|$)(.*)\n?", re.M)
EMPTY = inspect.Parameter.empty
BESIDE = ["docs/demo", "docs/glossary", "docs/teaching", "docs/promises", "docs/faults", "CONTRIBUTING", "CHANGELOG"]  # as there
TABLE = "| parameter | what it is |\n| --- | --- |\n"


# Before nbdev: the source of every exported cell is to be shown, and nothing to be run (names are documented below).


def prepared(nb):
    "A notebook that nbdev neither runs nor shortens."
    for cell in nb["cells"]:
        shown = re.sub(r"^#\| *exporti\n", "", source(cell), flags=re.M)  # exported, but not public: shown like other code
        cell["source"] = re.sub(r"^#\| *export$", "#| exports", shown, flags=re.M)
    nb["cells"][0]["source"] += "\n- skip_showdoc: true"
    return nb


def process(stage):
    "What nbdev makes of the notebooks: (path of the notebook, notebook with documentation and links)."
    from nbdev.serve import proc_nbs

    (stage / "nbs" / "internals").mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "pyproject.toml", stage)
    copies = {stage / "nbs" / f"{name_of(path)}.ipynb": path for path in notebooks()}
    for old in {*notebooks(stage)} - {*copies}:
        old.unlink()
    for copy, path in copies.items():
        write(prepared(read(path)), copy)
        os.utime(copy, (path.stat().st_mtime,) * 2)  # nbdev does again only what has changed
    done = proc_nbs(str(stage / "nbs"))
    return [(path, read(done / f"{name_of(path)}.ipynb")) for path in notebooks()]


# Documentation of a name, for Sphinx's Python domain: it is then in the index, the search and the links.


def parameters(thing):
    "A function's or class's parameters as docments finds them, with inherited fields and the help of options and fields."
    from fastcore.docments import ann_parts, docments

    found = docments(thing, full=True, args_kwargs=True)
    for base in inspect.getmro(thing)[1:-1] if inspect.isclass(thing) else ():
        for name, inherited in (docments(base, full=True) if is_dataclass(base) else {}).items():
            if name in found and not found[name].docment:
                found[name] = inherited
    fields = getattr(thing, "__pydantic_fields__", {})
    for name, entry in found.items():
        helps = [part.help for part in ann_parts(entry.anno)[1] if getattr(part, "help", None)]
        helps += [fields[name].description] if name in fields else []
        entry.anno, entry.docment = ann_parts(entry.anno)[0], entry.docment or " ".join(helps)
        entry.anno = SimpleNamespace(__name__=entry.anno) if isinstance(entry.anno, str) else entry.anno
    return {name: entry for name, entry in found.items() if name != "self"}


def shown(value):
    "A type by its name, an object by its class, a text as it stands: as one writes it after `:` or `=`."
    if isinstance(value, str):
        return repr(value)
    text = getattr(value, "__name__", None) or str(value)
    text = re.sub(r"<(?:[\w.]+\.)?(\w+) object at 0x\w+>", r"\1()", text).replace("<factory>", "{}")
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)


def table(thing):
    "The parameters of a function or class, with what it gives back, as a table; nothing where there are none."
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""
    rows = []
    for name, entry in parameters(thing).items():
        given = [f": {shown(entry.anno)}", f" = {shown(entry.default)}"]
        text = name + "".join(part for part, value in zip(given, (entry.anno, entry.default)) if value is not EMPTY)
        if name == "return":
            if inspect.isclass(thing) or entry.anno in (EMPTY, None) and not entry.docment:
                continue
            text = f"-> {shown(entry.anno)}" if entry.anno is not EMPTY else "->"
        rows.append([f"`{text}`", (entry.docment or "").replace("\n", " ")])
    escaped = ["| " + " | ".join(part.replace("|", r"\|") for part in row) + " |" for row in rows]
    return TABLE + "\n".join(escaped) if rows else ""


def signature(thing):
    "A function's parameters by name; types and defaults stand in the table."
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""
    names = [str(p.replace(annotation=p.empty, default=p.empty)) for p in inspect.signature(thing).parameters.values()]
    return f"({', '.join(name for name in names if name != 'self')})"


def methods(cls):
    "The public methods and properties that a class defines itself."
    return {name: member for name, member in vars(cls).items() if not name.startswith("_") and (
        inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
        or hasattr(member, "func"))}


def directive(kind, head, options, body, level=0):
    "A directive of MyST; the fence is longer the further out it stands."
    fence = "`" * (5 - level)
    return "\n".join([f"{fence}{{py:{kind}}} {head}", *options, "", body.strip(), fence])


def document(thing, module, name, level=0, kind=None):
    "The documentation of one public name, and of what it defines in turn."
    options = [] if level else [f":module: {module}"]
    function = getattr(thing, "func", None) or getattr(thing, "fget", None) or getattr(thing, "__func__", thing)
    text = inspect.getdoc(function) or ""
    if kind == "property":
        return directive(kind, name, options, text, level)
    body = [text, table(function)]
    if inspect.isclass(thing):
        body += [document(member, module, method, 1, kind_of(member)) for method, member in methods(thing).items()]
    kind = kind or ("class" if inspect.isclass(thing) else "function")
    return directive(kind, name + signature(function), options, "\n\n".join(filter(None, body)), level)


def constants(text):
    "The public names that a cell gives a value, as in SIZE = (178, 218)."
    targets = [target for node in ast.parse(text).body if isinstance(node, ast.Assign) for target in node.targets]
    names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def kind_of(member):
    "What Sphinx calls a member of a class."
    special = {classmethod: "classmethod", staticmethod: "staticmethod"}
    if isinstance(member, property) or hasattr(member, "func"):
        return "property"
    return special.get(type(member), "method")


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


# After nbdev: from the dialect of Quarto to that of Sphinx.


def rewrite_links(text, folder):
    "Links to names become Sphinx's own; links to files that are no pages lead to the repository."
    def to_name(found):
        shown, module, name = found[1], modules()[found[2]], found[1].removesuffix("()").split(".")
        name = name[2:] if name[0] == PACKAGE else name
        public = importlib.import_module(f"{PACKAGE}.{module}").__all__
        if name[0] not in public or any(part.startswith("_") for part in name):
            return f"`{shown}`"
        return f"{{py:obj}}`{shown} <{PACKAGE}.{module}.{'.'.join(name)}>`"

    def to_value(found):
        module = exported_values().get(found[1])
        return f"{{py:obj}}`{found[1]} <{PACKAGE}.{module}.{found[1]}>`" if module else found[0]

    def to_file(found):
        target = (folder / found[2]).resolve()
        beside = target.with_suffix("") in [ROOT / name for name in BESIDE]
        if beside or target.suffix in (".ipynb", ".png", ".svg") or not target.exists():
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"[{found[1]}]({REPOSITORY}/{kind}/{BRANCH}/{target.relative_to(ROOT).as_posix()})"

    text = re.sub(rf"\[`([^`]+)`\]\({re.escape(SITE)}/([\w/]+)\.html[^)]*\)", to_name, text)
    text = re.sub(rf"\[`({PACKAGE}\.\w+)`\]\({re.escape(REPOSITORY)}[^)]*\)", r"`\1`", text)
    text = re.sub(r"(?<![`\w{}\[])`([A-Z][A-Z_]+)`", to_value, text)
    text = re.sub(rf"(?<![`\w{{}}\[])`{PACKAGE}\.({'|'.join(modules().values())})`", rf"{{py:mod}}`{PACKAGE}.\1`", text)
    text = re.sub(r"\[([^]]*)\]\((?!\w+:|#)([^)#\s]+)\)", to_file, text)
    return re.sub(r"(\]\([^)]*\))\{[^}]*\}", r"\1", text)


@functools.cache
def exported_values():
    "The module of each exported constant; a name that two modules have belongs to neither."
    found = {}
    for path in notebooks():
        nb = read(path)
        for cell in nb["cells"]:
            if cell["cell_type"] == "code" and re.search(r"^#\| *exports?$", source(cell), re.M):
                for name in constants(source(cell)):
                    found[name] = None if name in found else module_of(nb)
    return found


@functools.cache
def modules():
    "The modules of the package, by the page that nbdev takes them to be on: a notebook's name without its number."
    return {re.sub(r"(^|/)\d+[a-z]?_", r"\1", name_of(path)): module for path in notebooks() if (module := module_of(read(path)))}


def title_cell(cell, path, module):
    "The title with the number of a lesson, the description, and the place where links to the module lead."
    front = dict(re.findall(r"^(\w[\w-]*): (.*(?:\n  .*)*)", source(cell), re.M))
    front = {key: re.sub(r"\s+", " ", value).strip("'\"").replace("''", "'") for key, value in front.items()}
    lines = [f"# {front['title']}" if is_internal(path) else f"# {path.stem.split('_')[0]} · {front['title']}"]
    if module:
        lines.append(f"```{{py:module}} {PACKAGE}.{module}\n```")
    return "\n\n".join([*lines, f"*{front['description']}*"] if front.get("description") else lines)


def fold(cell, documented):
    "What a folded cell is called on the page; None: the cell is shown."
    text = source(cell)
    if documented and re.search(r"^#\| *exports\b", text, re.M):
        return f"Source of {', '.join(documented)}"
    kinds = {type(node) for node in ast.parse(python_of(text)).body}
    if kinds == {ast.Assert}:
        return "✓ checked"
    if "hide-input" not in cell["metadata"].get("tags", []):
        return None
    return "Imports" if kinds & {ast.Import, ast.ImportFrom} else "More code"


def convert(path, nb):
    "A page for MyST-NB from a notebook that nbdev has processed."
    module = module_of(read(path))
    prose, section, documented, cells, placed = "", "", [], [], set()
    for i, cell in enumerate(nb["cells"]):
        text, directives = source(cell), dict(DIRECTIVE.findall(source(cell)))
        if i == 0:
            cell = markdown(cell, title_cell(cell, path, module))
        elif cell["cell_type"] == "markdown":
            prose = rewrite_links(callouts(text), path.parent)
            section = plain("\n".join(re.findall(r"^##+ (.*)", prose, re.M)[-1:])) or section
            cell = markdown(cell, prose)
        elif found := re.search(r"^show_doc\((.*)\)", text, re.M):
            name = f"{PACKAGE}.{module}"
            documented.append(found[1])
            inside = "." in found[1]  # a method that grows a class by @patch: it stands with the class
            cell = markdown(cell, "" if inside else document(getattr(importlib.import_module(name), found[1]), name, found[1]))
        else:
            said, called = "# Slow: not run for this page.\n" if "slow" in directives else "", fold(cell, documented)
            cell["source"] = said + DIRECTIVE.sub("", text).strip("\n")
            tags = cell["metadata"].get("tags", [])
            cell["metadata"] = {"mystnb": {"image": {"alt": alternative(text, prose, section)}}, "tags": tags}
            values = [name for name in constants(text) if "exports" in directives and name not in placed]
            placed.update(values)
            if values:
                places = [directive("data", value, [f":module: {PACKAGE}.{module}"], "") for value in values]
                cells.append(markdown({"id": f"{cell['id']}-data"}, "\n\n".join(places)))
            if called:
                cell["metadata"] |= {"tags": ["hide-input"]}
                cell["metadata"]["mystnb"] |= {"code_prompt_show": called, "code_prompt_hide": called}
            documented = []
        if source(cell).strip() and not source(cell).startswith("<!-- WARNING"):
            cells.append(cell)
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return {"nbformat": 4, "nbformat_minor": 5, "cells": cells,
            "metadata": {"kernelspec": nb["metadata"]["kernelspec"], "language_info": language}}


def markdown(cell, text):
    "A cell of prose in the place of another."
    return {"cell_type": "markdown", "id": cell.get("id", "title"), "metadata": {}, "source": text}


def callouts(text):
    "Quarto's callouts as admonitions."
    return re.sub(r"^:::+ *\{ *\.callout-(note|tip|warning|important|caution).*\}", r":::{\1}", text, flags=re.M)


# The whole site.


def thumbnail(path, folder):
    "Write the picture of a lesson's cell with the tag `thumbnail` into a folder, and return what is on it in words."
    [cell] = [cell for cell in read(path)["cells"] if "thumbnail" in cell["metadata"].get("tags", [])]
    [picture] = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
    folder.mkdir(exist_ok=True)
    (folder / f"{path.stem}.png").write_bytes(base64.b64decode("".join(picture)))
    return alternative(source(cell), "", path.stem.replace("_", " "))


def cards(text, folder):
    "README's table of the lessons as a grid of cards, each with a picture of its lesson."
    def card(found):
        name, question, _, reading, computing = (part.strip() for part in found.groups())
        path = ROOT / "nbs" / f"{name}.ipynb"
        title = re.search(r"^# (.*)", source(read(path)["cells"][0]))[1]
        return (f"::::{{grid-item-card}} {name.split('_')[0]} · {title}\n:link: nbs/{name}\n:link-type: doc\n"
                f":img-top: nbs/thumbnails/{name}.png\n:img-alt: {thumbnail(path, folder)}\n\n"
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
    text = buttons(cards(rewrite_links(text, ROOT), folder))

    def order(internals):
        return "\n".join(f"nbs/{name_of(path)}" for path in pages if is_internal(path) == internals)

    return (f"{text}\n```{{toctree}}\n:hidden:\n:caption: The course\n\n{order(False)}\n```\n\n"
            f"```{{toctree}}\n:hidden:\n:caption: Internals\n\n{order(True)}\n```\n\n"
            "```{toctree}\n:hidden:\n:caption: Reference\n\nAll names <genindex>\n```\n\n"
            f"```{{toctree}}\n:hidden:\n:caption: The project\n\n{chr(10).join(BESIDE)}\n```\n")


def lay_out(pages, folder):
    "Write the pages where Sphinx looks for them, as the repository has them: so the links between them hold."
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "nbs" / "internals").mkdir(parents=True)
    (folder / "docs").mkdir()
    for path, nb in pages:
        write(convert(path, nb), folder / "nbs" / f"{name_of(path)}.ipynb")
    (folder / "index.md").write_text(home([path for path, _ in pages], folder / "nbs" / "thumbnails"), encoding="utf-8")
    for name in BESIDE:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r'<a id="([^"]+)"></a>(\*\*.+?\*\*)', r"[\2]{#\1}", text)  # an anchor, as MyST writes it
        text = demo(text) if name == "docs/demo" else text
        (folder / f"{name}.md").write_text(rewrite_links(text, (ROOT / name).parent), encoding="utf-8")
    for picture in [*(ROOT / "docs").glob("*.png"), *(ROOT / "docs").glob("*.svg")]:
        shutil.copy2(picture, folder / "docs")
    shutil.copytree(DRAWINGS, folder / "nbs" / DRAWINGS.name)


def demo(text):
    "The demo's page: whether the runtime that its network needs is in the site."
    return text.replace('data-demo="face"', 'data-demo="face" data-runtime="yes"') if fetch() else text


def add_runtime(out):
    "Lay the demo's runtime beside its scripts, where it could be had."
    if folder := fetch():
        shutil.copytree(folder, out / "_static" / "demo" / "onnxruntime")


def sphinx(pages, out, builder="html"):
    "Build the site from its pages: 0 where there was no error and no warning."
    from sphinx.cmd.build import build_main

    return build_main(["-b", builder, "-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), "-d", str(out.parent / "doctrees"),
                       str(pages), str(out)])


def main():
    parser = argparse.ArgumentParser(prog="make docs", description=__doc__)
    parser.add_argument("--out", type=Path, default=BUILD, help="folder of the site and of what it is made from")
    parser.add_argument("--builder", default="html", help="html, or linkcheck for the links to other sites")
    args = parser.parse_args()
    began = time.perf_counter()
    lay_out(process(args.out / "stage"), args.out / "pages")
    shutil.rmtree(args.out / args.builder, ignore_errors=True)  # of a notebook that is gone, no page stays
    failed = sphinx(args.out / "pages", args.out / args.builder, args.builder)
    if not failed and args.builder == "html":
        add_runtime(args.out / args.builder)
    if not failed:
        print(f"{args.out / args.builder}/index.html: made in {time.perf_counter() - began:.0f} s")
    sys.exit(failed)


if __name__ == "__main__":
    main()
