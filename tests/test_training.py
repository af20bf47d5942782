"""One run from recipe to record: which images, which bits, stopped and resumed, made again, evaluated elsewhere."""
import math
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from celeba_nb import training
from celeba_nb.batches import make_batches
from celeba_nb.core import TrainingError
from celeba_nb.data import DeviceImages
from celeba_nb.device import best_device
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback
from celeba_nb.recipe import Recipe
from celeba_nb.run import choose_rows, finish, resolve, run_metrics
from celeba_nb.sketch import make_sketch
from celeba_nb.state import SINGLE_PROCESS, compute_logits
from celeba_nb.training import _all_callbacks, changes_since, checkpoint_path, differences, evaluate, reproduce, train

SMALL = Recipe(train_images=24, valid_images=8, test_images=8, size=16, epochs=2, batch_size=8, threads=1, precision="float32",
               model_args={"hidden": 4})


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return read_celeba(make_sketch(tmp_path_factory.mktemp("training") / "faces", 64, 8, 8, progress=False))


@pytest.fixture(scope="module")
def whole(labels):
    return train(SMALL, labels, progress=False)


class PullThePlug(Callback):
    def on_step(self, state):
        if state.epoch == 1 and state.batch == 2:
            raise KeyboardInterrupt


class Diary(Callback):
    events = ()

    def on_start(self, state):
        self.events = ["start"]

    def on_step(self, state):
        self.events.append(state.batch)
        self.deterministic = torch.backends.cudnn.deterministic


def test_which_images(labels):
    rows, faster, other = (choose_rows(replace(SMALL, **more), labels) for more in ({}, {"lr": 0.1}, {"seed": 1}))
    assert all((rows[split] == faster[split]).all() for split in rows) and (rows["train"] != other["train"]).any()
    assert (rows["valid"] == other["valid"]).all() and (rows["test"] == other["test"]).all()
    some = choose_rows(replace(SMALL, unlabeled_images=20, unlabeled_batch_size=8), labels)
    assert len(some["unlabeled"]) == 20 and not set(some["unlabeled"]) & set(some["train"]) and not len(rows["unlabeled"])
    every = choose_rows(replace(SMALL, unlabeled_images=None, unlabeled_batch_size=8), labels)
    assert len(every["unlabeled"]) + 24 == 64
    with pytest.raises(TrainingError, match="besides the 24 labelled ones"):
        choose_rows(replace(SMALL, unlabeled_images=10**6, unlabeled_batch_size=8), labels)


def test_nothing_is_left_open(labels):
    resolved = resolve(replace(SMALL, valid_images=None, precision="auto"), labels)
    assert "auto" not in vars(resolved).values() and resolved.valid_images == 8 and resolve(resolved, labels) == resolved
    assert resolve(replace(SMALL, precision="bfloat16"), labels).precision == "bfloat16"
    with pytest.raises(TrainingError, match="there is no cuda:7 here"):
        if torch.cuda.is_available():
            pytest.skip("there is a card here")
        resolve(replace(SMALL, device="cuda:7"), labels)


def test_the_same_bits(labels, whole):
    assert differences(whole, train(SMALL, labels, progress=False)) == {}
    assert any(key.startswith("weights") for key in differences(whole, train(replace(SMALL, seed=1), labels, progress=False)))


def test_images_on_a_device_give_the_same_bits(labels, whole, monkeypatch):
    "As on a graphics card with room for them; the device is the CPU here."
    asked = []
    monkeypatch.setattr(training, "keep_on_card", lambda cache, device: asked.append(device) or DeviceImages(cache, device))
    assert differences(whole, train(SMALL, labels, progress=False)) == {} and asked == ["cpu"]


def test_validating_less_often_changes_nothing(labels):
    seldom, often = (train(replace(SMALL, epochs=3, valid_every=every), labels, progress=False) for every in (2, 1))
    assert all(torch.equal(value, seldom.weights[key]) for key, value in often.weights.items())
    assert seldom.history["valid_loss"].isna().tolist() == [True, False, False]
    assert seldom.metrics["valid_loss"] == often.metrics["valid_loss"]


@pytest.mark.parametrize("more", [{}, {"ema_decay": 0.9, "schedule": "cosine", "augment": "celeba_nb.augment.random_flip",
                                       "optimizer": "AdamW"}])
def test_stopped_and_resumed(more, labels, tmp_path):
    recipe, folder, diary = replace(SMALL, **more), tmp_path / "run", Diary()
    undisturbed = train(recipe, labels, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, labels, folder, callbacks=(PullThePlug(),), progress=False, every=1)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["run.checkpoint.safetensors"]
    before = torch.backends.cudnn.deterministic
    resumed = train(recipe, labels, folder, callbacks=(diary,), progress=False)
    assert diary.events == ["start", 2, 3] and diary.deterministic and torch.backends.cudnn.deterministic == before
    assert differences(undisturbed, resumed) == {} and not checkpoint_path(folder).exists()
    again = train(recipe, labels, folder, callbacks=(PullThePlug(),))  # no step is made, or this would stop
    assert differences(undisturbed, again) == {}


def test_the_callbacks_of_a_run():
    everything = _all_callbacks(replace(SMALL, ema_decay=0.9), True, (Diary(),), "a checkpoint")
    assert [type(callback).__name__ for callback in everything] == ["AverageWeights", "Progress", "Diary", "str"]
    assert _all_callbacks(SMALL, False, (), None) == [] == _all_callbacks(SMALL, True, (), "a checkpoint", writes=False)


def test_the_record_is_what_the_network_says(labels, whole):
    rows = choose_rows(whole.recipe, labels)
    _, batches = make_batches(whole.recipe, ImageCache(labels, 16, progress=False), rows)
    looked_again = compute_logits(whole.net(), batches["test"], whole.recipe).sigmoid().numpy()
    assert (looked_again == whole.predictions["test"]).all() and (whole.predictions["test_rows"] == rows["test"]).all()
    assert (whole.predictions["test"] != whole.predictions["test_mirrored"]).any()
    state = SimpleNamespace(eval_net=whole.net(), recipe=whole.recipe, valid_logits=None, seconds=1.0, process=SINGLE_PROCESS,
                            history=whole.history.to_dict("records"))
    assert differences(finish(state, batches, labels), whole) == {}  # a run that was stopped right after its last epoch


def test_a_run_in_a_few_numbers():
    "Made-up answers about two images: three of four are right, mirrored all. (One half exactly is no yes.)"
    truth = np.array([[True, False], [True, False]])
    made_up = {"valid": np.array([[0.9, 0.5], [0.9, 0.5]]), "test": np.array([[0.9, 0.6], [0.9, 0.2]]),
               "test_mirrored": np.array([[0.9, 0.1], [0.9, 0.2]]), "valid_truth": truth, "test_truth": truth,
               "test_losses": np.array([0.25, 0.75])}
    counted = run_metrics(SimpleNamespace(history=[{"train_loss": 0.3, "valid_loss": 0.4}], seconds=2.0), made_up)
    assert counted == {"train_loss": 0.3, "valid_loss": 0.4, "valid_accuracy": 1, "test_loss": 0.5, "test_accuracy": 0.75,
                       "test_mirrored_accuracy": 1, "seconds": 2.0}


def test_a_forged_record_is_found_out(labels, whole):
    longer = train(replace(SMALL, epochs=3), labels, progress=False)
    apart = differences(whole, longer)
    assert apart["history epoch"] == math.inf and 0 < apart["predictions test"] < 1 and "predictions test_truth" not in apart
    assert reproduce(whole, labels, progress=False) == {} == changes_since(whole)
    forged = replace(whole, predictions=longer.predictions)
    assert reproduce(forged, labels, progress=False)["predictions test"] == apart["predictions test"]
    assert [*reproduce(replace(whole, temperature=whole.temperature + 1), labels, progress=False)] == ["temperature"]
    assert reproduce(replace(whole, temperature=None), labels, progress=False) == {}  # an older record
    assert changes_since(replace(whole, machine=whole.machine | {"torch": "0.1"})) == {"torch": ("0.1", torch.__version__)}
    with pytest.raises(TrainingError, match="trained on different data"):
        reproduce(replace(whole, data="other"), labels)


def test_evaluate_here_and_elsewhere(labels, whole):
    elsewhere = replace(whole, recipe=replace(whole.recipe, device="cuda" if best_device() != "cuda" else "mps"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images: some attributes have no yes
        for run in (whole, elsewhere):
            found = evaluate(run, labels)
            assert found["images"] == 8 and math.isclose(found["accuracy"], whole.metrics["test_accuracy"], abs_tol=1e-9)
        assert math.isclose(evaluate(whole, labels, "valid")["accuracy"], whole.metrics["valid_accuracy"], rel_tol=1e-9)
