"""Train small runs of every kind and write a JSON of hashes; compare two of them, to see whether a change moved a bit.

    python -m tools.bits make before.json [--celeba "$CELEBA_ROOT"] [--only NAME]
    ... change the code ...
    python -m tools.bits make after.json
    python -m tools.bits compare before.json after.json

Both must be made on one machine, with as many threads (set OMP_NUM_THREADS=1). `make` draws its sketch faces once, into
the folder that --faces names, and takes some minutes. For each variant, the weights (in the order of the state_dict, and as
a set, since a key may get a new name), the predictions and the history are hashed; `compare` names what differs, and
exits with 1 then. Some variants are also stopped in the middle and resumed.
"""
import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback
from celeba_nb.recipe import Recipe
from celeba_nb.run import describe_machine
from celeba_nb.sketch import make_sketch
from celeba_nb.training import train

FLIP = "celeba_nb.augment.random_flip"
STRONG = [[FLIP, {}], ["celeba_nb.augment.random_affine", {}], ["celeba_nb.augment.random_color", {}],
          ["celeba_nb.augment.random_cutout", {"share": 3 / 16}]]
SMALL = {"train_images": 96, "valid_images": 64, "test_images": 64, "size": 32, "epochs": 2, "threads": 1, "device": "cpu",
         "precision": "float32", "memory_format": "channels_last", "seed": 3}
SUPERVISED = {"model": "celeba_nb.few_labels.FlipTTA", "augment": "celeba_nb.augment.compose", "augment_args": {"steps": STRONG},
              "optimizer": "AdamW", "lr": 0.002, "weight_decay": 0.05, "schedule": "cosine", "warmup": 2, "ema_decay": 0.9,
              "valid_every": 2}
TEACHER = SUPERVISED | {"epochs": 4, "cycles": 2, "no_aug_epochs": 1, "loss": "celeba_nb.few_labels.SelfTraining",
                        "loss_args": {"steps": STRONG}, "unlabeled_images": 64, "unlabeled_batch_size": 16,
                        "model_args": {"model_args": {"drop": 0.3}, "shift": 0.055}}
QUICKEST = {"size": 64, "epochs": 3, "lr": 0.002, "schedule": "cosine", "optimizer": "AdamW", "weight_decay": 0.05,
            "augment": FLIP}
RESNET = {"model": "celeba_nb.model.ResNet", "model_args": {"channels": [16, 48, 96, 128], "blocks": [0, 0, 1, 1]}}
VARIANTS = {
    "study float32": {},
    "study float32 lower rate, 2 threads": {"threads": 2, "lr": 0.0005},
    "study float32 contiguous": {"memory_format": "contiguous"},
    "study bfloat16": {"precision": "bfloat16"},
    "study bfloat16 flips": {"precision": "bfloat16", "augment": FLIP},
    "study float32 flips": {"augment": FLIP, "epochs": 3},
    "study float32 flips 128": {"augment": FLIP, "size": 128, "train_images": 64},
    "study auto": {"precision": "auto", "memory_format": "auto", "threads": "auto"},
    "supervised": SUPERVISED,
    "teacher": TEACHER,
    "teacher bfloat16": TEACHER | {"precision": "bfloat16"},
    "quickest": QUICKEST | RESNET,
    "mixup": SUPERVISED | {"loss": "celeba_nb.augment.mixup_bce"},
    "ensemble": SUPERVISED | {"loss": "celeba_nb.few_labels.each_bce", "model_args": {
        "model": "celeba_nb.few_labels.Ensemble", "model_args": {"members": 2}}},
    "SGD": {"optimizer": "SGD", "lr": 0.05, "batch_size": 20},
    "norm_cnn": {"model": "celeba_nb.architectures.norm_cnn"},
    "pooled_cnn": {"model": "celeba_nb.architectures.pooled_cnn"},
}
RESUMED = ("study float32 flips", "study bfloat16 flips", "teacher", "supervised")


class Stop(Callback):
    "Press Ctrl-C after so many steps."

    def __init__(self, steps):
        self.left = steps

    def on_step(self, state):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def sha(*arrays):
    "A hash of arrays: shapes, kinds and bytes."
    digest = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:32]


def hashes(run):
    "What must be equal, of a run."
    parts = [sha(value.contiguous().flatten().view(torch.uint8).numpy() if value.ndim else value.numpy())
             for value in run.weights.values()]
    return {
        "weights in order": hashlib.sha256("".join(parts).encode()).hexdigest()[:32],
        "weights as a set": hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()[:32],
        "predictions": {key: sha(value) for key, value in sorted(run.predictions.items())},
        "history": [[repr(float(value)) for value in row] for row in run.history.to_numpy()],
        "metrics": {key: repr(value) for key, value in run.metrics.items() if key != "seconds"},
        "precision": run.recipe.precision, "threads": run.recipe.threads, "memory_format": run.recipe.memory_format,
    }


def pixels(labels, size):
    "A hash of some decoded images."
    rows = np.arange(min(400, len(labels)))
    cache = ImageCache(labels, size, rows, progress=False)
    return sha(np.concatenate([np.asarray(cache[rows[at : at + 50]]) for at in range(0, len(rows), 50)]))


def train_small(choices, labels, stop=None):
    "A run of a variant; if asked for, stopped after some steps and resumed."
    recipe = Recipe(**SMALL | choices)
    with tempfile.TemporaryDirectory() as folder:
        if stop:
            try:
                train(recipe, labels, Path(folder) / "run", progress=False, every=2, callbacks=(Stop(stop),))
            except KeyboardInterrupt:
                pass
        return train(recipe, labels, Path(folder) / "run", progress=False, every=2)


def make(out, celeba, only, faces):
    "Hash every variant on sketch faces, and on CelebA if it is there."
    if not faces.exists():
        make_sketch(faces, 200, 64, 64, progress=False)
    found = {"machine": describe_machine()}
    for name, folder in {"sketch": faces, "celeba": celeba}.items():
        if folder is None:
            continue
        labels = read_celeba(folder)
        found[f"{name}, pixels"] = {str(size): pixels(labels, size) for size in (32, 64, 128)}
        for variant, choices in VARIANTS.items():
            if only and only not in variant:
                continue
            began = time.perf_counter()
            found[f"{name}, {variant}"] = hashes(train_small(choices, labels))
            if variant in RESUMED:
                found[f"{name}, {variant}, resumed"] = hashes(train_small(choices, labels, stop=4))
            print(f"{name}, {variant}: {time.perf_counter() - began:.1f} s", flush=True)
            out.write_text(json.dumps(found, indent=1))


def compare(before, after):
    "Print which variants are equal; True if all are."
    before, after = (json.loads(Path(path).read_text()) for path in (before, after))
    keys = [key for key in before if key != "machine" and key in after]
    apart = {key: [part for part in after[key] if before[key][part] != after[key][part]] for key in keys}
    for key, parts in apart.items():
        print(f"{key}: {'differs in ' + ', '.join(parts) if parts else 'equal'}")
    print(f"{sum(map(bool, apart.values()))} of {len(keys)} differ")
    return not any(apart.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--celeba", type=Path, help="a CelebA folder; without it, only sketch faces")
    parser.add_argument("--only", help="variants whose name holds this text")
    parser.add_argument("--faces", type=Path, default=Path(tempfile.gettempdir()) / "celeba_nb_bits_faces")
    args = parser.parse_args()
    if args.what == "compare":
        sys.exit(not compare(*args.files))
    make(args.files[0], args.celeba, args.only, args.faces)


if __name__ == "__main__":
    main()
