"""Rare answers: what the weighted loss weighs, what the sampler draws, and that a run with neither is as it was."""
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from celeba_nb.batches import make_batches, sampling_weights
from celeba_nb.core import TrainingError
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.imbalance import answer_weights, rare_answers
from celeba_nb.loop import Callback
from celeba_nb.recipe import Recipe, run_id
from celeba_nb.run import choose_rows, resolve
from celeba_nb.sketch import make_sketch
from celeba_nb.training import checkpoint_path, differences, train

SMALL = Recipe(train_images=48, valid_images=16, test_images=16, size=16, epochs=2, batch_size=8, threads=1, device="cpu",
               precision="float32", model_args={"hidden": 8, "channels": [4, 4]})
WEIGHTED = replace(SMALL, loss="celeba_nb.imbalance.WeightedBCE")
SAMPLED = replace(SMALL, sampler="celeba_nb.imbalance.rare_answers")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return read_celeba(make_sketch(tmp_path_factory.mktemp("imbalance") / "faces", 120, 16, 16, progress=False))


def test_yes_and_no_count_the_same():
    y = (torch.rand(200, 5, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.02, 0.3, 0.5, 0.0, 1.0])).float()
    weights = answer_weights(y, y.mean(0))
    assert torch.allclose((weights * y).sum(0)[:3], (weights * (1 - y)).sum(0)[:3])
    assert torch.allclose(weights.mean(0), torch.ones(5))
    assert (weights[:, 3:] == 1).all()  # all have it, or none
    r = y.mean(0)[:3]  # as `pos_weight` has it, but for a factor of each attribute
    logits = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    by_torch = F.binary_cross_entropy_with_logits(logits, y[:, :3], pos_weight=(1 - r) / r, reduction="none")
    ours = F.binary_cross_entropy_with_logits(logits, y[:, :3], weights[:, :3], reduction="none")
    assert torch.allclose(ours, by_torch * 0.5 / (1 - r), rtol=1e-4)


def test_the_loss_takes_the_rates_of_the_training_images(labels):
    class Seen(Callback):
        def on_start(self, state):
            self.rates = state.rates

    seen = Seen()
    train(WEIGHTED, labels, callbacks=(seen,), progress=False)
    rows = choose_rows(WEIGHTED, labels)["train"]
    assert np.allclose(seen.rates, labels.attributes.to_numpy()[rows].mean(0)) and len(rows) == 48


def test_more_rare_answers_are_given_and_drawn(labels):
    "The weighted network says yes more often; the sampler shows images with rare answers more often."
    longer = {"epochs": 12, "lr": 0.01, "train_images": None}
    plain, weighted = (train(replace(one, **longer), labels, progress=False) for one in (SMALL, WEIGHTED))
    rare = plain.predictions["valid_truth"].mean(0) < 0.3
    assert (weighted.predictions["test"][:, rare] > 0.5).mean() > (plain.predictions["test"][:, rare] > 0.5).mean()
    truth = torch.from_numpy(labels.attributes.to_numpy(np.float32)[labels.rows("train")])
    drawn = truth[torch.multinomial(rare_answers(truth), 20_000, replacement=True, generator=torch.Generator().manual_seed(0))]
    few = (truth.mean(0) > 0) & (truth.mean(0) < 0.1)
    assert drawn.mean(0)[few].mean() > 1.1 * truth.mean(0)[few].mean()


def test_an_epoch_is_drawn_anew_and_again(labels):
    recipe = resolve(SAMPLED, labels)
    rows = choose_rows(recipe, labels)
    train_batches, _ = make_batches(recipe, ImageCache(labels, 16, progress=False), rows)
    first, again, later = (train_batches(epoch).rows for epoch in (0, 0, 1))
    assert (first == again).all() and (first != later).any() and {*first} < {*rows["train"]} and len(first) == 48


def test_a_sampled_run_resumes_to_the_same_bits(labels, tmp_path):
    class PullThePlug(Callback):
        def on_step(self, state):
            if state.epoch == 1 and state.batch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SAMPLED, labels, tmp_path / "run", callbacks=(PullThePlug(),), progress=False, every=1)
    assert checkpoint_path(tmp_path / "run").exists()
    resumed = train(SAMPLED, labels, tmp_path / "run", progress=False)
    assert differences(resumed, train(SAMPLED, labels, progress=False)) == {}
    assert differences(resumed, train(SMALL, labels, progress=False)) != {}


def test_the_sampler_is_asked_once(labels, monkeypatch):
    asked = []
    monkeypatch.setattr("celeba_nb.imbalance.rare_answers", lambda y: asked.append(len(y)) or torch.ones(len(y)))
    train(SAMPLED, labels, progress=False)
    assert asked == [48]


def test_a_run_without_a_sampler_keeps_its_id():
    assert run_id(Recipe(), "data") == run_id(Recipe(sampler=None, sampler_args={}), "data") != run_id(SAMPLED, "data")


@pytest.mark.parametrize("given", [torch.ones(3), torch.full((4,), -1.0), torch.zeros(4), torch.full((4,), torch.nan), [1] * 4])
def test_weights_that_cannot_be(given, monkeypatch):
    monkeypatch.setattr("celeba_nb.batches.import_object", lambda name: lambda y: given)
    with pytest.raises(TrainingError, match="must return a weight of at least 0 for each of 4 images"):
        sampling_weights(SAMPLED, np.zeros((4, 2), np.float32))
