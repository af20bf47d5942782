"""Checkpoints: all that a run needs to go on is in them, and nothing else passes for one."""
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import tensor

from celeba_nb.checkpoint import (
    Checkpoint,
    checksum,
    load_checkpoint,
    match_memory_format,
    read_checkpoint,
    save_checkpoint,
    state_numbers,
    state_tensors,
)
from celeba_nb.core import DamagedError, TrainingError, WriteError
from celeba_nb.loop import bce, run_callbacks, train_step
from celeba_nb.recipe import Recipe
from celeba_nb.state import new_state
from celeba_nb.training import AverageWeights

RECIPE = Recipe(size=16, model_args={"hidden": 4}, device="cpu", precision="float32", memory_format="channels_last", threads=1,
                ema_decay=0.9, schedule="cosine", epochs=2)


@pytest.fixture
def state():
    state = new_state(RECIPE, steps=3)
    x = torch.rand(8, 3, 16, 16).to(memory_format=torch.channels_last)
    for _ in range(2):
        train_step(state, state.net, bce, x, torch.ones(8, 40))
        AverageWeights().on_step(state)
    return state


def test_a_fresh_state_becomes_the_one_that_was_saved(state, tmp_path):
    save_checkpoint(state, tmp_path / "a.safetensors", "a run")
    would_come, fresh = torch.rand(3), new_state(RECIPE, steps=3)
    load_checkpoint(fresh, tmp_path / "a.safetensors", "a run")
    assert torch.equal(torch.rand(3), would_come)
    before, after = state_tensors(state), state_tensors(fresh)
    assert before.keys() == after.keys() and any(key.startswith("averaged.") for key in after)
    assert all(torch.equal(value, after[key]) for key, value in before.items() if key != "random")
    assert json.dumps(state_numbers(fresh)) == json.dumps(state_numbers(state))
    assert state_numbers(fresh)["scheduler"]["last_epoch"] == 2  # the scheduler counts steps, and calls them epochs


def test_the_next_step_is_the_same(state, tmp_path):
    "The moments are in the order of the weights' memory, or each weight would get those of a different one."
    save_checkpoint(state, tmp_path / "a.safetensors", "a run")
    fresh, x = new_state(RECIPE, steps=3), torch.rand(8, 3, 16, 16).to(memory_format=torch.channels_last)
    load_checkpoint(fresh, tmp_path / "a.safetensors", "a run")
    for one in (state, fresh):
        train_step(one, one.net, bce, x, torch.ones(8, 40))
    assert all(torch.equal(a, b) for a, b in zip(state.net.parameters(), fresh.net.parameters()))
    weight, moment = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.rand(2, 3, 4, 4)
    assert match_memory_format(moment, weight).stride() == weight.stride() != moment.stride()
    assert torch.equal(match_memory_format(moment, weight), moment) and match_memory_format(tensor(7.0), weight) == 7


def test_answers_of_a_teacher_come_back(state, tmp_path):
    answered, empty = (SimpleNamespace(truth=torch.full((4, 40), value)) for value in (0.25, torch.nan))
    save_checkpoint(replace(state, unlabeled=answered), tmp_path / "a.safetensors", "a run")
    load_checkpoint(new_state(RECIPE, 3, empty), tmp_path / "a.safetensors", "a run")
    assert torch.equal(empty.truth, answered.truth)


def test_random_numbers_of_the_right_card_come_back(state, tmp_path, monkeypatch):
    class Card:
        states = {"cuda:1": tensor([7])}

        def get_rng_state(self, device):
            return self.states[device]

        def set_rng_state(self, value, device):
            self.states[device] = value

    monkeypatch.setattr(torch, "get_device_module", lambda device: Card())
    on_card = replace(state, recipe=replace(RECIPE, device="cuda:1"))
    save_checkpoint(on_card, tmp_path / "a.safetensors", "a run")
    Card.states["cuda:1"] = tensor([8])
    load_checkpoint(on_card, tmp_path / "a.safetensors", "a run")
    assert Card.states["cuda:1"] == 7


@pytest.mark.parametrize("event, batch, every, saved", [
    ("step", 1, 2, False), ("step", 2, 2, True), ("step", 3, 2, False), ("step", 4, 2, True), ("step", 2, None, False),
    ("epoch", 0, None, True)])
def test_when_it_is_saved(event, batch, every, saved, state, tmp_path):
    state.batch = batch
    run_callbacks([Checkpoint(tmp_path / "a.safetensors", "a run", every)], event, state)
    assert (tmp_path / "a.safetensors").exists() == saved


def test_what_is_no_checkpoint_of_this_run(state, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(state, path, "a run")
    with pytest.raises(TrainingError, match="belongs to another run"):
        load_checkpoint(new_state(RECIPE, 3), path, "another")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match="a.safetensors is damaged"):
        read_checkpoint(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    assert load_file(path)  # the library finds nothing wrong
    with pytest.raises(DamagedError, match="its checksum doesn't match"):
        read_checkpoint(path)


def test_one_that_cannot_be_read_is_not_damaged(tmp_path):
    "It may be whole: the run must not begin anew, and write over it."
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(TrainingError, match="can't be read") as caught:
        read_checkpoint(tmp_path / "a.safetensors")
    assert not isinstance(caught.value, DamagedError)


def test_one_that_cannot_be_written(state, tmp_path):
    with pytest.raises(WriteError, match="a.safetensors: can't be written"):
        save_checkpoint(state, tmp_path / "nowhere" / "a.safetensors", "a run")


def test_weights_that_two_layers_share(state, tmp_path):
    "They have two names and one memory, which safetensors would refuse."
    state.net.add_module("again", state.net.head[-1])
    save_checkpoint(state, tmp_path / "a.safetensors", "a run")


def test_the_checksum_sees_bits_names_and_texts():
    one, other = {"a": tensor([1.0, 2.0])}, {"a": tensor([1.0, 2.0000002])}
    assert checksum(one, "text") == checksum({"a": tensor([1.0, 2.0])}, "text") and len(checksum(one)) == 8
    assert len({checksum(one, "text"), checksum(other, "text"), checksum(one, "test"), checksum({"b": one["a"]}, "text")}) == 4
