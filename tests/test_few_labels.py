"""Lesson 09: the curve, looks, ensembles, and a student that never sees a hidden label."""
import contextlib
import copy
import json
from dataclasses import asdict, replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.few_labels import ASKED
from celeba_nb.batches import make_batches
from celeba_nb.few_labels import (
    INGREDIENTS,
    Ensemble,
    FlipTTA,
    SelfTraining,
    _begin_anew,
    _shifted,
    curve_band,
    each_bce,
    fit_curve,
    members_of,
    plot_curve,
    power_law,
)
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback, bce, train_step
from celeba_nb.metrics import tune_thresholds
from celeba_nb.recipe import RECIPES, STRONG, Recipe, recipe_from_dict
from celeba_nb.run import choose_rows, resolve
from celeba_nb.state import compute_logits, new_state
from celeba_nb.training import train
from tools.notebooks import ROOT

SMALL = {"channels": [8, 16], "blocks": [0, 1]}
TINY = Recipe(train_images=12, valid_images=10, test_images=10, size=16, epochs=4, valid_every=4, batch_size=6, device="cpu",
              model="celeba_nb.model.ResNet", model_args=SMALL, optimizer="AdamW", lr=0.004, schedule="cosine", threads=1,
              augment="celeba_nb.augment.compose", augment_args={"steps": STRONG})
PUPIL = replace(TINY, model="celeba_nb.few_labels.FlipTTA", model_args={"model_args": SMALL | {"drop": 0.3}}, ema_decay=0.9,
                cycles=2, loss="celeba_nb.few_labels.SelfTraining", loss_args={"steps": STRONG}, unlabeled_images=18,
                unlabeled_batch_size=9, no_aug_epochs=1)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.rand(8, 3, 16, 16) * 2 - 1, torch.randint(2, (8, 40)).float()


# The curve


def test_a_known_curve_is_found():
    "Exactly, or nearly where there is noise."
    n = np.array([100, 300, 1000, 3000, 10000])
    assert np.allclose(fit_curve(n, power_law(n, 0.08, 0.5, 0.35)), (0.08, 0.5, 0.35), rtol=0.01)
    noisy = power_law(n, 0.08, 0.5, 0.35) + np.random.default_rng(0).normal(0, 0.001, 5)
    assert abs(power_law(10000, *fit_curve(n, noisy)) - power_law(10000, 0.08, 0.5, 0.35)) < 0.003


def test_two_numbers_of_labels_are_too_few():
    with pytest.raises(ValueError, match="at least 3"):
        fit_curve([100, 1000], [0.2, 0.1])


def test_the_band_is_wide_where_there_are_no_points():
    n = np.repeat([50, 100, 200, 400], 3)
    noise = np.random.default_rng(0).normal(0, 0.004, len(n))
    runs = pd.DataFrame({"labels": n, "error": power_law(n, 0.15, 0.8, 0.6) + noise})
    middle, low, high = curve_band(runs, np.array([50, 400, 3000]), draws=50)
    assert ((low <= middle + 1e-9) & (middle <= high + 1e-9)).all()
    assert high[2] - low[2] > high[1] - low[1]


def test_the_axis_names_the_measured_numbers():
    "And how far the curve goes, but no powers of ten that weren't measured."
    n = np.repeat([100, 300, 1000], 2)
    ax = plot_curve(pd.DataFrame({"labels": n, "error": power_law(n, 0.1, 1.4, 0.5)}), 162_770)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100", "300", "1,000", "162,770"]
    assert not list(ax.get_xticks(minor=True))


# Looks


def test_two_looks(batch):
    x, _ = batch
    twice = FlipTTA(16, model_args=SMALL).eval()
    assert torch.allclose(twice(x), (twice.net(x) + twice.net(x.flip(-1))) / 2)
    torch.manual_seed(1)
    learning = twice.train()(x)
    assert torch.equal(learning, twice.net(x))  # one look


def test_shifts_to_the_corners(batch):
    corners = _shifted(torch.arange(64.0).reshape(1, 1, 8, 8), 2)
    assert [corner[0, 0, 2, 2].item() for corner in corners] == [0, 4, 32, 36]  # row 0 or 4, column 0 or 4, of eight each
    assert _shifted(batch[0], 0) == [] and all(corner.shape == batch[0].shape for corner in _shifted(batch[0], 3))


def test_ten_looks(batch):
    x, _ = batch
    ten = FlipTTA(16, model_args=SMALL, shift=0.2).eval()
    assert ten.shift == 3 and torch.allclose(ten(x), ten(x.flip(-1)), atol=1e-5)
    one_by_one = [ten.net(side) for look in [x, *_shifted(x, 3)] for side in (look, look.flip(-1))]
    assert torch.allclose(ten(x), torch.stack(one_by_one).mean(0), atol=1e-6)
    assert FlipTTA(16, model_args=SMALL, shift=0.5).eval()(x).shape == (8, 40)


def test_a_shift_is_a_share():
    with pytest.raises(ValueError, match="shift 2:"):
        FlipTTA(16, model_args=SMALL, shift=2)


# Several opinions


def test_an_ensemble_is_the_mean_of_its_members(batch):
    several = Ensemble(16, members=3, model_args=SMALL).eval()
    opinions = torch.stack([member(batch[0]) for member in several.members])
    assert torch.allclose(several(batch[0]), opinions.mean(0)) and len(several.members) == 3
    assert not torch.allclose(opinions[0], opinions[1], atol=1e-3)  # each has its own weights


def test_members_of(batch):
    several, twice = Ensemble(16, members=3, model_args=SMALL), FlipTTA(16, model_args=SMALL).eval()
    assert members_of(several) == list(several.members) and members_of(twice) == [twice.net]
    assert len(members_of(FlipTTA(16, "celeba_nb.few_labels.Ensemble", {"members": 2, "model_args": SMALL}))) == 2
    assert each_bce(twice, *batch) == bce(twice.net, *batch)


# A teacher and a student


def test_begin_anew(labels, batch):
    state = new_state(resolve(replace(TINY, ema_decay=0.9), labels), steps=5)
    old, before = copy.deepcopy(state.net), next(state.net.parameters()).data_ptr()
    train_step(state, state.net, bce, *batch)
    _begin_anew(state)
    assert next(state.net.parameters()).data_ptr() == before  # the same network: the optimiser still holds it
    assert not any(torch.equal(a, b) for a, b in zip(state.net.parameters(), old.parameters()) if a.dim() > 1)
    assert not state.optimizer.state and state.averaged.n_averaged == 0


@pytest.fixture
def generation(labels):
    "A run of two generations before its first step, its loss, and the faces without labels."
    recipe = resolve(replace(PUPIL, model_args={"model_args": SMALL}, epochs=8), labels)
    rows = choose_rows(recipe, labels)
    cache = ImageCache(labels, 16, np.unique(np.concatenate(list(rows.values()))), progress=False)
    others = make_batches(recipe, cache, rows)[1]["unlabeled"]
    state, loss_fn = new_state(recipe, 4, others), SelfTraining(steps=STRONG)
    loss_fn.on_start(state)
    return state, loss_fn, others


def test_a_generation_ends_with_answers_and_fresh_weights(generation, batch):
    state, loss_fn, others = generation
    (x, y), net = batch, state.net
    more, unknown = torch.cat([x, x.repeat(2, 1, 1, 1)[:9]]), torch.cat([y, others.truth[:9]])
    assert unknown[8:].isnan().all() and torch.isclose(loss_fn(net, more, unknown), each_bce(net, x, y))
    state.averaged.update_parameters(net)
    old = copy.deepcopy(net)
    state.epoch = 3
    loss_fn.on_epoch(state)
    assert others.truth.isnan().all() and torch.equal(net.net.head[-1].weight, old.net.head[-1].weight)
    state.epoch = 4
    loss_fn.on_epoch(state)
    answers = others.truth.clone()
    assert torch.equal(answers, compute_logits(old, others, state.recipe).sigmoid())
    assert not torch.equal(net.net.head[-1].weight, old.net.head[-1].weight)
    loss = loss_fn(net, more, torch.cat([y, answers[:9]]))
    assert torch.isfinite(loss) and loss > each_bce(net, x, y)
    state.epoch = 8
    loss_fn.on_epoch(state)  # the run is over: no generation follows
    assert torch.equal(others.truth, answers)


@pytest.mark.parametrize(("epoch", "plain"), [(2, False), (3, True), (4, False), (7, True)])
def test_the_last_epochs_of_each_generation_are_plain(generation, batch, epoch, plain):
    state, loss_fn, _ = generation
    state.epoch = epoch
    more, targets = batch[0].repeat(3, 1, 1, 1)[:17], batch[1].repeat(3, 1)[:17]
    assert torch.equal(loss_fn(state.net, more, targets), loss_fn(state.net, more, targets)) == plain


def same_answers(a, b):
    return all(np.array_equal(a.predictions[key], b.predictions[key]) for key in a.predictions)


@pytest.fixture(scope="module")
def honest(labels):
    return train(PUPIL, labels, progress=False)


def test_hidden_labels_play_no_part(labels, honest):
    "To the last bit: they are all turned round."
    other, hidden = labels.attributes.copy(), choose_rows(PUPIL, labels)["unlabeled"]
    other.iloc[hidden] = ~other.iloc[hidden]
    assert same_answers(honest, train(PUPIL, replace(labels, attributes=other), progress=False))
    assert not same_answers(honest, train(replace(PUPIL, seed=1), labels, progress=False))


class StopAfter(Callback):
    "An accident at the end of an epoch, before its checkpoint is written."

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch(self, state):
        if state.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [2, 4])  # the answers come at the end of epoch 2
def test_a_resumed_run_has_the_answers(labels, honest, epoch, tmp_path):
    with contextlib.suppress(KeyboardInterrupt):
        train(PUPIL, labels, tmp_path / "run", callbacks=(StopAfter(epoch),), progress=False)
    assert (tmp_path / "run.checkpoint.safetensors").exists()
    assert same_answers(honest, train(PUPIL, labels, tmp_path / "run", progress=False))


def test_a_teachers_answers_take_time(labels):
    "Nothing else takes any, by this clock."
    clock = [0]

    def answer_for_an_hour(self, state):
        clock[0] += 3600

    with (mock.patch("celeba_nb.few_labels.SelfTraining.on_epoch", answer_for_an_hour),
          mock.patch("celeba_nb.loop.time.perf_counter", lambda: clock[0])):
        assert train(PUPIL, labels, progress=False).metrics["seconds"] == PUPIL.epochs * 3600


def test_plain_faces_are_easier_to_learn_from(labels):
    losses = [train(replace(TINY, epochs=20, no_aug_epochs=n), labels, progress=False).metrics["train_loss"] for n in (0, 6, 20)]
    assert losses[0] > losses[1] > losses[2]


# Thresholds and recipes


def test_thresholds_for_each_attribute():
    truth = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]], bool)
    said = np.array([[0.1, 0.2, 0.3], [0.15, 0.6, 0.1], [0.3, 0.7, 0.2], [0.4, 0.9, 0.1]])
    thresholds = tune_thresholds(said, truth)
    assert 0.15 <= thresholds[0] < 0.3 and 0.2 <= thresholds[1] < 0.6
    assert thresholds[2] == 0.5  # no face has the third attribute: there is nothing to choose by
    assert ((said > thresholds) == truth).all()


def test_recipes_are_what_was_measured():
    assert RECIPES["best-1k"].train_images == 1000 and RECIPES["best-1k"].unlabeled_images is None
    assert all(recipe_from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe for recipe in RECIPES.values())
    assert INGREDIENTS["unlabelled images"] == replace(
        RECIPES["best-1k"], size=64, model_args={}, no_aug_epochs=0, valid_every=10)


def test_the_program_makes_the_committed_tables():
    "benchmarks/few_labels.py names each method of nbs/results; a few runs of the best recipes were made by the command line."
    for name, recipes, seeds in ASKED:
        runs = pd.read_csv(ROOT / "nbs/results" / f"few_labels_{name}.csv", usecols=["method", "seed"], dtype={"method": str})
        for recipe in recipes:
            assert set(seeds) <= set(runs.loc[runs["method"] == recipe, "seed"])
