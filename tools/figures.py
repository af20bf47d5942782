"""How our notebooks and modules measure against those that good engineers point to (make figures)."""
import argparse
import ast
import re
import statistics
from pathlib import Path

from tools.notebooks import PACKAGE, ROOT, code, is_internal, module_of, name_of, notebooks, read, source

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = DEFINITIONS[:2]
AIMS = {  # column: (from, to), as the figures were measured for the examples
    "words/line": (4, 10), "cell": (2, 5), "longest": (1, 25), "asserts/def": (3, None), "pictures": (4, None),
    "function": (1, 8), "documented": (1.0, None),
}


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


def undocumented(node, path):
    "What a public definition lacks: its docstring, and for each parameter or field a comment on its line."
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    missing = [] if ast.get_docstring(node) else ["no docstring"]
    options = re.findall(r"^(\w+) = (?:Annotated\[.*help=|_option\()", "\n".join(lines), re.M)  # with a help text

    def said(part):
        text = "\n".join(lines[part.lineno - 1 : part.end_lineno])
        return "  # " in text or "help=" in text or getattr(part.annotation, "id", None) in options

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


def figures(path):
    "One notebook's figures."
    nb = read(path)
    prose = [re.sub(r"```.*?```", "", source(c), flags=re.S) for c in nb["cells"] if c["cell_type"] == "markdown"]
    words = sum(len(re.findall(r"\w[\w'’-]*", re.sub(r"<[^>]+>|\]\([^)]*\)", "", text))) for text in prose)
    cells = [code(c) for c in nb["cells"] if c["cell_type"] == "code" and code(c)]
    sizes = [len(lines) for lines in cells]
    asserts = sum(len(re.findall(r"^\s*assert\b", "\n".join(lines), re.M)) for lines in cells)
    pictures = sum(kind.startswith("image/") for c in nb["cells"] for out in c.get("outputs", [])
                   for kind in out.get("data", {}))
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
    "A figure as text, with * where it stands out."
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
        show_notebooks()
    show_modules(args.package or ROOT / PACKAGE)


if __name__ == "__main__":
    main()
