"""How our notebooks measure against the courses and code bases that good engineers point to (make figures)."""
import ast
import re
import statistics
from pathlib import Path

from tools.notebooks import PACKAGE, ROOT, code, module_of, notebooks, read, source

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = DEFINITIONS[:2]
AIMS = {  # column: (from, to), as the figures were measured for the examples
    "words/line": (4, 10), "cell": (2, 5), "longest": (1, 25), "asserts/def": (3, None), "pictures": (4, None),
    "function": (1, 8), "documented": (1.0, None),
}


def public_definitions(path):
    "The public functions and classes of a module: (name, node)."
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return [(n.name, n) for n in tree.body if isinstance(n, DEFINITIONS) and not n.name.startswith("_")]


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
    row = {"notebook": path.stem, "words/line": words / sum(sizes), "cell": statistics.median(sizes),
           "longest": max(sizes), "pictures": pictures}
    module = ROOT / PACKAGE / f"{module_of(nb)}.py"
    if module.exists():
        public = public_definitions(module)
        functions = [n for n in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(n, FUNCTIONS)]
        lengths = [1 + sum(s.end_lineno - s.lineno + 1 for s in body(f)) for f in functions]
        row |= {"asserts/def": asserts / max(1, len(public)), "function": statistics.median(lengths or [0]),
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


def main():
    rows = [figures(path) for path in notebooks()]
    print(f"{'notebook':16}" + "".join(f"{column:>12}" for column in AIMS))
    for row in rows:
        print(f"{row['notebook']:16}" + "".join(f"{shown(column, row.get(column)):>12}" for column in AIMS))
    medians = {c: statistics.median([r[c] for r in rows if c in r]) for c in AIMS}
    print(f"{'median':16}" + "".join(f"{shown(column, medians[column]):>12}" for column in AIMS))
    print(f"{'aim':16}" + "".join(
        f"{f'{low:.0%} ' if column == 'documented' else f'{low}-{high} ' if high else f'{low}+ ':>12}"
        for column, (low, high) in AIMS.items()))
    print("\n* stands out. words/line: words of prose per line of code. cell, longest: lines of code in a cell, median "
          "and longest.\nasserts/def: assertions per exported public definition. pictures: in the outputs that are "
          "kept. function: median lines\nof a function (its first line and its statements, without docstring and "
          "parameter list). documented: public definitions\nwith a docstring and a comment per parameter.")


if __name__ == "__main__":
    main()
