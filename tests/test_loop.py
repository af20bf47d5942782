"The loop's parts: the loss in each precision, the accounts of a step and an epoch, the events of a run."
import math
from dataclasses import replace

import pytest
import torch

from celeba_nb.batches import make_batches
from celeba_nb.core import TrainingError
from celeba_nb.data import Batches
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback, bce, fit, run_callbacks, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.run import choose_rows, resolve
from celeba_nb.state import build_net, end_epoch, new_state
from celeba_nb.training import train


@pytest.fixture(scope="module")
def recipe(labels):
    return resolve(Recipe(train_images=30, valid_images=10, test_images=10, size=16, batch_size=10, epochs=2, device="cpu",
                          precision="float32", model_args={"channels": [8, 8, 8], "hidden": 16}), labels)


@pytest.fixture(scope="module")
def run_batches(recipe, labels):
    rows = choose_rows(recipe, labels)
    cache = ImageCache(labels, 16, [row for split in rows.values() for row in split], progress=False)
    return make_batches(recipe, cache, rows)


@pytest.fixture(scope="module")
def batch(run_batches):
    return next(iter(run_batches[0](0)))


def test_loss_keeps_its_slope_and_its_digits(recipe, batch):
    net, (x, y) = build_net(recipe), batch
    logit = torch.tensor([40.0], requires_grad=True)
    bce(lambda x: logit, None, torch.tensor([0.0])).backward()
    assert logit.grad.item() == 1  # sure and wrong: a probability would have lost the slope
    assert torch.isclose(bce(net, x, y), torch.nn.functional.binary_cross_entropy_with_logits(net(x), y))
    assert bce(lambda x: net(x).bfloat16(), x, y).dtype == torch.float32
    assert bce(lambda x: torch.full_like(y, 1000.0), x, y).isfinite()


def test_step_does_the_accounts(recipe, batch):
    state, net, (x, y) = new_state(replace(recipe, optimizer="SGD", lr=0.1), steps=3), build_net(recipe), batch
    train_step(state, state.net, bce, x, y)
    assert state.batch == 1 and state.images == len(x)
    assert math.isclose(state.loss_sum, len(x) * bce(net, x, y).item(), rel_tol=1e-5)
    bce(net, x, y).backward()
    for weight, new in zip(net.parameters(), state.net.parameters()):
        assert torch.allclose(weight - 0.1 * weight.grad, new, atol=1e-6)


def test_step_tells_the_schedule(recipe, batch):
    halfway = new_state(replace(recipe, schedule="cosine", epochs=1), steps=2)
    train_step(halfway, halfway.net, bce, *batch)
    assert math.isclose(halfway.optimizer.param_groups[0]["lr"], recipe.lr / 2)


def test_a_lost_loss_is_a_sentence(recipe, batch):
    state = new_state(recipe, 3)
    with pytest.raises(TrainingError, match=r"\(epoch 1, step 1\): try a learning rate below 0.001"):
        train_step(state, state.net, lambda net, x, y: bce(net, x, y) * torch.inf, *batch)


def test_an_epoch_ends_with_a_row(recipe, run_batches, batch):
    state, valid = new_state(replace(recipe, lr=0.1), steps=3), run_batches[1]["valid"]
    first = bce(state.net, *batch).item()
    train_step(state, state.net, bce, *batch)
    end_epoch(state, valid)
    row, (x, y) = state.history[0], next(iter(Batches(valid.cache, valid.rows, 64)))
    assert math.isclose(row["train_loss"], first, rel_tol=1e-5)
    assert math.isclose(row["valid_loss"], bce(state.net, x, y).item(), rel_tol=1e-5)
    assert 0 <= row["valid_accuracy"] <= 1
    assert (state.epoch, state.batch, state.images, state.loss_sum) == (1, 0, 0, 0.0)


class Diary(Callback):
    def on_start(self, state):
        self.events = ["start"]

    def on_step(self, state):
        self.events.append(state.batch)

    def on_epoch(self, state):
        self.events.append("epoch")

    def on_end(self, state):
        self.events.append("end")


def test_each_event_comes_in_its_turn(recipe, run_batches):
    (train_batches, batches), diary = run_batches, Diary()
    state = new_state(recipe, len(train_batches(0)))
    fit(state, train_batches, batches["valid"], [diary])
    assert diary.events == ["start", 1, 2, 3, "epoch", 1, 2, 3, "epoch", "end"]
    assert [row["epoch"] for row in state.history] == [1, 2] and state.seconds > 0
    assert state.history[1]["train_loss"] < state.history[0]["train_loss"]


def test_a_misspelt_event_is_an_error_at_once():
    with pytest.raises(TypeError, match="Typo.on_stpe: no such event; there are start, step, epoch, end"):
        type("Typo", (Callback,), {"on_stpe": lambda self, state: None})


def test_a_callback_that_fails_is_named():
    clumsy = type("Clumsy", (Callback,), {"on_step": lambda self, state: 1 / 0})()
    run_callbacks([clumsy], "epoch", None)  # it has no method for this event
    with pytest.raises(ZeroDivisionError) as caught:
        run_callbacks([clumsy], "step", None)
    assert caught.value.__notes__ == ["(in the callback Clumsy, at the event 'step')"]


def test_callbacks_run_in_the_order_of_the_list():
    signed = []
    sign = lambda name: type("Signs", (Callback,), {"on_end": lambda self, state: state.append(name)})()  # noqa: E731
    run_callbacks([sign("first"), sign("second")], "end", signed)
    assert signed == ["first", "second"]


def test_train_returns_the_run(recipe, labels):
    run = train(recipe, labels, progress=False)
    assert len(run.history) == 2 and run.predictions["test"].shape == (10, 40)
    assert run.metrics["valid_loss"] == run.history["valid_loss"].iloc[-1]
