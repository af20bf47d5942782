"""How our notebooks and modules measure against those that good engineers point to (make figures)."""
import argparse
import ast
import re
import statistics
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.browser import CHROMIUM, MISSING
from tools.drawings import FOLDER
from tools.notebooks import (
    FOLDED,
    PACKAGE,
    ROOT,
    code,
    is_internal,
    module_of,
    name_of,
    notebooks,
    read,
    source,
)

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = DEFINITIONS[:2]
AIMS = {  # column: (from, to), as the figures were measured for the examples
    "words/line": (4, 10), "cell": (2, 5), "longest": (1, 25), "asserts/def": (3, None), "pictures": (4, None),
    "function": (1, 8), "documented": (1.0, None),
}

# What a lesson may need of a reader's evening (design: "The course"): (from, to); the tour is shorter. A figure that
# is None is not there: no browser to measure screens with, no network that is shown as trained.
LIMITS = {"cells": (1, 130), "words": (1, 4000), "screens": (1, 15), "subject": (0.75, 1), "first": (1, 130),
          "above": (3, 100), "questions": (5, 5), "exercises": (3, 9), "pictures": (4, 99), "seconds": (1, 180)}
TOUR = LIMITS | {"cells": (1, 40), "words": (1, 1200), "first": (1, 25), "exercises": (1, 9)}
ABOVE = re.compile(r"([+-]\d+\.\d) points over never looking")  # what a lesson prints of its live networks
TRAINS = re.compile(r"(?<!def )\b(train|fit|train_step)\(|\.backward\(\)")


def public_definitions(path):
    "The public functions and classes of a module: (name, node). A method that grows a class by @patch has the class's name."
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    named = [(f"{grows(n)}.{n.name}" if grows(n) else n.name, n) for n in tree.body if isinstance(n, DEFINITIONS)]
    return [(name, node) for name, node in named if not node.name.startswith("_") and not name.startswith("_")]


def grows(node):
    "The class that a function grows by fastcore's @patch, or None."
    patches = [getattr(each, "func", each) for each in node.decorator_list]
    if any(getattr(each, "id", "").startswith("patch") for each in patches):
        return ast.unparse(node.args.args[0].annotation)


def body(function):
    "A function's statements without its docstring."
    return function.body[1:] if ast.get_docstring(function) else function.body


@cache
def options(folder):
    "The names of options with a help text, in all modules of a folder: commands share them."
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]
    option = re.compile(r"^(\w+) = (?:Annotated\[[^\n]*(?:\n\s[^\n]*)?help=|_option\()", re.M)
    return {name for text in texts for name in option.findall(text)}


def undocumented(node, path):
    "What a public definition lacks: its docstring, and for each parameter or field a comment on its line."
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    missing = [] if ast.get_docstring(node) else ["no docstring"]

    def said(part):
        text = "\n".join(lines[part.lineno - 1 : part.end_lineno])
        return "  # " in text or "help=" in text or getattr(part.annotation, "id", None) in options(Path(path).parent)

    def parameters(function):
        args = function.args
        every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
        return [a for a in every if a and a.arg not in ("self", "cls")]

    if isinstance(node, ast.ClassDef):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith("_")]
        missing += [f"no comment for {n.target.id}" for n in fields if not said(n)]
        for method in (n for n in node.body if isinstance(n, FUNCTIONS)):
            if not method.name.startswith("_") and not ast.get_docstring(method):
                missing.append(f"no docstring for {method.name}")
            if not method.name.startswith("_") or method.name in ("__init__", "__call__"):
                missing += [f"no comment for {method.name}.{a.arg}" for a in parameters(method) if not said(a)]
    else:
        missing += [f"no comment for {a.arg}" for a in parameters(node) if not said(a)]
    return missing


def lengths(path):
    "The lines of each function of a module: its first line and its statements."
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, FUNCTIONS)]
    return [1 + sum(s.end_lineno - s.lineno + 1 for s in body(f)) for f in functions] or [0]


def measure_module(path):
    "A module's lines (empty ones and nbdev's marks aside), public names, median function, its 90th percentile, the longest."
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    listed = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
              and getattr(node.targets[0], "id", "") == "__all__"]
    sizes = sorted(lengths(path))
    return {"lines": len([line for line in text.splitlines() if line.strip() and not line.startswith("# %%")]),
            "public": len([name for name in (listed or [[]])[0] if not name.startswith("_")]),
            "function": statistics.median(sizes), "90%": sizes[int(0.9 * (len(sizes) - 1))], "longest": sizes[-1]}


def count_words(text):
    "The words of a cell of prose, without code and addresses."
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    return len(re.findall(r"\w[\w'’-]*", re.sub(r"<[^>]+>|\]\([^)]*\)", "", text)))


def count_pictures(nb):
    "The pictures in the outputs that are kept, and the drawings in the prose."
    kept = [kind for c in nb["cells"] for out in c.get("outputs", []) for kind in out.get("data", {})]
    drawn = [c for c in nb["cells"] if c["cell_type"] == "markdown" and re.search(r"!\[[^]]*\]\(.*?\.svg\)", source(c))]
    return sum(kind.startswith("image/") for kind in kept) + len(drawn)


def subject(nb):
    "The share of a lesson's lines of code that neither import nor are in a folded cell."
    cells = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    seen = [line for cell in cells if cell["metadata"] != FOLDED for line in code(cell)]
    return sum(not re.match(r"(import|from) ", line) for line in seen) / sum(len(code(cell)) for cell in cells)


def printed(nb):
    "All that a notebook's cells printed."
    return "".join("".join(out.get("text", "")) for cell in nb["cells"] for out in cell.get("outputs", []))


def points_above(nb):
    "The points over never looking of the worst live network that a notebook prints, or None."
    return min(map(float, ABOVE.findall(printed(nb))), default=None)


def measure_lesson(path):
    "What a lesson needs of its reader, and gives: the columns of LIMITS, without the screens."
    nb = read(path)
    cells = nb["cells"]
    prose = [source(cell) for cell in cells if cell["cell_type"] == "markdown"]
    first = next((i for i, c in enumerate(cells, 1) if c["cell_type"] == "code" and TRAINS.search(source(c))), None)
    open_text = [re.sub(r"<details>.*?</details>", "", text, flags=re.S) for text in prose]  # without what is folded
    return {"cells": len(cells), "words": sum(map(count_words, open_text)), "subject": subject(nb), "first": first,
            "above": points_above(nb),
            "questions": len(re.findall(r"<details><summary>\d\. ", "\n".join(prose))),
            "exercises": len(re.findall(r"^\*\*Exercise \d", "\n".join(prose), re.M)), "pictures": count_pictures(nb),
            "seconds": nb["metadata"].get(PACKAGE, {}).get("seconds")}


def minutes_to_read(cells):
    "How long cells take to read: 200 words, or 15 lines of code that isn't folded, a minute."
    words = sum(count_words(source(cell)) for cell in cells if cell["cell_type"] == "markdown")
    lines = sum(len(code(cell)) for cell in cells if cell["cell_type"] == "code" and cell["metadata"] != FOLDED)
    return words / 200 + lines / 15


def reading_minutes(nb):
    "How long a lesson takes to read, to the next five minutes."
    return max(5, 5 * round(minutes_to_read(nb["cells"]) / 5))


def first_success(nb):
    "After how many minutes a reader sees a network that beats never looking: all that is read until then, and all that is run."
    cells = nb["cells"]
    success = next(i for i, cell in enumerate(cells, 1) if ABOVE.search(printed({"cells": [cell]})))
    return minutes_to_read(cells[:success]) + nb["metadata"][PACKAGE]["seconds"] / 60


def measure_screens(paths):
    "How many screens of 1440×900 each notebook fills in JupyterLab, what is folded closed: by name."
    import nbformat
    from nbconvert import HTMLExporter
    from playwright.sync_api import sync_playwright

    exporter, screens = HTMLExporter(template_name="lab"), {}
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        for path in paths:
            nb = nbformat.read(path, as_version=4)
            for cell in nb.cells:
                cell.metadata["transient"] = {"remove_source": cell.metadata.get("jupyter", {}).get("source_hidden", False)}
            html = exporter.from_notebook_node(nb)[0].replace('src="drawings/', f'src="{FOLDER.as_uri()}/')
            (Path(folder) / "lesson.html").write_text(html, encoding="utf-8")
            page.goto((Path(folder) / "lesson.html").as_uri())
            screens[name_of(path)] = page.evaluate("document.documentElement.scrollHeight") / 900
    return screens


@cache
def lessons():
    "The figures of all lessons: (name, figures, the limits of each)."
    paths = [path for path in notebooks() if not is_internal(path)]
    screens = {} if MISSING else measure_screens(paths)
    return [(name_of(path), measure_lesson(path) | {"screens": screens.get(name_of(path))},
             TOUR if path.stem == "00_tour" else LIMITS) for path in paths]


def over(row, limits):
    "The figures of a lesson that are outside its limits."
    return [column for column, (low, high) in limits.items() if row[column] is not None and not low <= row[column] <= high]


def show_lessons():
    "The table of the lessons; * marks what is outside the limits."
    print(f"{'lesson':20}" + "".join(f"{column:>11}" for column in LIMITS))
    for name, row, limits in lessons():
        shown = [("-" if row[c] is None else f"{row[c]:.0%}" if c == "subject" else f"{row[c]:.4g}")
                 + ("*" if c in over(row, limits) else " ") for c in limits]
        print(f"{name:20}" + "".join(f"{text:>11}" for text in shown))
    print(f"{'limits':20}" + "".join(f"{f'{low:g}-{high:g} ':>11}" for low, high in LIMITS.values()))
    print("\n* outside the limits. words: without code and what is folded. screens: of 1440×900, in JupyterLab. subject: lines "
          "of code outside\nimports and folded cells. first: the cell of the first training. above: points of the worst live "
          "network over never looking.\nseconds: on two cores, with sketch faces; all lessons together "
          f"{sum(row['seconds'] or 0 for _, row, _ in lessons())}, wanted 720.\n")


def figures(path):
    "One notebook's figures."
    nb = read(path)
    words = sum(count_words(source(c)) for c in nb["cells"] if c["cell_type"] == "markdown")
    cells = [code(c) for c in nb["cells"] if c["cell_type"] == "code" and code(c)]
    sizes = [len(lines) for lines in cells]
    asserts = sum(len(re.findall(r"^\s*assert\b", "\n".join(lines), re.M)) for lines in cells)
    pictures = count_pictures(nb)
    row = {"notebook": name_of(path), "words/line": words / sum(sizes), "cell": statistics.median(sizes),
           "longest": max(sizes), "pictures": pictures}
    module = ROOT / PACKAGE / f"{module_of(nb)}.py"
    if module.exists():
        public = public_definitions(module)
        row |= {"asserts/def": asserts / max(1, len(public)), "function": statistics.median(lengths(module)),
                "documented": sum(not undocumented(n, module) for _, n in public) / max(1, len(public))}
    return row


def stands_out(column, value):
    "Is a figure outside what we aim for?"
    low, high = AIMS[column]
    return value < low or (high is not None and value > high)


def shown(column, value):
    "A figure as text, with * where it is outside the aim."
    if value is None:
        return "-"
    number = f"{value:.0%}" if column == "documented" else f"{value:.1f}".removesuffix(".0")
    return number + ("*" if stands_out(column, value) else " ")


def show_notebooks():
    "The table of the notebooks. The internals are no lessons: nothing is asked of their prose and pictures."
    rows = [figures(path) for path in notebooks() if not is_internal(path)]
    print(f"{'notebook':20}" + "".join(f"{column:>12}" for column in AIMS))
    for row in rows:
        print(f"{row['notebook']:20}" + "".join(f"{shown(column, row.get(column)):>12}" for column in AIMS))
    medians = {c: statistics.median([r[c] for r in rows if c in r]) for c in AIMS}
    print(f"{'median':20}" + "".join(f"{shown(column, medians[column]):>12}" for column in AIMS))
    print(f"{'aim':20}" + "".join(
        f"{f'{low:.0%} ' if column == 'documented' else f'{low}-{high} ' if high else f'{low}+ ':>12}"
        for column, (low, high) in AIMS.items()))
    print("\n* stands out. words/line: words of prose per line of code. cell, longest: lines of code in a cell, median "
          "and longest.\nasserts/def: assertions per exported public definition. pictures: in the outputs that are "
          "kept. function: median lines\nof a function (its first line and its statements, without docstring and "
          "parameter list). documented: public definitions\nwith a docstring and a comment per parameter.\n")


def show_modules(package):
    "The table of the modules. The field's models have 2 to 10 public names, and functions of 3 to 9 lines."
    rows = {path.stem: measure_module(path) for path in sorted(package.glob("[!_]*.py"))}
    columns = [*next(iter(rows.values()))]
    print(f"{'module':20}" + "".join(f"{column:>10}" for column in columns))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[column]:>10g}" for column in columns))
    for what, summary in [("median", statistics.median), ("most", max)]:
        print(f"{what:20}" + "".join(f"{summary([row[column] for row in rows.values()]):>10g}" for column in columns))


def main():
    parser = argparse.ArgumentParser(prog="make figures", description=__doc__)
    parser.add_argument("--package", type=Path, help="only the modules of this folder, to compare another version")
    args = parser.parse_args()
    if args.package is None:
        show_lessons()
        show_notebooks()
    show_modules(args.package or ROOT / PACKAGE)


if __name__ == "__main__":
    main()
