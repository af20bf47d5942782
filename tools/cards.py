"""The drawings on the home page's cards of those lessons whose own plots would be illegible there (make docs).

Each is 320 by 200 pixels, about as large as a card shows it, in the style of the lessons' drawings (tools/drawings.py). Where a
lesson measures something, its card shows the measured numbers.
"""
import json
from itertools import product

import numpy as np
import pandas as pd

from celeba_nb.study import EFFECTS, STUDY_METHODS
from tools.drawings import BLUE, GREEN, GREY, ORANGE, arrow, box, dot, line, text
from tools.notebooks import ROOT

RESULTS = ROOT / "nbs" / "results"
WIDTH, HEIGHT, SIZE = 320, 200, 15
RUST = "#b34f00"  # words about what is orange: that has too little contrast for them


def axes(bottom=170):
    "The axes of a plot."
    return line([(24, 14), (24, bottom), (306, bottom)], GREY, 1.2)


def dotted(points, color):
    "A line through dots."
    return [line(points, color, 2.5), *(dot(x, y, color) for x, y in points)]


def scaled(values, low, high, top=20, bottom=160):
    "Where values stand between the top and the bottom of a plot."
    return [bottom - (bottom - top) * (value - low) / (high - low) for value in values]


def pairs(effect):
    "What an effect of the study is worth, seed by seed, in points of test accuracy."
    runs = pd.read_csv(RESULTS / "study_runs.csv").pivot(index="seed", columns="method", values="test_accuracy")
    return 100 * (runs[list(STUDY_METHODS)].to_numpy() @ EFFECTS[effect])


def tour():
    "A network learns."
    curve = list(zip(np.linspace(24, 300, 6), (150, 78, 70, 55, 46, 42)))
    parts = [axes(), line([(24, 86), (306, 86)], GREY, 1.8, "7 5"), *dotted(curve, BLUE),
             text(300, 28, "the network", SIZE, "end", BLUE), text(300, 106, "never looking", SIZE, "end"),
             text(165, 192, "epochs", SIZE)]
    return HEIGHT, "The accuracy of a network rises from epoch to epoch, and passes that of never looking", parts


def loop():
    "Two curves part."
    x = np.linspace(0, 1, 40)
    learned, unseen = 160 - 118 * np.exp(-3 * x), 160 - 118 * np.exp(-5 * x) - 105 * x**2.2
    across = 24 + 276 * x
    parts = [axes(), line(zip(across, learned), BLUE, 2.5), line(zip(across, unseen), ORANGE, 2.5),
             text(296, 136, "training", SIZE, "end", BLUE), text(232, 66, "validation", SIZE, "end", RUST),
             text(32, 28, "loss", SIZE, "start"), text(165, 192, "epochs", SIZE)]
    return HEIGHT, "The training loss falls, while the validation loss turns and rises", parts


def heaps():
    "Two heaps of probabilities, and a threshold."
    facts = json.loads((ROOT / "docs/_static/demo/demo.json").read_text(encoding="utf-8"))
    a, parts = facts["attributes"].index("Smiling"), [axes()]
    for name, color in (("false", GREY), ("found", ORANGE)):
        counts = -np.diff(facts[name][a][::5])
        for i, share in enumerate(counts / counts.max()):
            parts.append(f'<rect x="{26 + 14 * i}" y="{170 - 110 * share:.1f}" width="13" height="{110 * share:.1f}" '
                         f'fill="{color}" fill-opacity="0.6"/>')
    parts += [line([(166, 14), (166, 170)], GREY, 1.8, "3 4"), text(100, 40, "no smile", SIZE),
              text(236, 40, "smile", SIZE, color=RUST), text(165, 192, "probability of a smile", SIZE)]
    return HEIGHT, "Probabilities of faces that smile and of faces that don't: two heaps, and a threshold between them", parts


def effects():
    "What two changes do, seed by seed."
    table = pd.read_csv(RESULTS / "study_effects.csv").query("outcome == 'test_accuracy'").set_index("effect")
    parts = [line([(126, 14), (126, 186)], GREY, 1.2)]
    for name, y, color, said in (("flip", 26, BLUE, "helps"), ("lower rate", 116, GREY, "the same")):
        effect = table.loc[name]
        ends = [126 + 210 * 100 * effect[end] for end in ("low", "high", "mean")]
        parts += [text(14, y, name, SIZE, "start", color), text(308, y, said, SIZE, "end", color)]
        parts += [f'<circle cx="{126 + 210 * d:.1f}" cy="{y + 18 + i % 3 * 8}" r="3.5" fill="{GREY}" fill-opacity="0.6"/>'
                  for i, d in enumerate(pairs(name))]
        parts += [line([(ends[0], y + 56), (ends[1], y + 56)], color, 5), dot(ends[2], y + 56, color, 7)]
    return HEIGHT, "Pair by pair, what two changes do to the accuracy: the flip helps, the lower rate changes little", parts


def chance():
    "What chance alone would do."
    real = pairs("flip")[:8]
    counts, edges = np.histogram((np.array([*product([-1, 1], repeat=8)]) * real).mean(1), bins=21)
    parts, place = [axes()], 24 + 270 * (real.mean() - edges[0]) / (edges[-1] - edges[0])
    for count, x in zip(counts, np.linspace(26, 290, 22)):
        parts.append(f'<rect x="{x:.1f}" y="{170 - 130 * count / counts.max():.1f}" width="11.5" '
                     f'height="{130 * count / counts.max():.1f}" fill="{GREY}" fill-opacity="0.5"/>')
    parts += [line([(place, 34), (place, 170)], ORANGE, 3), text(306, 26, "measured", SIZE, "end", RUST),
              text(32, 26, "by chance", SIZE, "start"), text(165, 192, "mean effect", SIZE)]
    return HEIGHT, "What the mean effect would be by chance: a heap around 0; the measured one is at its end", parts


def stages():
    "Seconds of an epoch, stage by stage."
    seconds = pd.read_csv(RESULTS / "speed_stages.csv").mean()
    parts = []
    for i, mean in enumerate(seconds):
        y, width = 12 + 26 * i, 212 * mean / seconds.max()
        last = i == len(seconds) - 1
        parts.append(f'<rect x="12" y="{y}" width="{width:.1f}" height="18" rx="3" fill="{BLUE if last else GREY}" '
                     f'fill-opacity="{1 if last else 0.45}"/>')
        if i in (0, len(seconds) - 1):
            parts.append(text(20 + width, y + 14, f"{mean:.1f} s", SIZE, "start", BLUE if last else GREY))
    parts.append(text(308, 110, "the same result", SIZE, "end"))
    return HEIGHT, f"Seconds for the same work in seven versions: from {seconds.iloc[0]:.1f} to {seconds.iloc[-1]:.1f}", parts


def shortcut():
    "A residual block."
    parts = [box(66, 100, 76, 44, BLUE, "conv", size=SIZE), box(174, 100, 76, 44, BLUE, "conv", size=SIZE),
             arrow(18, 122, 62, 122), arrow(144, 122, 170, 122), arrow(252, 122, 274, 122), arrow(294, 122, 314, 122),
             f'<circle cx="284" cy="122" r="9" fill="none" stroke="{ORANGE}" stroke-width="2"/>',
             f'<path d="M36 122C36 30 284 30 284 110" stroke="{ORANGE}" stroke-width="2.5" fill="none"/>',
             text(284, 127, "+", SIZE, color=RUST),
             text(160, 42, "shortcut", SIZE, color=RUST), text(160, 178, "a residual block", SIZE)]
    return HEIGHT, "A residual block: two convolutions, and a shortcut around them that is added to their result", parts


def labels():
    "More labels, fewer errors."
    runs = pd.read_csv(RESULTS / "few_labels_curve.csv").groupby("method")["test_accuracy"].mean().sort_index()
    never = pd.read_csv(RESULTS / "never_looking.csv")["test_accuracy"][0]
    across = 44 + 236 * (np.log10(runs.index.to_numpy(float)) - 2) / 2
    *marks, base = scaled([*runs, never], 0.77, 0.90)
    curve = list(zip(across, marks))
    parts = [axes(), line([(24, base), (306, base)], GREY, 1.8, "7 5"), *dotted(curve, BLUE),
             text(34, 30, "accuracy", SIZE, "start"), text(304, base + 19, "never looking", SIZE, "end"),
             text(44, 192, "100", SIZE), text(160, 192, "labels", SIZE), text(280, 192, "10,000", SIZE)]
    return HEIGHT, "The accuracy on real faces with 100 to 10,000 labels: it rises less and less", parts


def shards():
    "One batch, four processes, one gradient."
    parts = [box(12, 78, 64, 44, BLUE, "batch", size=SIZE), box(244, 78, 64, 44, ORANGE, "mean", size=SIZE)]
    for y in (20, 66, 112, 158):
        parts += [arrow(80, 100, 120, y + 11), box(124, y - 6, 74, 34, GREEN, "¼", size=SIZE), arrow(202, y + 11, 240, 100)]
    return HEIGHT, "A batch is shared among four processes, and their gradients become one mean", parts


def noise():
    "Wrong labels."
    table = pd.read_csv(RESULTS / "limits_noise.csv").groupby("noise")[["clean_test", "noisy_test"]].mean()
    parts, across = [axes()], 34 + 256 * table.index.to_numpy() / table.index.max()
    for column, color in (("clean_test", BLUE), ("noisy_test", ORANGE)):
        parts += dotted(list(zip(across, scaled(table[column], 0.5, 0.92))), color)
    parts += [text(300, 22, "training labels wrong", SIZE, "end", BLUE), text(176, 150, "test labels, too", SIZE, "end", RUST),
              text(165, 192, "share of wrong labels", SIZE)]
    return HEIGHT, "The accuracy falls a little with wrong training labels, and a lot with wrong test labels", parts


CARDS = {"00_tour": tour, "03_loop": loop, "04_metrics": heaps, "05_ablation": effects, "05a_evidence": chance,
         "06_speed": stages, "08_architectures": shortcut, "09_few_labels": labels, "10_scale": shards,
         "13_limits": noise}
