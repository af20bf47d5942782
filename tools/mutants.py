"""Change each exported function on purpose, and list the changes that no test notices (make mutants).

The tests of a module are the cells of its notebook (with the exercises solved) and, if the notebook lets a change pass,
tests/test_<module>.py and the files that TESTS names. Both the cell and the exported module are changed, in a copy of
the project. A change can also be one that makes no difference: each line of the list is to be looked at. Each change
costs a run of the notebook; where that takes too long, `--sample 20` draws 20 of a module's changes at random, always
the same ones.
"""
import argparse
import ast
import copy
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.notebooks import PACKAGE, copy_project, module_of, name_of, notebook_command, notebooks, read, run, solved, source
from tools.notebooks import write as write_notebook

FLIP = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
SWAP = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or,
        ast.Or: ast.And}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Where a module is tested, besides a file of its name.
TESTS = {"study": ["ablation", "results_table"], "results": ["results_table"], "run": ["records"], "record": ["records"],
         "checkpoint": ["records"], "training": ["records"], "images": ["data"], "formats": ["images"], "files": ["data"],
         "drawing": ["sketch"], "console": ["cli"], "options": ["cli"], "experiments": ["cli"], "tables": ["compare"],
         "parquet": ["files"], "workers": ["ablation"], "runs": ["ablation"]}


@dataclass
class Mutant:
    module: str
    function: str
    change: str  # what was changed, for the list
    before: str  # the definition as it is in cell and module
    after: str


def changes_at(node):
    "The ways to change one node: (what, new node)."
    match node:
        case ast.Compare(ops=[op]) if type(op) in FLIP:
            yield "comparison", ast.Compare(node.left, [FLIP[type(op)]()], node.comparators)
        case ast.BinOp(op=op) if type(op) in SWAP and not isinstance(node.left, ast.Constant | ast.JoinedStr):
            yield "arithmetic", ast.BinOp(node.left, SWAP[type(op)](), node.right)
        case ast.BoolOp(op=op):
            yield "and/or", ast.BoolOp(SWAP[type(op)](), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "dropped sign", node.operand
        case ast.Constant(value=bool()):
            yield "constant", ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", ast.Constant(node.value + 1)
        case ast.IfExp():
            yield "other branch", ast.IfExp(node.test, node.orelse, node.body)
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield "returns None", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "dropped", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):  # without a name there is only a NameError
            yield "dropped", ast.Pass()


def said(node):
    "The line that a change begins with."
    return ast.unparse(node).splitlines()[0][:90]


def changes(function):
    "All the changes of a function's statements: (what, changed function). Docstring and signature stay."
    start = 1 if ast.get_docstring(function) else 0
    count = len([n for s in function.body[start:] for n in ast.walk(s)])
    for position in range(count):
        node = [n for s in function.body[start:] for n in ast.walk(s)][position]
        for what, new in changes_at(node):
            changed = copy.deepcopy(function)
            twin = [n for s in changed.body[start:] for n in ast.walk(s)][position]
            parent = next((p for p in ast.walk(changed) if twin in ast.iter_child_nodes(p)), None)
            if isinstance(parent, ast.JoinedStr | ast.FormattedValue):
                continue  # the wording of a message
            for field, value in ast.iter_fields(parent):
                if value is twin:
                    setattr(parent, field, new)
                elif isinstance(value, list) and twin in value:
                    value[value.index(twin)] = new
            ast.fix_missing_locations(changed)
            yield f"{what}: {said(node)}  ->  {said(new)}", changed


def mutants_of(text, module):
    "The mutants of all functions and methods that a cell exports, function by function."
    lines = text.splitlines(keepends=True)
    for outer in ast.walk(ast.parse(text)):
        for node in getattr(outer, "body", []) if isinstance(outer, ast.Module | ast.ClassDef) else []:
            if not isinstance(node, FUNCTIONS):
                continue
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            before = "".join(lines[first : node.end_lineno])
            name = f"{outer.name}.{node.name}" if isinstance(outer, ast.ClassDef) else node.name
            indent = " " * node.col_offset
            found = []
            for change, changed in changes(node):
                after = "".join(f"{indent}{line}\n" for line in ast.unparse(changed).splitlines())
                found.append(Mutant(module, name, change, before, after if before.endswith("\n") else after[:-1]))
            yield found


def sample(found, count, seed):
    "At most `count` of the mutants, in their order, drawn at random, for one seed always the same ones."
    drawn = random.Random(seed).sample(range(len(found)), min(count, len(found)))
    return [found[i] for i in sorted(drawn)]


def chosen(nb, limit):
    "The mutants of a notebook: at most `limit` a function."
    module = module_of(nb)
    exported = [source(c) for c in nb["cells"] if c["cell_type"] == "code" and source(c).startswith("#| export")]
    for text in exported:
        for found in mutants_of(text, module):
            yield from sample(found, limit, found[0].function) if found else []


def prepare(folder):
    "A copy of the project in which the notebooks' exercises are solved."
    copy_project(folder)
    for path in notebooks(folder):
        write_notebook(solved(read(path), prove=False), path)
    return folder


def put_in(mutant, tree, path):
    "Make the change in the cell and in the module."
    nb = read(path)
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = source(cell).replace(mutant.before, mutant.after)
    write_notebook(nb, path)
    module = tree / PACKAGE / f"{mutant.module}.py"
    text = module.read_text(encoding="utf-8")
    before, after = (t.replace(f"from {PACKAGE}.", "from .") for t in (mutant.before, mutant.after))  # as nbdev does
    assert before in text, f"{mutant.function} is not exported as it stands in the notebook: nbdev-export"
    module.write_text(text.replace(before, after), encoding="utf-8")


def tests(tree, path, cache, time_limit):
    "Do the notebook's cells and the module's tests pass?"
    env = {"PYTHONPATH": str(tree), "CELEBA_NB_CACHE": str(cache), "CELEBA_NB_STRICT": "1", "CELEBA_ROOT": None,
           "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    passed, printed = run(notebook_command(path), path.parent, env, time_limit)
    module = module_of(read(path))
    units = [unit for name in [module, *TESTS.get(module, [])] if (unit := tree / "tests" / f"test_{name}.py").exists()]
    if passed and units:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, units)]
        passed, printed = run(command, tree, env, time_limit)
    return passed, printed


def survives(mutant, base, cache, name, time_limit):
    "Does no test notice? The notebook's name is that below nbs, as in internals/core."
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(base, Path(folder) / "tree"))
        # Links, so that a change that spoils the cache spoils its own only: files are replaced there, never rewritten.
        own = shutil.copytree(cache, Path(folder) / "cache", copy_function=lambda a, b: Path(b).hardlink_to(a))
        path = tree / "nbs" / f"{name}.ipynb"
        put_in(mutant, tree, path)
        return tests(tree, path, own, time_limit)[0]


def main():
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--module", action="append", help="only this module (may be given more than once)")
    parser.add_argument("--function", help="only functions whose name contains this")
    parser.add_argument("--limit", type=int, default=2, help="changes per function (default: %(default)s)")
    parser.add_argument("--sample", type=int, help="of each module's changes, only a random sample of this many")
    parser.add_argument("--list", action="store_true", help="only list the changes, run nothing")
    args = parser.parse_args()
    noticed, missed = 0, []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        base, cache = prepare(Path(folder) / "base"), Path(folder) / "cache"
        cache.mkdir()
        for path in notebooks(base):
            nb = read(path)
            if not module_of(nb) or (args.module and module_of(nb) not in args.module):
                continue
            found = [m for m in chosen(nb, args.limit) if not args.function or args.function in m.function]
            mutants = found if args.sample is None else sample(found, args.sample, module_of(nb))
            if args.list:
                print(*(f"{m.module}.{m.function}  {m.change}" for m in mutants), sep="\n")
                continue
            tests(base, path, cache, 900)  # the first run fills the cache
            began = time.perf_counter()
            passed, printed = tests(base, path, cache, 900)
            if not passed:
                raise SystemExit(f"{name_of(path)} fails without any change:\n{printed[-3000:]}")
            took = time.perf_counter() - began
            print(f"{module_of(nb)}: {len(mutants)} of {len(found)} changes, {took:.0f} s without a change", flush=True)
            limit, name = 3 * took + 20, name_of(path)
            alive = pool.map(lambda m, at=name, limit=limit: survives(m, base, cache, at, limit), mutants)
            for mutant, unnoticed in zip(mutants, alive):
                noticed += not unnoticed
                if unnoticed:
                    missed.append(mutant)
                    print(f"  not noticed: {mutant.module}.{mutant.function}  {mutant.change}", flush=True)
    if not args.list:
        print(f"{noticed} of {noticed + len(missed)} changes were noticed")


if __name__ == "__main__":
    main()
