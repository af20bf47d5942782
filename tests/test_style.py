"Ctrl-C while a picture is drawn: it waits for the picture, and is not lost. In notebooks pictures are sharp."
import base64
import io
import re
import subprocess
import sys

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

from tools.notebooks import ROOT, name_of, notebooks, read, source
from tools.outputs import tidy

DRAW = """
import signal
import matplotlib.pyplot as plt
from celeba_nb.style import render

before = signal.getsignal(signal.SIGINT)
figure = plt.figure()
figure.canvas.mpl_connect("draw_event", lambda event: signal.raise_signal(signal.SIGINT))
try:
    render(figure, "png")
except KeyboardInterrupt:
    print("after the drawing", signal.getsignal(signal.SIGINT) is before)
"""


def test_ctrl_c_waits_for_the_drawing():
    done = subprocess.run([sys.executable, "-c", DRAW], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "after the drawing True\n", done.stderr

PLOT = """
from celeba_nb.style import use_style
import matplotlib.pyplot as plt
use_style()
plt.subplots(figsize=(3, 2))[1].plot([1, 2])
plt.show()
"""


def test_a_notebook_has_sharp_plots_and_keeps_them_small():
    cells = [PLOT, "%config InlineBackend.figure_formats = ['svg']\n" + PLOT]  # who has chosen a format keeps it
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(nb, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    out = nb.cells[0].outputs[-1]
    assert "image/svg+xml" in nb.cells[1].outputs[-1]["data"]
    drawn, kept = out["data"]["image/png"], tidy(out)["data"]["image/png"]
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"), int) for png in (drawn, kept)]
    height, width, _ = pictures[0].shape
    assert out["metadata"]["image/png"] == {"width": width // 2, "height": height // 2} and width > 500
    assert np.abs(pictures[0] - pictures[1]).max() <= 2 and len(kept) < 0.7 * len(drawn)


def test_outside_a_notebook_the_style_needs_no_ipython():
    code = "import sys; from celeba_nb.style import use_style; use_style(); print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr


def test_words_in_pictures_are_large_enough():
    "Nine points are 12 pixels of the site's page, if the picture is not wider than its column, which would shrink it."
    cells = [(name_of(path), cell) for path in notebooks() for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    sizes = re.compile(r"(?:font|label|title)size=(\d+)|\.text\(.*\bsize=(\d+)")
    assert [(name, found[0]) for name, cell in cells for found in sizes.finditer(source(cell))
            if int(found[1] or found[2]) < 9] == []
    shown = [(name, output["metadata"]["image/png"]["width"]) for name, cell in cells for output in cell["outputs"]
             if "image/png" in output.get("data", {})]
    assert len(shown) > 150 and [each for each in shown if each[1] > 920] == []
