"""The drawings of the lessons, as SVG files (python -m tools.drawings): one style, for light pages and dark ones.

Each is 390 pixels wide, so that it can be read on a phone. Text and lines have the grey of the plots, which is legible on
white and on the site's dark page; areas are its colours, half transparent.
"""
from html import escape
from pathlib import Path

import pandas as pd

from celeba_nb.study import EFFECTS, STUDY_METHODS
from celeba_nb.style import GREY, PALETTE
from tools.notebooks import ROOT

FOLDER = ROOT / "nbs" / "drawings"
BLUE, ORANGE, GREEN, PINK = PALETTE[:4]
ARROW = ('<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
         f'<path d="M0 0 8 4 0 8z" fill="{GREY}"/></marker>')


def text(x, y, said, size=13, anchor="middle", color=GREY, bold=False):
    "A line of text; its middle is at x, or its start."
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(said)}</text>'


def box(x, y, width, height, color, said=(), opacity=0.16, size=13):
    "A coloured box with lines of text in its middle."
    lines = [said] if isinstance(said, str) else said
    top = y + height / 2 - 8 * (len(lines) - 1) + size / 3
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{color}" fill-opacity="{opacity}" '
            f'stroke="{color}"/>' + "".join(text(x + width / 2, top + 16 * i, line, size) for i, line in enumerate(lines)))


def arrow(x, y, to_x, to_y):
    "A straight arrow."
    return f'<path d="M{x} {y}L{to_x} {to_y}" stroke="{GREY}" stroke-width="1.8" fill="none" marker-end="url(#tip)"/>'


def line(points, color, width=2, dashes=""):
    "A line through points."
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="{path}" stroke="{color}" stroke-width="{width}" fill="none" stroke-dasharray="{dashes}"/>'


def dot(x, y, color, radius=5):
    "A filled circle."
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>'


def grid(x, y, rows, cell, chosen=()):
    "A table of numbers; the chosen cells are coloured."
    parts = []
    for i, row in enumerate(rows):
        for j, number in enumerate(row):
            color, opacity = (ORANGE, 0.22) if (i, j) in chosen else (BLUE, 0.05)
            parts.append(box(x + j * cell, y + i * cell, cell, cell, color, str(number), opacity, 12))
    return "".join(parts)


def kernel():
    "A kernel's window with its products."
    image = [[8, 8, 8, 8, 8], [8, 8, 8, 8, 8], [8, 8, 8, 8, 8], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    weights = [["1", "1", "1"], ["0", "0", "0"], ["−1", "−1", "−1"]]
    window = {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    answer = [["0", "0", "0"], ["21", "21", "21"], ["21", "21", "21"]]
    parts = [text(75, 18, "image"), grid(10, 28, image, 26, window), text(160, 98, "×", 18),
             text(218, 44, "kernel"), grid(179, 54, weights, 26, {(i, j) for i in range(3) for j in range(3)}),
             text(278, 98, "=", 18), text(335, 44, "result"), grid(296, 54, answer, 26, {(1, 1)}),
             text(195, 186, "8·1 + 8·1 + 8·1 + 8·0 + 8·0 + 8·0"), text(195, 204, "+ 1·(−1) + 1·(−1) + 1·(−1) = 21")]
    return 214, ("A kernel of 3×3 weights lies on a window of 3×3 pixels: the nine products are added up to one number of the "
                 "result. Where bright lies above dark the sum is large, and elsewhere 0."), parts


def network():
    "The network as shrinking blocks."
    blocks = [(18, 118, "3", "64×64"), (26, 92, "16", "32×32"), (34, 66, "32", "16×16"), (42, 42, "64", "8×8")]
    parts, x = [], 22
    for i, (width, height, channels, size) in enumerate(blocks):
        parts += [box(x, 80 - height / 2, width, height, BLUE if i else GREEN), text(x + width / 2, 156, channels),
                  text(x + width / 2, 172, size, 12)]
        x += width + 32
        parts.append(arrow(x - 28, 80, x - 4, 80))
    parts += [box(x, 40, 14, 80, ORANGE), text(x + 7, 156, "128"), arrow(x + 18, 80, x + 44, 80), box(x + 48, 50, 14, 60, ORANGE),
              text(x + 55, 156, "40"), text(x + 55, 172, "logits", 12), text(125, 198, "convolution, ReLU, max-pooling"),
              text(x + 28, 198, "linear layers")]
    return 208, ("The network: an image of 3 channels of 64×64 numbers, then three blocks of 16, 32 and 64 channels whose maps "
                 "have half the side each time, then 128 numbers, and 40 logits."), parts


def step():
    "Loss, gradient, step."
    curve = [(20 + i, 40 + 110 * (1 - ((i - 130) / 130) ** 2)) for i in range(261)]
    at, slope = 40, -2 * 110 * (40 - 130) / 130**2
    x, y = 20 + at, 40 + 110 * (1 - ((at - 130) / 130) ** 2)
    new = at + 55
    parts = [line(curve, GREY, 1.5), line([(x - 28, y - 28 * slope), (x + 28, y + 28 * slope)], ORANGE, 2.5),
             dot(x, y, BLUE, 7), dot(20 + new, 40 + 110 * (1 - ((new - 130) / 130) ** 2), BLUE, 5),
             arrow(x + 12, y - 12, 20 + new, 40 + 110 * (1 - ((new - 130) / 130) ** 2) - 12),
             text(118, 62, "step = − lr × slope", 13, "start"), text(16, y + 40, "slope", 13, "start", ORANGE),
             text(150, 176, "weight"), text(300, 44, "1  loss", 14, "start", GREY, True),
             text(300, 74, "2  gradient", 14, "start", GREY, True), text(300, 104, "3  step", 14, "start", GREY, True),
             text(300, 134, "and again", 13, "start"), text(12, 24, "loss", 13, "start")]
    return 186, ("A valley: the loss as a function of one weight. At the weight's place the slope is measured, and the weight "
                 "takes a step against it: loss, gradient, step, and again."), parts


def batch():
    "JPEG, cache, batch."
    parts = [box(10, 40, 78, 56, GREEN, ["000001", ".jpg"]), arrow(92, 68, 130, 68), text(111, 58, "once", 12),
             box(134, 28, 100, 80, BLUE, ["pixels, 64×64", "0 to 255", "kept on disk"], size=12), arrow(238, 68, 276, 68),
             text(257, 58, "often", 12), box(280, 28, 100, 80, ORANGE, ["32 images", "−1 to 1", "shuffled"], size=12),
             text(49, 128, "image file"), text(184, 128, "cache"), text(330, 128, "batch")]
    return 138, ("An image file is decoded and resized once; its pixels are kept in a cache; from there batches of 32 shuffled "
                 "images, scaled to −1 to 1, are made in each epoch."), parts


def splits():
    "Training, validation and test."
    parts = [box(10, 30, 220, 44, BLUE, "training"), box(238, 30, 66, 44, GREEN, "validation", size=12),
             box(312, 30, 68, 44, ORANGE, "test"), text(120, 98, "the weights learn from it"), text(271, 98, "you choose"),
             text(271, 114, "with it"), text(346, 98, "judges,"), text(346, 114, "once"),
             text(195, 146, "no person is in two of them"),
             text(195, 18, "all labelled images")]
    return 156, ("All labelled images in three parts: the weights learn from the training images, you choose between networks "
                 "with the validation images, and the test images judge once. No person is in two parts."), parts


def paired():
    "Paired seeds."
    base, flip = [118, 74, 100, 56, 92], [100, 62, 76, 46, 84]
    parts = [text(12, 22, "accuracy", 13, "start")]
    for i, (a, b) in enumerate(zip(base, flip)):
        x = 40 + 52 * i
        parts += [line([(x - 10, a), (x + 10, b)], GREY, 1.5), dot(x - 10, a, BLUE, 6), dot(x + 10, b, ORANGE, 6),
                  text(x, 146, f"seed {i}", 12)]
    parts += [dot(300, 50, BLUE, 6), text(312, 54, "without", 13, "start"), dot(300, 76, ORANGE, 6),
              text(312, 80, "with flips", 13, "start"), text(195, 172, "The seeds differ more than the methods do;"),
              text(195, 190, "within each seed, flips win.")]
    return 200, ("Five seeds, each trained without and with flips. The seeds differ more than the methods; but in each pair the "
                 "run with flips is higher."), parts


def teacher():
    "Teacher and student."
    parts = [box(10, 24, 104, 46, GREEN, ["1,000 faces", "with labels"], size=12), arrow(118, 47, 152, 47),
             box(156, 24, 84, 46, BLUE, "teacher"), box(10, 112, 104, 46, GREEN, ["many faces", "without"], 0.05, 12),
             arrow(118, 126, 172, 76), arrow(216, 74, 272, 122), text(262, 88, "its answers", 12, "start"),
             arrow(118, 144, 272, 144), box(276, 112, 100, 46, ORANGE, "student"),
             text(195, 188, "The student learns from the labels and from the answers.")]
    return 198, ("A teacher learns from labelled faces and answers for faces without labels; a student learns from the "
                 "labels and from the teacher's answers."), parts


def result():
    "The study on real faces: the difference of each pair of runs, and the interval of each effect."
    runs = pd.read_csv(ROOT / "nbs/results/study_runs.csv").pivot(index="seed", columns="method", values="test_accuracy")
    effects = pd.read_csv(ROOT / "nbs/results/study_effects.csv").query("outcome == 'test_accuracy'").set_index("effect")
    assert effects["verdict"].tolist() == ["helps", "the same within 0.002", "no difference seen"], "change the title, too"
    parts = [text(14, 22, "A random flip helps. The lower rate leaves", 15, "start", bold=True),
             text(14, 42, "accuracy the same within 0.2 points.", 15, "start", bold=True)]

    def at(points):
        return 180 + 230 * points

    for row, (name, weights) in enumerate(EFFECTS.items()):
        effect, y, color = effects.loc[name], 78 + 66 * row, BLUE if row == 0 else GREY
        each = 100 * (runs[list(STUDY_METHODS)].to_numpy() @ weights)
        said = effect.verdict.replace("within 0.002", "within 0.2 points")
        parts += [text(14, y, f"{name}: {100 * effect['mean']:+.2f} points, {said}".replace("-", "−"), 13, "start", color),
                  line([(14, y + 44), (376, y + 44)], GREY, 0.5), line([(at(0), y + 8), (at(0), y + 44)], GREY, 1)]
        parts += [f'<circle cx="{at(d):.1f}" cy="{y + 15 + i % 3 * 5}" r="2.5" fill="{GREY}" fill-opacity="0.6"/>'
                  for i, d in enumerate(each)]
        parts += [line([(at(100 * effect.low), y + 35), (at(100 * effect.high), y + 35)], color, 4),
                  f'<circle cx="{at(100 * effect["mean"]):.1f}" cy="{y + 35}" r="5" fill="{color}"/>']
    parts += [text(at(x / 10), 272, f"{x / 10:+.1f}".replace("-", "−") if x else "0", 12) for x in range(-6, 9, 2)]
    parts += [text(at(-0.4), 292, "← hurts", 12), text(at(0.4), 292, "helps →", 12),
              text(at(0), 310, "points of test accuracy", 12),
              text(195, 328, f"a dot: one of {len(runs)} pairs of runs; bar: 95% interval", 12)]
    return 338, ("The effects on the test accuracy, on real faces: the flip helps, with the lower learning rate the accuracy is "
                 "the same within 0.2 points, and of the interaction no difference is seen."), parts


DRAWINGS = [kernel, network, step, batch, splits, paired, teacher]


def svg(draw, width=390):
    "A drawing as the text of its file."
    height, title, parts = draw()
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img" aria-labelledby="title" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n'
            f'<title id="title">{escape(title)}</title>\n<defs>{ARROW}</defs>\n' + "\n".join(parts) + "\n</svg>\n")


def write_drawings(folder: Path = FOLDER, drawings=DRAWINGS):
    "Write all drawings."
    folder.mkdir(exist_ok=True)
    for draw in drawings:
        (folder / f"{draw.__name__}.svg").write_text(svg(draw), encoding="utf-8")


if __name__ == "__main__":
    write_drawings()
    write_drawings(ROOT / "docs", [result])
