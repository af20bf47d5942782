"Ctrl-C while a picture is drawn: it waits for the picture, and is not lost."
import subprocess
import sys

from tools.notebooks import ROOT

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
