"""Make what the site's demo shows: a small network, trained on drawn faces, and the faces (python -m tools.demo).

Everything is drawn by the package, so it may be published. On one core, drawing the 6,000 faces takes about 7 minutes and
training about 6 (beside other work); both are kept in runs/demo, which is not committed. With --pictures, only the two pictures
are drawn again, from the numbers in demo.json.
"""
import argparse
import json

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from celeba_nb.answers import calibrate, calibrated_net, never_looking
from celeba_nb.core import ATTRIBUTES, IMAGE_SIZE
from celeba_nb.drawing import attribute_mask, draw
from celeba_nb.export import FromPixels, export_onnx
from celeba_nb.files import read_celeba
from celeba_nb.images import open_image, resize
from celeba_nb.metrics import accuracy
from celeba_nb.recipe import Recipe
from celeba_nb.sketch import make_sketch, plan_faces, sketch_face
from celeba_nb.style import GREY, PALETTE, percent_axis, styled
from celeba_nb.training import train
from tools.notebooks import ROOT

FOLDER = ROOT / "docs" / "_static" / "demo"
RUNS = ROOT / "runs" / "demo"
COUNTS = {"train": 4000, "valid": 1000, "test": 1000}
STEPS = [["celeba_nb.augment.random_flip", {}], ["celeba_nb.augment.random_cutout", {"share": 0.25}]]
RECIPE = Recipe(
    train_images=None, size=64, model="celeba_nb.model.ResNet", model_args={"channels": [16, 24, 32, 48]},
    augment="celeba_nb.augment.compose", augment_args={"steps": STEPS}, optimizer="AdamW", lr=0.003, weight_decay=0.05,
    schedule="cosine", warmup=100, epochs=24, valid_every=4, device="cpu", precision="float32", threads=1)

# Whom the demo shows: people of another set, so the network has never seen them. Each is drawn with all 256 combinations.
PEOPLE = {27: "woman with long brown hair", 96: "man with black hair", 12: "woman with black hair in a bun",
          64: "man with a tie and earrings"}
SWITCHES = ["Eyeglasses", "Wearing_Hat", "Smiling", "Mouth_Slightly_Open", "Wearing_Lipstick", "Mustache", "Blond_Hair", "Bangs"]
EXCLUDES = {"Mustache": ["No_Beard"], "Blond_Hair": ["Black_Hair", "Brown_Hair", "Gray_Hair"]}
COLUMNS, PER_FILE = 8, 64  # of a person's pictures: a browser takes too long to decode all 256 at once
GREY_PAINT = (128, 128, 128)  # as random_cutout paints


def data():
    "The labels of the drawn faces, drawn where they aren't there."
    root = RUNS / "faces"
    return read_celeba(root if root.exists() else make_sketch(root, **COUNTS, seed=7))


def people():
    "The faces of PEOPLE, with every switch off."
    planned = plan_faces((200, 1, 1), seed=8)
    return [planned[i].change(*SWITCHES, to=False).change("No_Beard", to=True) for i in PEOPLE]


def switch(face, names):
    "A face with some switches on, and without what they exclude."
    for name in names:
        face = face.change(name, to=True).change(*EXCLUDES.get(name, []), to=False)
    return face


def tile(face, number):
    "The picture of a face with the switches on that are the bits of a number."
    return draw(switch(face, [name for i, name in enumerate(SWITCHES) if number >> i & 1]))


def path_of(i, part):
    "The file of a person's pictures from 64 × part on."
    return FOLDER / f"person_{i}_{part}.webp"


def write_sheets(face, i):
    "All combinations of a face, 64 in a picture, row by row."
    width, height = IMAGE_SIZE
    for part in range(2 ** len(SWITCHES) // PER_FILE):
        sheet = Image.new("RGB", (COLUMNS * width, PER_FILE // COLUMNS * height))
        for k in range(PER_FILE):
            sheet.paste(tile(face, part * PER_FILE + k), (k % COLUMNS * width, k // COLUMNS * height))
        sheet.save(path_of(i, part), quality=66, method=6)


def saved_tile(person, number):
    "A picture from a person's sheets, as the browser sees it."
    part, k = divmod(number, PER_FILE)
    sheet = Image.open(path_of([*PEOPLE][person], part)).convert("RGB")
    width, height = IMAGE_SIZE
    x, y = k % COLUMNS * width, k // COLUMNS * height
    return sheet.crop((x, y, x + width, y + height))


def box(*masks):
    "The smallest box around some masks: (x, y, width, height)."
    rows, columns = np.nonzero(np.any(masks, axis=0))
    return [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


def cover(image, place, down=0):
    "A picture with a grey box on it, which may be moved down."
    x, y, width, height = place
    covered = image.copy()
    covered.paste(GREY_PAINT, (x, y + down, x + width, y + height + down))
    return covered


def ask(run, images):
    "The probabilities of some pictures, (n, 40)."
    pixels = torch.stack([resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), RECIPE.size) for image in images])
    with torch.inference_mode():
        return FromPixels(calibrated_net(run)).eval()(pixels).numpy()


def describe(face, words, file):
    "What the page needs to know of a person."
    image, (x, y, *_) = np.array(draw(face)), box(attribute_mask(face, "Eyeglasses"))
    return {"words": words, "file": file, "attributes": sorted(face.attributes), "skin": image[y - 8, x + 40].tolist(),
            "glasses": box(attribute_mask(face, "Eyeglasses")),
            "mouth": box(attribute_mask(face, "Mouth_Slightly_Open"), attribute_mask(face, "Wearing_Lipstick"))}


def try_covering(run, labels):
    "What the network says about glasses that are covered, and about a box of the same size below them."
    rows = run.predictions["test_rows"][run.predictions["test_truth"][:, ATTRIBUTES.index("Eyeglasses")]]
    faces = [sketch_face(labels.root, int(row) + 1) for row in rows]
    places = [box(attribute_mask(face, "Eyeglasses")) for face in faces]
    files = [labels.images.read(labels.attributes.index[row]) for row in rows]  # a new drawing differs: JPEG loses a little
    images = [Image.fromarray(open_image(file)) for file in files]
    asked = {"before": images, "covered": [cover(*pair) for pair in zip(images, places)],
             "below": [cover(*pair, down=60) for pair in zip(images, places)]}
    said = {name: ask(run, pictures)[:, ATTRIBUTES.index("Eyeglasses")] for name, pictures in asked.items()}
    return {"faces": len(faces)} | {name: {"mean": float(p.mean()), "yes": int((p > 0.5).sum())} for name, p in said.items()}


def above(p, truth):
    "How many probabilities of faces that have it are above each hundredth from 0 to 1, for each attribute."
    grid = np.arange(101) / 100
    return [(p[truth[:, a], a, None] > grid).sum(0).tolist() for a in range(p.shape[1])]


def facts(run, labels):
    "All numbers of the page."
    p, truth = calibrate(run, run.predictions["test"]), run.predictions["test_truth"].astype(bool)
    rates = labels.attributes.to_numpy()[labels.rows("train")].mean(0)
    faces = people()
    grey = draw(faces[0]).convert("L").crop((0, 20, 178, 198)).resize((34, 34), Image.Resampling.BOX)
    return {
        "made_by": "python -m tools.demo", "attributes": list(ATTRIBUTES), "rates": [round(float(rate), 4) for rate in rates],
        "faces": len(p), "accuracy": float(accuracy(p, truth)), "never_looking": float(never_looking(run, labels)),
        "temperature": run.temperature, "positives": truth.sum(0).tolist(), "found": above(p, truth), "false": above(p, ~truth),
        "size": IMAGE_SIZE, "columns": COLUMNS, "per_file": PER_FILE, "switches": SWITCHES, "excludes": EXCLUDES,
        "people": [describe(face, words, f"person_{i}") for face, (i, words) in zip(faces, PEOPLE.items())],
        **dict(zip(("asked", "asked_covered"), ask(run, still()).tolist())), "covering": try_covering(run, labels),
        "smiles": round(float(rates[ATTRIBUTES.index("Smiling")]), 4),
        "kernel_face": {"side": 34, "pixels": np.array(grey).ravel().tolist()}}


def still():
    "The first person with glasses and with a box over them, in the pixels that the browser sees."
    face = saved_tile(0, 1)
    return [face, cover(face, box(attribute_mask(people()[0], "Eyeglasses")))]


@styled
def picture(asked, path):
    "What stands in the place of the demo: a face, the same with covered glasses, and some answers about both."
    names = ["Eyeglasses", "Smiling", "Wearing_Hat", "Wearing_Lipstick", "Brown_Hair", "Young"]
    figure = plt.figure(figsize=(4, 5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.2])
    faces, bars = top.subplots(1, 2), bottom.subplots()
    for k, (image, title, said, color) in enumerate(zip(still(), ("with glasses", "glasses covered"), asked, PALETTE)):
        p = [said[ATTRIBUTES.index(name)] for name in names]
        faces[k].imshow(image)
        faces[k].axis("off")
        faces[k].set_title(title)
        drawn = bars.barh([i + 0.4 * k for i in range(len(names))], p, 0.38, color=color, label=title)
        bars.bar_label(drawn, fmt="{:.0%}", padding=3, color=GREY)
    bars.set(xlim=(0, 1.15), xticks=[0, 0.5, 1], yticks=[i + 0.2 for i in range(len(names))],
             yticklabels=[name.replace("_", " ") for name in names], xlabel="probability of yes")
    bars.legend(loc=(0.3, 0.63))  # beside the two short pairs
    bars.grid(False)
    bars.invert_yaxis()
    percent_axis(bars.xaxis)
    figure.savefig(path, dpi=150)


@styled
def heaps_picture(known, path):
    "What stands in the place of the heaps."
    figure, ax = plt.subplots(figsize=(4, 2.6), layout="constrained")
    for counts, color, name in (("false", GREY, "faces without it"), ("found", PALETTE[1], "faces that have it")):
        heap = -np.diff(known[counts][ATTRIBUTES.index("Eyeglasses")][::4])  # of how many the probability is in each bin
        ax.stairs(heap / heap.sum(), np.linspace(0, 1, 26), fill=True, alpha=0.6, color=color, label=name)
    ax.axvline(0.5, color=GREY, linestyle=":")
    ax.set(title="Eyeglasses: two heaps, and a threshold", xlabel="probability of yes", yticks=[])
    ax.legend()
    percent_axis(ax.xaxis)
    figure.savefig(path, dpi=150)


def pictures():
    "What stands in the place of the demo where it can't run."
    known = json.loads((FOLDER / "demo.json").read_text(encoding="utf-8"))
    picture([known["asked"], known["asked_covered"]], ROOT / "docs" / "demo.png")
    heaps_picture(known, ROOT / "docs" / "demo_heaps.png")


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="draw only the pictures")
    if parser.parse_args().pictures:
        return pictures()
    labels = data()
    run = train(RECIPE, labels, RUNS / "run")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for face, i in zip(people(), PEOPLE):
        write_sheets(face, i)
    export_onnx(run, FOLDER / "network.onnx")
    (FOLDER / "demo.json").write_text(json.dumps(facts(run, labels), separators=(",", ":")) + "\n", encoding="utf-8")
    pictures()


if __name__ == "__main__":
    main()
