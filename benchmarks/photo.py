r"""How well are faces found and aligned in photos? Aligned test images of CelebA, put anywhere in a canvas, found again.

    celeba-nb train --root "$CELEBA_ROOT" --model celeba_nb.model.ResNet \
        --model-args '{"channels": [16, 48, 96, 128]}' --size 64 --epochs 12 --lr 0.002 \
        --schedule cosine --optimizer AdamW --weight-decay 0.05 --augment celeba_nb.augment.compose --augment-args \
        '{"steps": [["celeba_nb.augment.random_flip", {}], ["celeba_nb.augment.random_affine", {}]]}' --out runs/photo
    python benchmarks/photo.py --root "$CELEBA_ROOT" --model runs/photo --out nbs/results

It needs the extra `photo`. Written: photo.csv (a row a way to cut the face out), photo_found.json (how faces were found,
seconds), photo_groups.json (three people in one photo) and photo_frame.json (which points decide CelebA's frame).
Numbers only, no images. `--images 0`, `--groups 0` and `--frame-images 0` leave out a part.
Seconds are the processor's, so another program at work doesn't count; run it with OMP_NUM_THREADS=1.
"""
import argparse
import io
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.optimize import minimize

from celeba_nb.core import IMAGE_SIZE, progress_bar
from celeba_nb.data import find_root
from celeba_nb.detection import centre_crop, load_dlib, put_face, random_place, warp_crop
from celeba_nb.files import read_celeba
from celeba_nb.metrics import bootstrap_interval
from celeba_nb.photo import FRAME_POINTS, align, find_faces, fit_similarity, predict_images
from celeba_nb.run import describe_machine, load

GROUPS = {"jaw": range(17), "brows": range(17, 27), "bridge of the nose": range(27, 31), "tip of the nose": range(31, 36),
          "eyes": range(36, 48), "corners of the mouth": [48, 54], "upper lip": [49, 50, 51, 52, 53],
          "lower lip": range(55, 60), "inside of the lips": range(60, 68)}
GRID = np.array([x + 1j * y for x in (40, 89, 138) for y in (60, 109, 158)])  # where an error of the frame is measured


def read(labels, row):
    "An aligned image, (218, 178, 3)."
    return np.array(Image.open(io.BytesIO(labels.read(row))).convert("RGB"))


def landmarks(image):
    "The 68 points of an aligned image, complex; None where the detector finds no face."
    dlib, detector, points = load_dlib()
    boxes = [box for box in detector(image, 1) if box.width() > 60]
    if not boxes:
        return None
    return np.array([complex(p.x + 0.5, p.y + 0.5) for p in points(image, max(boxes, key=dlib.rectangle.width)).parts()])


def frame_error(shapes, mean, weights):
    "Pixels off, image by image, when the mean shape is fitted with these weights: 0 is the official frame."
    fits = [fit_similarity(shape, mean, weights) for shape in shapes]
    return np.array([np.abs(fit(GRID) - GRID).mean() for fit in fits])


def spread(group_weights):
    "Weights of the 68 points: a group's weight is shared by its points."
    weights = np.zeros(68)
    for value, points in zip(group_weights, GROUPS.values()):
        weights[list(points)] = value / len(points)
    return weights / weights.sum()


def study_frame(labels, images):
    "Which points decide the frame? Weights learned on three quarters of some training images, judged on the rest."
    found = [landmarks(read(labels, row)) for row in progress_bar(labels.rows("train")[:images], desc="landmarks")]
    shapes = np.array([shape for shape in found if shape is not None])
    learn, judge = shapes[: len(shapes) * 3 // 4], shapes[len(shapes) * 3 // 4 :]
    mean = learn.mean(0)

    def loss(logs):
        return (frame_error(learn[::3], mean, spread(np.exp(logs))) ** 2).mean()

    best = np.exp(minimize(loss, np.zeros(len(GROUPS)), method="L-BFGS-B", bounds=[(-9, 3)] * len(GROUPS)).x)
    best /= best.sum()
    choices = {"eyes": {"eyes": 1}, "all 68 points": {name: len(points) for name, points in GROUPS.items()},
               "eyes and nose": {"eyes": 2, "tip of the nose": 1},
               "eyes, nose, corners of the mouth": {"eyes": 2, "tip of the nose": 1, "corners of the mouth": 2},
               "eyes and corners of the mouth": {"eyes": 2, "corners of the mouth": 2},
               "learned weights": dict(zip(GROUPS, best))}
    errors = {name: frame_error(judge, mean, spread([some.get(group, 0) for group in GROUPS])).mean()
              for name, some in choices.items()}
    eyes_mouth = [mean[36:42].mean(), mean[42:48].mean(), mean[48], mean[54]]
    return {"images": len(shapes), "not_found": len(found) - len(shapes), "weights": dict(zip(GROUPS, best)),
            "error_by_points": errors, "points": [[z.real, z.imag] for z in eyes_mouth]}


def eyes_only(photo, points):
    "The usual way: the eyes alone, once."
    return warp_crop(photo, fit_similarity(points[:2], FRAME_POINTS[:2]))


def error(to_frame, place):
    "Pixels off in the frame, on average over the grid."
    return float(np.abs(to_frame(place(GRID)) - GRID).mean())


def one_photo(labels, row):
    "Make a photo, find its face, and cut it out in several ways."
    rng = np.random.default_rng([2, int(row)])
    image, place = read(labels, row), random_place(rng)
    photo = put_face(image, place, rng.integers(0, 256, 3))
    began = time.process_time()
    faces = find_faces(photo)
    seconds = time.process_time() - began
    squeezed = np.asarray(Image.fromarray(photo).resize(IMAGE_SIZE, Image.Resampling.BOX))
    pictures = {"official": image, "true transform": warp_crop(photo, place.inverse()), "centre crop": centre_crop(photo).picture,
                "whole photo squeezed": squeezed}
    about = {"row": int(row), "way": "none", "faces": len(faces), "seconds": seconds, "scale": abs(place.turn),
             "degrees": float(np.degrees(np.angle(place.turn)))}
    if faces:
        face = max(faces, key=lambda face: face.score)
        pictures |= {"found and aligned": face.picture, "eyes only": eyes_only(photo, face.points),
                     "one look": warp_crop(photo, align(photo, face.points, 1))}
        about |= {"way": face.way, "off": error(face.to_frame, place)}
    return pictures, about


def one_group(labels, rows):
    "Put people side by side in one photo: (how many were found, how many other things)."
    rng, parts, centres = np.random.default_rng([9, int(rows[0])]), [], []
    for number, row in enumerate(rows):
        place = random_place(rng)
        parts.append(put_face(read(labels, row), place, rng.integers(0, 256, 3)))
        centres.append((place(FRAME_POINTS).mean() + 900 * number, abs(place.turn)))
    found = [(face.points.mean(), face) for face in find_faces(np.hstack(parts))]
    seen = [[abs(z - centre) / scale < 30 for centre, scale in centres] for z, _ in found]  # pixels of the aligned image
    people = sum(any(one[number] for one in seen) for number in range(len(rows)))
    return people, sum(not any(one) for one in seen)


def study_groups(labels, groups, people=3):
    "How many of several people in one photo are found?"
    rows = labels.rows("test")[: groups * people].reshape(-1, people)
    found, others = zip(*[one_group(labels, some) for some in progress_bar(rows, desc="groups")])
    return {"photos": len(rows), "people": rows.size, "found": sum(found), "other_things": sum(others),
            "photos_with_all": sum(n == people for n in found)}


WAYS = ["true transform", "found and aligned", "one look", "eyes only", "centre crop", "whole photo squeezed"]


def compare(answers, truth, people):
    "A row a way: agreement with the official crop, and accuracy lost, in all that were found, with 95% intervals."
    official = answers["official"] > 0.5
    right = (official == truth).mean(1)
    table = []
    for way in WAYS:
        said = answers[way] > 0.5
        agree, lost = (said == official).mean(1), right - (said == truth).mean(1)
        bounds = [end for values in (agree, lost) for end in bootstrap_interval(values, people)]
        table.append({"way": way, "agreement": agree.mean(), "agreement_low": bounds[0], "agreement_high": bounds[1],
                      "accuracy": (said == truth).mean(), "lost": lost.mean(), "lost_low": bounds[2], "lost_high": bounds[3]})
    return pd.DataFrame(table)


def study_photos(labels, run, images):
    "The table of ways, and how the faces were found."
    rows = labels.rows("test")[:images]
    made = [one_photo(labels, row) for row in progress_bar(rows, desc="photos")]
    about = pd.DataFrame([some for _, some in made])
    there = [i for i, (pictures, _) in enumerate(made) if "found and aligned" in pictures]
    net = run.net()
    answers = {way: predict_images(net, [made[i][0][way] for i in there], run.recipe.size) for way in ["official", *WAYS]}
    truth = labels.attributes.to_numpy()[rows[there]]
    people = None if labels.identity is None else labels.identity.to_numpy()[rows[there]]
    wrong = about["off"] > 20  # pixels in the frame: something else was taken for the face, or the fit failed
    found = {"photos": len(rows), "ways": Counter(about["way"]), "more_than_one": int((about["faces"] > 1).sum()),
             "off_median": about["off"].median(), "off_95": about["off"].quantile(0.95), "far_off": int(wrong.sum()),
             "seconds": about.groupby("way")["seconds"].median().to_dict(), "seconds_mean": about["seconds"].mean(),
             "official_accuracy": ((answers["official"] > 0.5) == truth).mean(), "model": run.recipe.model,
             "size": run.recipe.size, "test_accuracy": run.metrics["test_accuracy"],
             "machine": {key: value for key, value in describe_machine().items() if key != "command"}}
    return compare(answers, truth, people), found, about


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="the CelebA folder (default: $CELEBA_ROOT, else sketch faces)")
    parser.add_argument("--model", type=Path, help="what `celeba-nb train --out` wrote")
    parser.add_argument("--images", type=int, default=1000, help="test images, each in a photo")
    parser.add_argument("--groups", type=int, default=100, help="photos with three people")
    parser.add_argument("--frame-images", type=int, default=2500, help="training images for the frame; 0: leave it out")
    parser.add_argument("--out", type=Path, default=Path("nbs/results"))
    parser.add_argument("--details", type=Path, help="also write a row a photo to this CSV file, to look at the misses")
    args = parser.parse_args()
    if args.images and not args.model:
        parser.error("photos need a --model to predict_images; --images 0 leaves them out")
    labels = read_celeba(args.root or find_root())
    if args.frame_images:
        frame = study_frame(labels, args.frame_images)
        (args.out / "photo_frame.json").write_text(json.dumps(frame, indent=1) + "\n")
        print(json.dumps(frame, indent=1))
    if args.groups:
        groups = study_groups(labels, args.groups)
        (args.out / "photo_groups.json").write_text(json.dumps(groups, indent=1) + "\n")
        print(json.dumps(groups))
    if args.images:
        table, found, about = study_photos(labels, load(args.model), args.images)
        table.round(5).to_csv(args.out / "photo.csv", index=False)
        (args.out / "photo_found.json").write_text(json.dumps(found, indent=1) + "\n")
        if args.details:
            about.to_csv(args.details, index=False)
        print(table.round(4).to_string(), json.dumps(found, indent=1), sep="\n")


if __name__ == "__main__":
    main()
