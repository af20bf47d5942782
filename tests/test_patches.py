"""Training in closed form: the recipe `race` from images to a record that can be used like any other."""
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from celeba_nb.core import TrainingError
from celeba_nb.export import export_onnx
from celeba_nb.images import ImageCache, normalize
from celeba_nb.loop import Callback
from celeba_nb.metrics import accuracy
from celeba_nb.model import predict
from celeba_nb.patches import (
    STRENGTHS,
    PatchNet,
    check_ridge,
    cut_patches,
    leave_out,
    ridge,
    ridge_left_out,
    set_filters,
    whitening,
)
from celeba_nb.recipe import RECIPES
from celeba_nb.report import write_report
from celeba_nb.run import choose_rows, load
from celeba_nb.training import reproduce, train

RACE = replace(RECIPES["race"], train_images=24, valid_images=8, test_images=8, threads=1)


@pytest.fixture(scope="module")
def folder(labels, tmp_path_factory):
    "The folder of a run."
    out = tmp_path_factory.mktemp("race") / "run"
    train(RACE, labels, out, progress=False)
    return out


def test_a_record_answers_as_the_run_did_and_can_be_made_again(folder, labels):
    run = load(folder)
    assert list(run.history["epoch"]) == [1] and run.history["train_loss"][0] < run.history["valid_loss"][0]
    assert not folder.with_name("run.checkpoint.safetensors").exists()
    assert reproduce(run, labels, progress=False) == {}
    again = train(replace(RACE, seed=1), labels, progress=False)
    assert not torch.equal(again.weights["conv.weight"], run.weights["conv.weight"])


def test_the_bar_moves_with_the_batches(labels):
    class Counter(Callback):
        "Counts the events of a run."
        steps = epochs = 0

        def on_step(self, state):
            self.steps += 1

        def on_epoch(self, state):
            self.epochs += 1

    counter = Counter()
    train(replace(RACE, batch_size=10), labels, callbacks=(counter,), progress=False)
    assert (counter.steps, counter.epochs) == (3, 1)


def test_the_linear_layer_is_the_best_one_for_both_orientations(labels):
    "The same weights as numpy's least squares, with the penalty as additional rows."
    run = train(replace(RACE, model_args={"filters": 4, "grid": 2}), labels, progress=False)
    rows = choose_rows(run.recipe, labels)["train"]
    x = normalize(ImageCache(labels, 32, rows, progress=False)[rows])
    net, truth = run.net(), labels.attributes.to_numpy(np.float64)[rows]
    with torch.no_grad():
        features = net.features(torch.cat([x, x.flip(-1)])).double().numpy()
    f, y = features - features.mean(0), np.tile(truth, (2, 1)) - truth.mean(0)
    penalty = np.sqrt((f**2).sum() / len(f) * run.recipe.weight_decay) * np.eye(f.shape[1])
    weights = np.linalg.lstsq(np.vstack([f, penalty]), np.vstack([y, np.zeros((len(penalty), 40))]), rcond=None)[0]
    assert np.allclose(net.head.weight.detach().numpy() / 7, weights.T, atol=1e-5)


def test_whitened_patches_are_white_and_kernels_do_the_whitening():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 3, 16, 16, generator=generator).cumsum(-1) / 8 - 1  # neighbours are nearly equal
    patches = cut_patches(x, 4, 20, generator)
    assert patches.shape == (4000, 48)
    mean, matrix = whitening(patches)
    before, after = (torch.linalg.eigvalsh(torch.cov(some.T.double())) for some in (patches, (patches - mean) @ matrix))
    assert torch.allclose(after, before / (before + 0.03 * before.mean()), atol=1e-3)  # strong directions: 1, noise: near 0
    assert before[-1] > 10 * before[-10] and after[-10] > 0.5
    net = PatchNet(16, filters=8, kernel=4, stride=2, grid=7)
    set_filters(net, x, torch.Generator().manual_seed(1))
    mean, matrix = whitening(cut_patches(x, 4, 40, torch.Generator().manual_seed(1)))  # of the same patches
    kernels = (net.conv.weight.flatten(1).double() @ matrix.double().inverse()).float()  # before whitening was put into them
    assert torch.allclose(kernels.norm(dim=1), torch.ones(8), atol=1e-3)
    by_hand = (x[:, :, 2:6, 4:8].flatten(1) - mean) @ matrix @ kernels.T
    assert torch.allclose(net.conv(x)[:, :, 1, 2], by_hand, atol=1e-4)


def test_leave_one_out_chooses_a_strength_for_each_attribute(labels):
    "An attribute that the features say all about needs a weak penalty, one that they say nothing about a strong one."
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 10, generator=generator).repeat(2, 1)
    noise = torch.randn(40, 1, generator=generator).repeat(2, 1)
    truth = torch.cat([features @ torch.randn(10, 1, generator=generator), noise], 1)
    errors = leave_out(features, truth)
    assert errors[:, 0].argmin() == 0 and errors[:, 1].argmin() == len(STRENGTHS) - 1
    weights, biases = ridge_left_out(features, truth)
    for i, strength in ((0, STRENGTHS[0]), (1, STRENGTHS[-1])):
        assert torch.allclose(weights[i], ridge(features, truth, strength)[0][i], atol=1e-5)
    run = train(replace(RACE, weight_decay=0.0), labels, progress=False)
    assert np.isfinite(run.metrics["test_accuracy"])


def test_constant_images_break_nothing():
    features, truth = torch.ones(10, 4), torch.ones(10, 2)
    mean, matrix = whitening(features)
    assert matrix.isfinite().all()
    weights, biases = ridge(torch.rand(10, 4), truth, 1.0)
    assert torch.allclose(weights, torch.zeros(2, 4), atol=1e-6) and torch.allclose(biases, torch.ones(2))


def test_what_a_run_is_used_for(folder, labels, tmp_path):
    run = load(folder)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    assert predict(run.net(), x).shape == (3, 40)
    export_onnx(run, tmp_path / "net.onnx")
    write_report(folder, tmp_path / "report.html")
    assert accuracy(run.predictions["test"], run.predictions["test_truth"]) == run.metrics["test_accuracy"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"epochs": 2}, "optimizer ridge needs epochs=1"),
    ({"ema_decay": 0.9}, "ema_decay=0"), ({"unlabeled_images": 5, "unlabeled_batch_size": 5}, "unlabeled_images=0"),
])
def test_recipes_that_cannot_be_are_refused(changes, said):
    with pytest.raises(TrainingError, match=said):
        replace(RACE, **changes)


def test_other_networks_are_refused(labels):
    with pytest.raises(TrainingError, match="ridge trains only celeba_nb.patches.PatchNet, not celeba_nb.model.AttributeCNN"):
        train(replace(RACE, model="celeba_nb.model.AttributeCNN"), labels, progress=False)
    with pytest.raises(ValueError, match="14×14 places, which can't be divided into 5×5"):
        PatchNet(grid=5)
    with pytest.raises(TrainingError, match="can't be divided"):
        train(replace(RACE, model_args={"grid": 5}), labels, progress=False)


@pytest.mark.parametrize(("weight_decay", "most"), [(1.0, "20,000"), (0.0, "4,000")])
def test_more_images_than_fit_into_memory_are_refused(weight_decay, most):
    recipe = replace(RACE, train_images=20_001, weight_decay=weight_decay)
    state = SimpleNamespace(recipe=recipe, net=PatchNet())
    with pytest.raises(TrainingError, match=f"20,001 training images are too many: ask for at most {most}"):
        check_ridge(state)
    state.recipe = replace(recipe, train_images=4000)
    check_ridge(state)


def test_a_run_in_closed_form_loads_no_compiler(small):
    "PyTorch's compiler needs seconds to load, which the race can't spare."
    code = f"""
import sys
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.training import train
train(Recipe(**{{k: v for k, v in vars({RACE!r}).items() if not k.startswith('_')}}), read_celeba({str(small)!r}), progress=False)
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
