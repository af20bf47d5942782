"""How close to the machine's limits is a training step? Each layer of the study's network beside the peak of matrix products and
the memory's bandwidth, all measured in the same process (Williams, Waterman and Patterson, 2009: the roofline).

    python benchmarks/roofline.py --csv nbs/results/roofline.csv

A part can't be faster than its operations at the peak, nor than its bytes at the bandwidth: its bound is the slower of the two.
The bytes are those that its operations read and write, one after the other; what stays in the processor's caches in between can
be faster than this bound.
"""
import argparse
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from celeba_nb.augment import random_flip
from celeba_nb.batches import EVAL_BATCH_SIZE
from celeba_nb.core import keep_memory
from celeba_nb.device import autocast, best_precision
from celeba_nb.images import normalize
from celeba_nb.layers import evaluating
from celeba_nb.loop import bce, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.run import processor
from celeba_nb.state import new_state

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
# Of a weight: forward and backward read it, and backward writes its gradient; in bfloat16, both are also converted.
WEIGHT_BYTES = {"bfloat16": (4 + 2) + 2 + 2 + 2 + (2 + 4), "float32": 4 + 4 + 4}


def median_seconds(work):
    "The median duration of a second of repetitions."
    return Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads()).blocked_autorange(min_run_time=1).median


def machine(precision):
    "The highest rate of operations and of bytes that PyTorch reaches here, each per second."
    a, source, target = torch.randn(2048, 2048, dtype=DTYPES[precision]), *torch.zeros(2, 2**28, dtype=torch.uint8)
    peak = 2 * 2048**3 / median_seconds(lambda: a @ a)
    return peak, 2 * len(source) / median_seconds(lambda: target.copy_(source))


def forward_backward(layer, x, recipe):
    "A layer's work in a training step."
    def work():
        layer.zero_grad()
        x.grad = None
        with autocast(recipe):
            y = layer(x)
        y.backward(torch.ones_like(y))
    return work


def inputs_of(net, x, recipe):
    "The input of each layer, by name, for a batch."
    seen = {}
    layers = {name: layer for name, layer in net.named_modules() if not list(layer.children())}
    hooks = [layer.register_forward_hook(lambda _, given, out, name=name: seen.update({name: (given[0].detach(), out.detach())}))
             for name, layer in layers.items()]
    with autocast(recipe):
        net(x)
    for hook in hooks:
        hook.remove()
    return {name: (layer, *seen[name]) for name, layer in layers.items()}


def layer_rows(net, x, recipe):
    "Each layer: operations, bytes and seconds, forward and backward."
    for name, (layer, given, out) in inputs_of(net, x, recipe).items():
        given.requires_grad_(name != "features.0")  # nobody needs the gradient of the images
        work = forward_backward(layer, given, recipe)
        with FlopCounterMode(display=False) as counter:
            work()
        weights = sum(parameter.numel() for parameter in layer.parameters())
        moved = (2 + given.requires_grad) * given.nbytes + 2 * out.nbytes + weights * WEIGHT_BYTES[recipe.precision]
        yield f"{name} {type(layer).__name__}", counter.get_total_flops(), moved, median_seconds(work)


def other_rows(state, images, x, y):
    "What else a step does: making the batch, Adam, and the whole step."
    parameters = sum(parameter.numel() for parameter in state.net.parameters())
    step = partial(train_step, state, state.net, bce, x, y)
    with FlopCounterMode(display=False) as counter:
        step()
    yield "batch: normalise and flip", 0, images.nbytes + 3 * x.nbytes, median_seconds(
        lambda: random_flip(normalize(images), torch.Generator()).to(memory_format=torch.channels_last))
    yield "Adam", 0, parameters * 4 * 7, median_seconds(state.optimizer.step)
    yield "whole step", counter.get_total_flops(), 0, median_seconds(step)


def share_of_evaluation(state, seconds, recipe):
    "The share of a run of the study that validation and both tests take, without decoding."
    x = torch.rand(EVAL_BATCH_SIZE, 3, recipe.size, recipe.size).to(memory_format=torch.channels_last)
    with evaluating(state.net), torch.inference_mode(), autocast(recipe):
        seen = median_seconds(lambda: state.net(x)) / len(x) * 1000 * (recipe.epochs + 2)  # images, and test images mirrored
    trained = seconds / recipe.batch_size * 1000 * recipe.epochs
    return seen / (seen + trained)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="write the table to this file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    precision = best_precision("cpu")
    recipe = Recipe(train_images=1000, size=128, epochs=5, device="cpu", precision=precision, memory_format="channels_last",
                    threads=args.threads)
    state = new_state(recipe, steps=32)
    images = torch.randint(256, (recipe.batch_size, 3, 128, 128), dtype=torch.uint8).to(memory_format=torch.channels_last)
    x, y = normalize(images), torch.randint(2, (recipe.batch_size, 40)).float()
    peak, bandwidth = machine(precision)
    table = pd.DataFrame([*layer_rows(state.net, x, recipe), *other_rows(state, images, x, y)],
                         columns=["part", "operations", "bytes", "seconds"])
    table.loc[table["part"] == "whole step", "bytes"] = table["bytes"].sum()
    table["share of peak"] = table["operations"] / table["seconds"] / peak
    bounds = [table["operations"] / peak, table["bytes"] / bandwidth]
    table["share of bound"] = pd.concat(bounds, axis=1).max(axis=1) / table["seconds"]
    table["peak"], table["bandwidth"], table["precision"], table["threads"] = peak, bandwidth, precision, args.threads
    table["processor"], whole = processor(), table["seconds"].iloc[-1]
    table["evaluation"] = share_of_evaluation(state, whole, recipe)
    print(table.to_string(index=False))
    if args.csv:
        table.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
