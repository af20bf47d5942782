"""Does the tour run, from its first cell on, with the versions that Colab has? (make colab; they are in tools/colab.txt)

Run by a Python that has the package and those versions, and nothing for development.
"""
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(shutil.copytree(ROOT / "nbs", Path(folder) / "nbs"))
        nb, began = nbformat.read(place / "00_tour.ipynb", 4), time.perf_counter()
        NotebookClient(nb, timeout=900, kernel_name="python3", resources={"metadata": {"path": place}}).execute()
    printed = "".join(out.get("text", "") for cell in nb.cells for out in cell.get("outputs", []))
    seconds = time.perf_counter() - began
    print(printed, f"Python {sys.version.split()[0]}: all cells of the tour ran, in {seconds:.0f} s.", sep="\n")


if __name__ == "__main__":
    main()
