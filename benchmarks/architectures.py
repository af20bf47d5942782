"""Which network? The tables of notebook 08: accuracy with paired seeds, learning rates, seconds and memory.

    OMP_NUM_THREADS=1 python benchmarks/architectures.py --root "$CELEBA_ROOT" --out nbs/results

On one otherwise idle core it takes more than an hour and a half, estimated from the seconds of a step. Finished runs are
kept in --runs, and a second start goes on from them. Written: architectures_momentum.csv (MobileNetV3 with two momenta),
architectures_rates.csv (two learning rates for each network), architectures_runs.csv and architectures_effects.csv (ten
seeds for each network, at its better rate), architectures_answers.npz (what each run made of each image),
architectures_seconds.csv (a step in float32 and bfloat16, in turns), architectures_memory.csv (the peak of a process that
trains; Linux only). Of the committed runs, seeds 0 to 7 are an earlier version's, without images and the names of their
processors; seeds 8 and 9 were made later, on the processor that their rows name.
"""
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from celeba_nb.core import keep_memory
from celeba_nb.data import draw_rows
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache, normalize
from celeba_nb.loop import Callback, bce, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.results import study_answers
from celeba_nb.speed import compare_times
from celeba_nb.state import new_state
from celeba_nb.study import Study
from celeba_nb.training import train

MODEL, OURS = "celeba_nb.model.", "celeba_nb.architectures."
SMALL = {"channels": (16, 48, 96, 128)}
DEEP = SMALL | {"blocks": (0, 2, 2, 2)}
LADDER = {
    "study's CNN": (MODEL + "AttributeCNN", {}),
    "+ batch norm": (OURS + "norm_cnn", {}),
    "+ averages": (OURS + "pooled_cnn", {}),
    "plain, 16 layers": (OURS + "PlainNet", DEEP),
    "residual, 16 layers": (MODEL + "ResNet", DEEP),
    "residual, 8 layers": (MODEL + "ResNet", SMALL),
    "8 layers, wider": (MODEL + "ResNet", {}),
}
READY = {
    "ResNet-18": (OURS + "torchvision_net", {"name": "resnet18"}),
    "MobileNetV3": (OURS + "torchvision_net", {"name": "mobilenet_v3_small"}),
}
FAMILIES = Path(__file__).parents[1] / "nbs/results/families.json"
QUESTIONS = json.loads(FAMILIES.read_text())["architectures_effects"]["effects"]  # one family: each the difference of two
TRAINING = {"size": 64, "epochs": 10, "schedule": "cosine", "optimizer": "AdamW", "weight_decay": 0.05,
            "augment": "celeba_nb.augment.random_flip", "threads": 1}
RATES = (0.0005, 0.002)


def recipe(network, lr, **options):
    "How a network of the table is trained."
    model, args = (LADDER | READY)[network]
    own = {"precision": "float32"} if network == "MobileNetV3" else {}
    return Recipe(model=model, model_args=args, lr=lr, **TRAINING | own | options)


def weights_of_questions():
    "Question -> the weight of each network: 1 for the new one, -1 for the one that it is compared with."
    return {question: tuple((name == new) - (name == old) for name in LADDER | READY)
            for question, (new, old) in QUESTIONS.items()}


# Accuracy


class SetMomentum(Callback):
    "Set the momentum of all running averages."

    def __init__(self, momentum):
        self.momentum = momentum

    def on_start(self, state):
        for layer in state.net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = self.momentum


def momentum_table(labels, out, options):
    mobile = recipe("MobileNetV3", 0.002, seed=200, **options)
    both = {momentum: train(mobile, labels, callbacks=(SetMomentum(momentum),)) for momentum in (0.01, 0.1)}
    table = pd.DataFrame({momentum: run.metrics for momentum, run in both.items()}).T.rename_axis("momentum")
    table[["train_loss", "valid_loss", "valid_accuracy"]].round(4).to_csv(out / "architectures_momentum.csv")


def rates_table(labels, out, runs, options):
    "Two learning rates for each network, with two seeds that are used for nothing else; returns the better rate of each."
    tries = {f"{name} @ {lr}": recipe(name, lr, **options) for name in LADDER | READY for lr in RATES}
    found = Study(tries, [100, 101], runs).run(labels).metrics()
    found[["network", "lr"]] = found["method"].str.split(" @ ", expand=True)
    found = found[["network", "lr", "seed", "train_loss", "valid_loss", "valid_accuracy", "seconds"]].astype({"lr": float})
    found.to_csv(out / "architectures_rates.csv", index=False)
    return found.pivot_table(index="network", columns="lr", values="valid_accuracy").idxmax(axis=1).to_dict()


def runs_tables(labels, out, runs, chosen, seeds, options):
    "Seed by seed, so that an unfinished table has whole pairs."
    networks = {name: recipe(name, chosen[name], **options) for name in LADDER | READY}
    for n in range(1, seeds + 1):
        study = Study(networks, n, runs).run(labels)
        study.metrics().to_csv(out / "architectures_runs.csv", index=False)
        study.effects(weights_of_questions()).to_csv(out / "architectures_effects.csv", index=False)
        np.savez_compressed(out / "architectures_answers.npz", **study_answers(study))


# Costs


def timed_step(name, precision, x, y):
    "A step of `train`, to be called as often as you like."
    choices = {"precision": precision, "device": "cpu", "memory_format": "channels_last"}
    state = new_state(replace(recipe(name, 0.001), **choices), steps=1000)
    batch = x.contiguous(memory_format=torch.channels_last), y
    return lambda: train_step(state, state.net, bce, *batch)


def seconds_table(labels, out, repeats):
    rows = draw_rows(labels, "train", 32, seed=0)
    x = normalize(ImageCache(labels, 64, rows, progress=False)[rows])
    y = torch.tensor(labels.attributes.iloc[rows].to_numpy(), dtype=torch.float32)
    torch.set_num_threads(1)
    steps = {f"{name} @ {precision}": timed_step(name, precision, x, y)
             for name in LADDER | READY for precision in ("float32", "bfloat16")}
    (1000 / 32 * compare_times(steps, repeats=repeats)).to_csv(out / "architectures_seconds.csv", index=False)


PEAK = """
import json, sys, torch
from pathlib import Path
from celeba_nb.core import keep_memory
from celeba_nb.loop import bce, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.state import new_state

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000

keep_memory()
before = peak()
state = new_state(Recipe(**json.loads(sys.argv[1])), steps=1000)
batch = torch.zeros(32, 3, 64, 64).contiguous(memory_format=torch.channels_last), torch.zeros(32, 40)
for _ in range(3):
    train_step(state, state.net, bce, *batch)
print(peak() - before)
"""


def peak_mb(name):
    "What three steps of training need at their peak, beyond what Python and PyTorch take, in a process of their own."
    own = asdict(recipe(name, 0.001)) | {"device": "cpu", "memory_format": "channels_last"}
    own["precision"] = "float32" if own["precision"] == "float32" else "bfloat16"
    done = subprocess.run([sys.executable, "-c", PEAK, json.dumps(own)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main():
    from common import study_parser  # in this folder, where Python looks when this is the program

    parser = study_parser(__doc__, "runs/architectures")
    parser.add_argument("--repeats", type=int, default=9, help="timed turns")
    args = parser.parse_args()
    keep_memory()
    labels = read_celeba(args.root)
    momentum_table(labels, args.out, args.options)
    chosen = rates_table(labels, args.out, args.runs, args.options)
    runs_tables(labels, args.out, args.runs, chosen, args.seeds, args.options)
    seconds_table(labels, args.out, args.repeats)
    peaks = {name: peak_mb(name) for name in LADDER | READY}
    pd.Series(peaks, name="peak_mb").round(1).to_csv(args.out / "architectures_memory.csv")


if __name__ == "__main__":
    main()
