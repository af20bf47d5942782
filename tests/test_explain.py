"""Where a network looks: the methods against their definitions, the scores, the tables of notebook 11 and how they are made."""
import copy
import importlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from celeba_nb.attribution import (
    ATTRIBUTION_METHODS,
    as_batch,
    attribute_maps,
    energy_inside,
    last_feature_maps,
    randomize_weights,
    show_heatmap,
)
from celeba_nb.core import ATTRIBUTES
from celeba_nb.explain import dilate, pointing_game, truth_masks
from celeba_nb.images import decode, normalize
from celeba_nb.model import AttributeCNN, ResNet, predict
from celeba_nb.recipe import QUICKEST
from celeba_nb.sketch import flip_coins, label_faces, plan_faces
from tools.notebooks import ROOT

RESULTS = ROOT / "nbs" / "results"
HAT = ATTRIBUTES.index("Wearing_Hat")
METHODS = list(ATTRIBUTION_METHODS)
NAMES = ["Wearing_Hat", "Eyeglasses", "Wearing_Necktie", "Bangs", "Goatee", "Mustache", "Mouth_Slightly_Open", "Rosy_Cheeks",
         "Wearing_Earrings", "Wearing_Necklace", "Pale_Skin", "Blurry"]
FACES = flip_coins(plan_faces((60, 1, 1), seed=3), NAMES)
SMALL = dict(channels=(8, 16, 16, 16), blocks=(0, 0, 0, 1))


@pytest.fixture(scope="module")
def x():
    return as_batch([face for face in FACES if "Wearing_Hat" in face][:4])


@pytest.fixture
def net():
    "Random weights and running averages that are not those of the first step: enough to compare two ways to the same number."
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ResNet(**SMALL)
        made(as_batch(FACES[:8]))
    return made.eval()


@pytest.fixture(scope="module")
def bench():
    return importlib.import_module("benchmarks.explain")


def gradient_of(net, x):
    x = x.clone().requires_grad_()
    net(x)[:, HAT].sum().backward()
    return x.grad


def maps_and_gradient(net, x):
    maps = net.body(x)
    return maps.detach(), torch.autograd.grad(net.head(maps)[:, HAT].sum(), maps)[0]


# Drawn faces and their truth


def test_as_batch():
    images, labels = as_batch(FACES[:3]), label_faces(FACES[:3], (1, 1, 1))
    assert images.shape == (3, 3, 64, 64) and -1 <= images.min() < images.max() <= 1
    assert torch.equal(images[1], normalize(decode(labels.read(1), 64)))
    assert as_batch(FACES[:2], 32).shape == (2, 3, 32, 32)


def test_label_faces():
    labels = label_faces(FACES[:12], (6, 2, 4))
    assert len(labels) == 12 and len(labels.rows("test")) == 4
    assert [labels.attributes[name].iloc[7] for name in NAMES] == [name in FACES[7] for name in NAMES]
    with pytest.raises(ValueError, match="4 images, but there are 3 faces"):
        label_faces(FACES[:3], (1, 1, 2))


def test_truth_masks():
    hats, ties, blurs = (truth_masks(FACES[:4], name) for name in ("Wearing_Hat", "Wearing_Necktie", "Blurry"))
    assert hats.shape == (4, 64, 64) and 0 <= hats.min() and hats.max() <= 1
    assert hats[:, :32].sum() > 5 * hats[:, 32:].sum() and ties[:, 32:].sum() > 5 * ties[:, :32].sum()
    assert blurs[:, :32].sum() > 500 and blurs[:, 32:].sum() > 500


def test_outside_the_mask_nothing_changes():
    hats = truth_masks(FACES[:4], "Wearing_Hat")
    with_hat, without = (as_batch([face.change("Wearing_Hat", to=to) for face in FACES[:4]]) for to in (True, False))
    change = (with_hat - without).abs().amax(1)
    assert change[hats == 0].mean() < 0.02 < 0.3 < change[hats == 1].mean()


def test_the_truth_through_coarse_places_scores_badly():
    "What Grad-CAM could reach at best: 4×4 places are larger than cheeks or a goatee."
    def ceiling(name):
        mask = truth_masks([face.change(name, to=True) for face in FACES[:6]], name)
        coarse = F.interpolate(F.adaptive_avg_pool2d(mask[:, None], 4), (64, 64), mode="bilinear")[:, 0]
        return energy_inside(coarse, mask).mean()

    assert ceiling("Rosy_Cheeks") < ceiling("Wearing_Hat") < 1 and ceiling("Goatee") < ceiling("Wearing_Hat")


# The methods


def test_gradient_of_each_picture_is_its_own(net, x):
    "In evaluation mode; in training mode batch normalisation mixes the pictures."
    whole = gradient_of(net, x)
    assert torch.allclose(gradient_of(net, x[:1]), whole[:1], atol=1e-6)
    assert not torch.allclose(gradient_of(copy.deepcopy(net).train(), x)[:1], whole[:1], atol=1e-5)
    assert torch.allclose(attribute_maps(net, x, "Wearing_Hat", "gradient"), whole.abs().sum(1), atol=1e-5)


def test_occlusion(net, x):
    total, times, ours = torch.zeros(64, 64), torch.zeros(64, 64), attribute_maps(net, x[:1], "Wearing_Hat", "occlusion")[0]
    places = [(slice(t, t + 8), slice(left, left + 8)) for t in range(0, 57, 4) for left in range(0, 57, 4)]
    assert len(places) == 225
    with torch.no_grad():
        for place in places:
            covered = x[0].clone()
            covered[:, *place] = 0
            total[place] += (net(x[:1]) - net(covered[None]))[0, HAT]
            times[place] += 1
    assert torch.allclose(ours, total / times, atol=1e-4)


def test_integrated_gradients_are_complete(net, x):
    by_hand = x * sum(gradient_of(net, (step + 0.5) / 32 * x) for step in range(32)) / 32
    ours = attribute_maps(net, x, "Wearing_Hat", "integrated gradients")
    assert torch.allclose(ours, by_hand.sum(1), atol=1e-3)
    with torch.no_grad():
        difference = (net(x) - net(torch.zeros_like(x)))[:, HAT]
    assert torch.allclose(ours.sum((1, 2)), difference, atol=0.05 * difference.abs().max() + 0.02)


def test_grad_cam(net, x):
    maps, gradient = maps_and_gradient(net, x)
    weighted = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)
    assert maps.shape == (4, 16, 4, 4)
    assert torch.allclose(attribute_maps(net, x, "Wearing_Hat", "Grad-CAM"),
                          F.interpolate(weighted, (64, 64), mode="bilinear")[:, 0], atol=1e-4)
    assert torch.equal(attribute_maps(net, x, "Blurry", "Grad-CAM", net.body), attribute_maps(net, x, "Blurry", "Grad-CAM"))


@pytest.mark.parametrize("method", METHODS)
def test_one_attribute_for_each_image(net, x, method):
    both = attribute_maps(net, x[:2], ["Wearing_Hat", "Eyeglasses"], method)
    assert both.shape == (2, 64, 64) and torch.isfinite(both).all() and not both.requires_grad
    assert torch.allclose(both[1:], attribute_maps(net, x[1:2], "Eyeglasses", method), atol=1e-4)


def test_attribute_maps_leave_the_network_as_it_was(net, x):
    before = [value.clone() for value in net.state_dict().values()]
    net.train()
    finer = attribute_maps(net, x[:2], "Blurry", "Grad-CAM", net.body[2])
    assert net.training and all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values()))
    assert not torch.equal(finer, attribute_maps(net.eval(), x[:2], "Blurry", "Grad-CAM"))


@pytest.mark.parametrize(("name", "method", "text"), [
    ("Hat", "gradient", "not among CelebA's 40 attributes: Hat"), ("Blurry", "magic", "no method 'magic'")])
def test_attribute_maps_refuse(net, x, name, method, text):
    with pytest.raises(ValueError, match=text):
        attribute_maps(net, x, name, method)


def test_last_feature_maps(net):
    small = AttributeCNN()
    assert last_feature_maps(net) is net.body and last_feature_maps(small) is small.features
    with pytest.raises(ValueError, match="Linear has no `body`"):
        last_feature_maps(nn.Linear(2, 2))


def test_show_heatmap(x):
    ax = show_heatmap(x[0], torch.zeros(64, 64), plt.figure(figsize=(1, 1)).gca(), "nothing")
    assert len(ax.images) == 2 and ax.get_title() == "nothing"
    assert ax.images[1].get_alpha().max() == 0 and ax.images[1].get_clim() == (-1, 1)  # no heat, no colour
    plt.close()


def test_randomize_weights(net, x):
    def changed(new):
        return [not torch.equal(a, b) for a, b in zip(net.parameters(), new.parameters())]

    assert not any(changed(randomize_weights(net, 0)))
    assert changed(randomize_weights(net, 1))[-2:] == [True, True] and not any(changed(randomize_weights(net, 1))[:-2])
    assert torch.equal(randomize_weights(net, seed=1).head[-1].weight, randomize_weights(net, seed=1).head[-1].weight)
    layers = sum(hasattr(layer, "reset_parameters") for layer in net.modules())
    for whole, part in zip(randomize_weights(net).parameters(), randomize_weights(net, layers).parameters()):
        assert torch.equal(whole, part)
    assert (predict(randomize_weights(net, seed=5), x) - predict(net, x)).abs().max() > 0.01  # it answers otherwise


# The scores

LEFT, DOT = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
LEFT[:, :, :4], DOT[0, 3, 4] = 1, 1


def test_energy_inside():
    assert energy_inside(torch.ones(1, 8, 8), LEFT) == 0.5 and energy_inside(LEFT, LEFT) == 1
    assert energy_inside(1 - 2 * LEFT, LEFT) == 0  # what speaks against doesn't count
    assert energy_inside(torch.zeros(1, 8, 8), LEFT) == 0


def test_pointing_game():
    assert dilate(DOT).sum() == 9 and dilate(LEFT).sum() == 40
    assert pointing_game(DOT, LEFT) == 1  # one pixel beside it: near enough
    assert pointing_game(DOT.roll(1, 2), LEFT) == 0 == pointing_game(-LEFT, LEFT)
    assert pointing_game(torch.zeros(1, 8, 8), LEFT) == 0


# How the tables are made


def test_guesses(bench):
    masks = truth_masks(FACES[:4], "Wearing_Hat")
    made = bench.guesses(masks)
    assert torch.allclose(energy_inside(torch.ones_like(masks), masks), made["anywhere"]["energy"])
    assert torch.allclose(made["habit"]["energy"][0], energy_inside(masks[1:].mean(0)[None], masks[:1])[0], atol=1e-6)
    middle = torch.zeros(2, 64, 64)
    middle[:, 31:33, 31:33] = 1
    assert bench.guesses(middle)["centre"]["pointing"].tolist() == [1, 1]


def test_sample_of(bench):
    images, masks, people, faces = bench.sample_of(FACES, "Wearing_Earrings", 16)
    assert 8 < len(images) == len(masks) == len(people) == len(faces) <= 16
    assert all("Wearing_Earrings" in face for face in faces) and (masks.sum((1, 2)) >= 8).all()


def test_place_by_place_is_complete(bench, net, x):
    "The head is an average and a linear layer: the values of the last maps times their gradients, and the bias, are the logit."
    maps, gradient = maps_and_gradient(net, x)
    made = dict(bench.place_maps(net, x, "Wearing_Hat"))
    places = (maps * gradient).sum(1)
    assert torch.allclose(made["place by place, 4×4"], F.interpolate(places[:, None], (64, 64), mode="bilinear")[:, 0], atol=1e-4)
    assert torch.equal(made["Grad-CAM, 4×4"], attribute_maps(net, x, "Wearing_Hat", "Grad-CAM"))
    with torch.no_grad():
        assert torch.allclose(places.sum((1, 2)) + net.head[-1].bias[HAT], net(x)[:, HAT], atol=1e-3)


def test_layers_have_the_places_that_they_are_named_by(bench):
    net, sides = ResNet(**QUICKEST["model_args"]).eval(), []
    for layer in bench.layers_of(net).values():
        layer.register_forward_hook(lambda _, __, maps: sides.append(maps.shape[-1]))
    net(torch.zeros(1, 3, 64, 64))
    assert sorted(sides) == sorted(bench.layers_of(net))


def test_shortcut_sets(bench):
    sets = bench.shortcut_sets(FACES)
    assert list(sets) == ["0% free", "3% free", "10% free", "30% free", "100% free", "10% free, balanced"]
    assert all(map(bench.follows, sets["0% free"])) and sets["100% free"] == FACES
    assert {name for a, b in zip(sets["0% free"], FACES) for name in a.attributes ^ b.attributes} == {"Eyeglasses"}
    balanced = bench.balance(sets["30% free"])
    assert np.mean([*map(bench.follows, balanced)]) == 0.5 and len(balanced) == len(FACES)


def test_in_third(bench):
    assert bench.in_third(torch.ones(1, 6, 6), "middle")[0, :, 0].tolist() == [0, 0, 1, 1, 0, 0]


# What they say


def test_table_of_networks():
    table = pd.read_csv(RESULTS / "explain_networks.csv")
    assert (table["networks"] == 5).all() and list(table["attribute"]) == NAMES


def test_table_of_scores():
    table = pd.read_csv(RESULTS / "explain_scores.csv")
    assert set(table["method"]) == {*METHODS, "anywhere", "centre", "habit"} and table["mean"].between(0, 1).all()
    assert set(table["network"]) == {"trained", "random weights"}
    means = table.groupby(["method", "network"])["mean"].mean().unstack()
    for guess in ("anywhere", "centre", "habit"):  # they don't look at the network
        assert means.loc[guess, "trained"] == means.loc[guess, "random weights"]
    assert (means.loc[METHODS, "trained"] < means.loc["habit", "trained"]).all()


def test_table_of_the_shortcut(bench):
    table = pd.read_csv(RESULTS / "explain_shortcut.csv")
    by_kind = table.groupby("training faces", sort=False)
    assert by_kind.size().to_dict() == dict.fromkeys(bench.shortcut_sets(FACES), 8)
    right = by_kind["Eyeglasses untied"].mean()
    assert right.idxmin() == "0% free" and right.idxmax() == "100% free"
    effects = pd.read_csv(RESULTS / "explain_shortcut_effects.csv")
    assert (effects["verdict"] == "helps").all() and (effects["wins"] == 8).all()


def test_table_of_real_faces():
    table = pd.read_csv(RESULTS / "explain_real.csv")
    assert set(table["network"]) == {"trained", "random weights"} and (table["networks"] == 4).all()
