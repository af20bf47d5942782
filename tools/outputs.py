"""Run the notebooks from top to bottom and keep their outputs, on sketch faces only (make outputs).

A notebook that was run here carries a seal: a hash of its code and its outputs. A test recomputes it, so outputs that
were made in a different way (with real faces, say), or before the code was changed, are not committed unnoticed. Beside
it is the time that the notebook took, which its head and the table of README or CONTRIBUTING show.
"""
import argparse
import base64
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tools.figures import reading_minutes
from tools.launch import has_head, with_head, words
from tools.notebooks import PACKAGE, ROOT, is_internal, name_of, notebooks, read, run, source, write

DONE = Path(sys.prefix) / "outputs.json"  # what was run with which state of the package: then there is nothing to do
WIDGET = "application/vnd.jupyter.widget-view+json"


def seal(nb):
    "A hash of a notebook's code and outputs."
    cells = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    kept = [[source(cell), [normal(out) for out in cell["outputs"]]] for cell in cells]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def normal(value):
    "An output with each list of lines joined, as the notebook format allows both."
    if isinstance(value, dict):
        return {key: normal(v) for key, v in value.items() if key not in ("execution_count", "metadata")}
    if isinstance(value, list):
        return "".join(value) if all(isinstance(v, str) for v in value) else [normal(v) for v in value]
    return value


def is_sealed(nb):
    "Were these outputs made by this script, from this code?"
    return nb["metadata"].get(PACKAGE, {}).get("seal") == seal(nb)


def state(nb):
    "Names what a run depends on: the notebook and the package."
    package = b"".join(path.read_bytes() for path in sorted((ROOT / PACKAGE).glob("*.py")))
    return seal(nb) + hashlib.sha256(package).hexdigest()[:16]


def without_machine(text):
    "A text without the folders of the machine that printed it, a profiler's log, and of a progress bar nothing."
    text = re.sub(r"^(USDT|ERROR):.*\.cpp:\d+\].*\n?", "", text, flags=re.M)
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/tmp\w+", "/tmp/folder", text)
    text = text.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")
    return re.sub(r"^.*(\d+%\||\d+it \[).*\n?", "", re.sub(r"[^\n]*\r(?!\n)", "", text), flags=re.M)


def smaller(png):
    """A picture of fewer bytes, in base64 both: with 64 levels of red, green, blue and opacity, which looks the same, and with a
    palette if it has few colours."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    levels = np.minimum((np.asarray(image.convert("RGBA")).astype(int) + 2) // 4 * 4, 255).astype(np.uint8)
    colors, index = np.unique(levels.view(np.uint32), return_inverse=True)  # four bytes, one number
    small = Image.fromarray(levels)
    if len(colors) <= 256:
        small = Image.fromarray(index.reshape(levels.shape[:2]).astype(np.uint8))
        small.putpalette(colors.tobytes(), "RGBA")
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def tidy(out):
    "An output that reads well when it is committed; None where nothing is left."
    if WIDGET in out.get("data", {}):
        return None
    if "text" in out:
        out["text"] = without_machine(out["text"])
        return out if out["text"].strip() else None
    if png := out.get("data", {}).get("image/png"):
        out["data"]["image/png"] = smaller(png)
    for kind in ("text/plain", "text/html", "text/markdown"):
        if kind in out.get("data", {}):
            out["data"][kind] = without_machine(out["data"][kind])
    return out


def execute(path):
    "The notebook with fresh outputs; raises where a cell fails, and says which."
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    nb = nbformat.read(path, as_version=4)
    kept_metadata = [cell.metadata for cell in nb.cells]
    not_run = [cell for cell in nb.cells if re.search(r"^#\| *eval: *false", cell.source, re.M)]
    for cell in nb.cells:
        cell.metadata = {"tags": ["skip-execution"]} if cell in not_run else {}
        if cell.cell_type == "code":
            cell.outputs = []
    client = NotebookClient(nb, timeout=None, kernel_name="python3", coalesce_streams=True,
                            extra_arguments=["--IPKernelApp.log_level=40"],
                            resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except CellExecutionError as error:
        at = next(i for i, cell in enumerate(nb.cells)
                  if any(out.output_type == "error" for out in cell.get("outputs", [])))
        trace = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        raise SystemExit(f"\n{path.name}, cell {at} (id {nb.cells[at].id}) failed; the file stays as it was.\n"
                         f"\n{trace}") from None
    nb.metadata = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    for cell, metadata in zip(nb.cells, kept_metadata):
        cell.metadata = metadata
        if cell.cell_type == "code":
            cell.outputs = [kept for out in cell.outputs if (kept := tidy(out))]
    return nb


def remake(path):
    "Run one notebook and replace the file, cleaned and sealed, once all went well."
    import nbformat
    from nbdev.clean import nbdev_clean

    write(with_head(path, read(path)), path)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=sys.prefix) as folder:
        new = Path(folder) / path.name
        nbformat.write(execute(path), new)
        nbdev_clean(fname=str(new))
        nb = read(new)
        nb["metadata"][PACKAGE] = {"seal": seal(nb), "seconds": round(time.perf_counter() - began)}
        write(with_head(path, nb), new)
        nbdev_clean(fname=str(new))  # writes the file as nbdev does, so that cleaning it changes nothing
        os.replace(new, path)


def with_times(text, nbs):
    "A page with the measured time in the last column of each notebook's line, and a lesson's minutes of reading before it."
    for path in nbs:
        nb = read(path)
        if seconds := nb["metadata"].get(PACKAGE, {}).get("seconds"):
            reading = "" if is_internal(path) else f" {reading_minutes(nb)} min |"
            columns = r"[^|]*\|" if is_internal(path) else r"[^|]*\|[^|]*\|"
            line = re.compile(rf"^(\| \[{name_of(path)}\]\(.*\|){columns}$", re.M)
            text = line.sub(rf"\1{reading} {words(seconds)} |", text)
    return text


def main():
    parser = argparse.ArgumentParser(prog="make outputs", description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of notebooks' names, as in 03, core, internals (default: all)")
    parser.add_argument("--all", action="store_true", help="run even what is up to date")
    args = parser.parse_args()
    os.environ.pop("CELEBA_ROOT", None)
    os.environ.pop("MPLBACKEND", None)
    os.chdir(ROOT)
    done = json.loads(DONE.read_text()) if DONE.exists() else {}
    drawn, printed = run([sys.executable, "-c", f"from {PACKAGE}.data import find_root; find_root()"], ROOT, {}, 600)
    if not drawn:
        raise SystemExit(f"The sketch faces could not be drawn:\n{printed}")
    for path in notebooks():
        name = name_of(path)
        if args.names and not any(text.startswith(tuple(args.names)) for text in (name, path.stem)):
            continue
        nb = read(path)
        if is_sealed(nb) and has_head(path, nb) and done.get(name) == state(nb) and not args.all:
            print(f"{name}: up to date")
            continue
        print(f"{name}: running ...", end="", flush=True)
        remake(path)
        print(f" {read(path)['metadata'][PACKAGE]['seconds']} s")
        table = ROOT / ("CONTRIBUTING.md" if is_internal(path) else "README.md")
        table.write_text(with_times(table.read_text(encoding="utf-8"), [path]), encoding="utf-8")
        done[name] = state(read(path))
        DONE.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
