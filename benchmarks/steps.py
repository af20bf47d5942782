"""What each step of lesson 06 brings, one after the other.

    python benchmarks/steps.py --root "$CELEBA_ROOT" --stages nbs/results/speed_stages.csv

On a processor without bfloat16 in hardware, the stage "+ bfloat16" changes nothing.
"""
import argparse
from pathlib import Path

import torch
from naive import make_loaders, make_net
from torch import nn

from celeba_nb.augment import random_flip
from celeba_nb.core import keep_memory
from celeba_nb.data import Batches, find_root
from celeba_nb.device import best_precision
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.recipe import Recipe
from celeba_nb.run import choose_rows
from celeba_nb.speed import compare_times, ratios

STAGES = ["the usual way", "+ decode once", "+ whole batches", "+ channels-last", "+ bfloat16", "+ pool first", "+ fused Adam"]


def flip_each(x, generator, p=0.5):
    "Mirror images one by one, with the same random numbers as `random_flip`."
    draws = torch.rand(len(x), generator=generator)
    return torch.stack([image.flip(-1) if draw < p else image for image, draw in zip(x, draws)])


def pool_first(net):
    "The network with each ReLU behind the pooling that followed it."
    layers = list(net)
    for i in (1, 4, 7):
        layers[i], layers[i + 1] = layers[i + 1], layers[i]
    return nn.Sequential(*layers)


def batches(k, labels, rows, size):
    "What a stage loads its batches from."
    if k == 0:
        return make_loaders(labels, {"train": rows}, size, 32)["train"]
    cache = ImageCache(labels, size, rows, progress=False)
    return Batches(cache, rows, 32, random_flip if k >= 2 else flip_each, torch.Generator())


def stage(k, labels, rows, size):
    "A function that trains an epoch with the first k steps."
    torch.manual_seed(0)
    memory_format = torch.channels_last if k >= 3 else torch.contiguous_format
    net = (pool_first(make_net(size)) if k >= 5 else make_net(size)).to(memory_format=memory_format)
    loader, short = batches(k, labels, rows, size), k >= 4 and best_precision("cpu") == "bfloat16"
    optimizer, criterion = torch.optim.Adam(net.parameters(), fused=k >= 6), nn.BCEWithLogitsLoss()

    def epoch():
        for x, y in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=short):
                loss = criterion(net(x.to(memory_format=memory_format)).float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--stages", type=Path, required=True, help="write the seconds of an epoch here")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    labels = read_celeba(args.root or find_root())
    keep_memory()
    rows = choose_rows(Recipe(train_images=args.images), labels)["train"]
    ways = {name: stage(k, labels, rows, args.size) for k, name in enumerate(STAGES)}
    times = compare_times(ways, args.turns)
    print(ratios(times, STAGES[0]).round(2))
    times.to_csv(args.stages, index=False)


if __name__ == "__main__":
    main()
