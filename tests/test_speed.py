"""Lesson 06: what it says of speed, where the lesson itself only shows it; and the program that makes its tables."""
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from celeba_nb.augment import random_flip
from celeba_nb.model import AttributeCNN
from celeba_nb.recipe import Recipe
from celeba_nb.speed import compare_times, ratios
from celeba_nb.training import train

ROOT = Path(__file__).resolve().parent.parent
TINY = Recipe(train_images=30, valid_images=10, test_images=10, size=16, epochs=4,
              model_args={"channels": [4, 8, 8], "hidden": 16})


@pytest.fixture
def steps(monkeypatch):
    "The program benchmarks/steps.py as a module."
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import steps
    return steps


def test_times_have_a_row_a_turn():
    calls = []
    times = compare_times({name: lambda name=name: calls.append(name) for name in ("one", "two")}, repeats=3)
    assert times.shape == (3, 2) and (times > 0).all(axis=None) and list(times) == ["one", "two"]
    assert calls == ["one", "two"] * 4  # in turns, the first of them to warm up


def test_ratios_are_taken_turn_by_turn():
    "In the second turn everything took three times as long: the ratio is the same."
    found = ratios(pd.DataFrame({"old": [2.0, 6.0, 2.0], "new": [1.0, 3.0, 1.0]}), "old")
    assert (found.loc["new"] == 2).all() and (found.loc["old"] == 1).all()


def test_flips_of_a_whole_batch_are_those_of_each_image(steps):
    x = torch.rand(32, 3, 8, 8)
    one, two = (way(x, torch.Generator().manual_seed(1)) for way in (steps.flip_each, random_flip))
    assert torch.equal(one, two) and not torch.equal(one, x)


def test_each_stage_trains(labels, steps):
    for k in range(len(steps.STAGES)):
        steps.stage(k, labels, labels.rows("train")[:8], 16)()


def test_the_committed_stages_are_those_of_the_program(steps):
    assert list(pd.read_csv(ROOT / "nbs/results/speed_stages.csv")) == steps.STAGES


def test_answers_are_the_same_without_gradients():
    net, x = AttributeCNN(16), torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        without = net(x)
    assert torch.equal(net(x), without)


@pytest.mark.parametrize("seed", [0, 1])
def test_bfloat16_trains_a_network_that_is_as_good(labels, seed):
    long, short = (train(replace(TINY, precision=precision, seed=seed), labels, progress=False).metrics["test_accuracy"]
                   for precision in ("float32", "bfloat16"))
    assert abs(long - short) < 0.02


def test_auto_is_resolved(labels):
    resolved = train(replace(TINY, epochs=1), labels, progress=False).recipe
    assert resolved.precision in ("float32", "bfloat16") and resolved.memory_format in ("channels_last", "contiguous")


def test_many_images_needed_no_more_memory():
    "As benchmarks/memory.py measured it with 1,000 and with 200,000 images; test_scale measures fewer."
    assert json.loads((ROOT / "nbs/results/memory.json").read_text())["more_mb"] < 300
