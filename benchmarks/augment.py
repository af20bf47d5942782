"""Which augmentations help? Each is compared with none, on 1,000 and on 10,000 images, with paired seeds.

    OMP_NUM_THREADS=1 python benchmarks/augment.py --root "$CELEBA_ROOT" --out nbs/results

The small residual network at 64×64. With 1,000 images: all methods, ten seeds, 20 epochs; with 10,000: eight methods, nine
seeds (as few as ten questions need), 6 epochs. By the runs' own clocks that is nearly four hours on one core. Finished runs are
kept in --runs, and a second start goes on from them. Written: augment_runs_1000.csv, augment_effects_1000.csv, what each run
made of each image (augment_answers_1000.npz), and the same for 10000.
"""
from dataclasses import replace

import numpy as np

from celeba_nb.core import keep_memory
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.results import study_answers
from celeba_nb.study import Study

HERE = "celeba_nb.augment."
SINGLE = {"flip": "random_flip", "shift": "random_shift", "affine": "random_affine", "colour": "random_color",
          "blur": "random_blur", "cut-out": "random_cutout"}
CHAINS = [("flip", "affine", "cut-out"), ("flip", "affine", "colour", "cut-out")]
CHANGES = {  # method -> what differs from no augmentation
    "base": {},
    **{name: {"augment": HERE + function} for name, function in SINGLE.items()},
    "mixup": {"loss": HERE + "mixup_bce"},
    "trivial": {"augment": HERE + "trivial_augment"},
    **{", ".join(names): {"augment": HERE + "compose", "augment_args": {"steps": [[HERE + SINGLE[name], {}] for name in names]}}
       for names in CHAINS}}
FEWER = ["base", "flip", "affine", "colour", "cut-out", "mixup", "trivial", "flip, affine, cut-out"]
SETTINGS = {1000: {"epochs": 20, "methods": [*CHANGES], "seeds": 10}, 10_000: {"epochs": 6, "methods": FEWER, "seeds": 9}}
BASE = Recipe(model="celeba_nb.model.ResNet", model_args={"channels": [16, 48, 96, 128]}, size=64, optimizer="AdamW", lr=0.002,
              weight_decay=0.05, schedule="cosine", threads=1)
KEPT = ["method", "seed", "valid_loss", "valid_accuracy", "test_accuracy", "test_mirrored_accuracy", "train_loss", "seconds",
        "run", "precision", "processor"]


def recipes(images):
    "Method -> its recipe for so many training images."
    setting = SETTINGS[images]
    sizes = {"train_images": images, "epochs": setting["epochs"]}
    return {method: replace(BASE, **sizes, **CHANGES[method]) for method in setting["methods"]}


def main():
    from common import study_parser  # in this folder, where Python looks when this is the program

    parser = study_parser(__doc__, "runs/augment")
    parser.set_defaults(seeds=None)
    args = parser.parse_args()
    keep_memory()
    labels = read_celeba(args.root)
    args.out.mkdir(parents=True, exist_ok=True)
    for images, setting in SETTINGS.items():
        made = {method: replace(recipe, **args.options) for method, recipe in recipes(images).items()}
        study = Study(made, args.seeds or setting["seeds"], args.runs / str(images)).run(labels)
        effects = {method: [(name == method) - (name == "base") for name in made] for method in made if method != "base"}
        study.metrics()[KEPT].to_csv(args.out / f"augment_runs_{images}.csv", index=False)
        study.effects(effects).to_csv(args.out / f"augment_effects_{images}.csv", index=False)
        np.savez_compressed(args.out / f"augment_answers_{images}.npz", **study_answers(study))


if __name__ == "__main__":
    main()
