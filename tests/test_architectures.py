"""The networks of notebook 08: what they are made of, what they weigh, and what makes them differ."""
import os
from pathlib import Path
from unittest.mock import patch
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from benchmarks.architectures import DEEP, LADDER, READY, SMALL, weights_of_questions
from celeba_nb.architectures import Plain, PlainNet, norm_cnn, pooled_cnn, torchvision_net
from celeba_nb.core import import_object
from celeba_nb.layers import Residual, conv_bn, macs, pooled_head, stages, stem, training_memory
from celeba_nb.model import AttributeCNN, ResNet, count_parameters, predict
from celeba_nb.pretrained import IMAGENET_MEAN, IMAGENET_STD, NETWORKS
from celeba_nb.recipe import QUICKEST


def images(n=2, size=64):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def convolutions(net):
    return sum(isinstance(layer, nn.Conv2d) for layer in net.modules())


@pytest.mark.parametrize(("build", "size"), [
    (AttributeCNN, 64), (norm_cnn, 64), (pooled_cnn, 64), (lambda size: pooled_cnn(size, grid=2), 128), (ResNet, 64),
    (lambda size: ResNet(size, drop=0.5, grid=4), 128), (lambda size: ResNet(size, **SMALL), 64),
    (lambda size: PlainNet(size, **DEEP), 64), *[(lambda size, name=name: torchvision_net(size, name), 64) for name in NETWORKS]])
def test_a_network_turns_images_into_forty_logits(build, size):
    with torch.no_grad():
        assert predict(build(size), torch.zeros(2, 3, size, size)).shape == (2, 40)


def test_networks_of_the_table_are_made_by_name():
    for model, args in (LADDER | READY).values():
        assert predict(import_object(model)(size=64, **args), images()).shape == (2, 40)


def test_questions_are_differences_of_two_networks():
    for weights in weights_of_questions().values():
        assert sum(weights) == 0 and sum(map(abs, weights)) == 2
    assert weights_of_questions()["ResNet-18 for 8 layers"] == (0, 0, 0, 0, 0, -1, 0, 1, 0)


def test_weights_of_the_normalised_network():
    assert count_parameters(norm_cnn(64)) - count_parameters(AttributeCNN(64)) == 32 + 64 + 128
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in norm_cnn(64).modules()) == 3
    assert conv_bn(3, 32)[0].bias is None


def test_weights_of_the_pooled_network_are_the_same_at_any_size():
    assert count_parameters(pooled_cnn(64)) == count_parameters(pooled_cnn(128)) == 93_472 + 40 * (128 + 1)


def test_the_head_averages_maps_of_any_size():
    head, maps = pooled_head(128), torch.randn(2, 128, 8, 8)
    assert head(torch.randn(2, 128, 5, 7)).shape == (2, 40)
    quarters = maps.unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean(dim=(3, 5))
    assert torch.allclose(pooled_head(128, grid=2)[0](maps), quarters, atol=1e-5)


def test_dropout_of_the_head():
    head, ones = pooled_head(128, drop=0.5), torch.ones(4, 128, 8, 8)
    assert set(head[:3](ones).unique().tolist()) == {0, 2}  # half of them zero, the others doubled: the same mean
    assert torch.equal(head.eval()[:3](ones), torch.ones(4, 128))


def test_two_blocks_are_four_paths():
    one, two, x = Residual(16), Residual(16), torch.randn(4, 16, 8, 8)
    with torch.no_grad():
        found = one.body(x)
        assert torch.allclose(two(one(x)), x + found + two.body(x + found), atol=1e-5)


def test_the_stem():
    first = stem(16)
    assert first(images(4)).shape == (4, 16, 32, 32) and first(images(4)).min() == 0
    assert count_parameters(first) == 16 * 3 * 4 * 4 + 2 * 16


def test_stages_hold_their_blocks():
    body = stages((16, 48, 96), (0, 1, 2), Residual)
    assert [type(layer) is Residual for layer in body] == [False, False, True, False, True, True]
    assert body(images(4)).shape == (4, 96, 8, 8)


def test_residual_networks_of_any_width_and_depth():
    assert ResNet(32, channels=(8, 16), blocks=(1, 3), attributes=3)(images(2, 32)).shape == (2, 3)
    assert count_parameters(ResNet(64)) == count_parameters(ResNet(128))
    assert QUICKEST["model_args"] == {"channels": list(SMALL["channels"])}
    assert convolutions(ResNet(64, **SMALL)) == 8 and convolutions(ResNet(64, **DEEP)) == 16


def test_a_plain_block_is_a_residual_one_without_the_addition():
    plain, residual, x = Plain(16), Residual(16), torch.randn(4, 16, 8, 8)
    residual.load_state_dict(plain.state_dict())
    with torch.no_grad():
        found = plain(x)
        assert found.min() == 0 and found.shape == x.shape and torch.allclose(residual(x), x + found, atol=1e-5)


def test_a_plain_network_has_no_addition():
    assert not [layer for layer in PlainNet(64, **DEEP).modules() if type(layer) is Residual]


def test_multiply_adds_of_pairs():
    assert macs(ResNet(64, **DEEP), 64) == macs(PlainNet(64, **DEEP), 64)  # an addition is no product
    assert macs(pooled_cnn(128), 128) > 3.9 * macs(pooled_cnn(64), 64)  # four times the pixels


def test_memory_of_a_training_step():
    x = torch.zeros(32, 3, 64, 64)
    assert training_memory(nn.ReLU(), x.clone().requires_grad_()) == (0, x.nbytes / 1e6)  # it keeps what it gave
    net = AttributeCNN(64)
    weights, activations = training_memory(net, x)
    assert np.isclose(weights, 16 * count_parameters(net) / 1e6) and activations > x.nbytes / 1e6
    assert training_memory(net, torch.zeros(64, 3, 64, 64))[1] > 1.9 * activations


def test_torchvision_networks_have_our_head_and_momentum():
    assert torchvision_net(64, attributes=3).fc.out_features == 3
    norms = [layer for layer in torchvision_net(64, "mobilenet_v3_small").modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.momentum for layer in norms} == {0.1}


def test_pretrained_weights_get_images_on_their_scale(tmp_path):
    "Random weights take the download's place, under the right file name."
    stand_in, x = torchvision.models.resnet18(), images(4).clamp(-1, 1)
    file = Path(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    file.parent.mkdir(parents=True)
    torch.save(stand_in.state_dict(), file)
    offline = patch("torch.hub.download_url_to_file", side_effect=URLError("no connection"))
    with offline, patch.dict(os.environ, TORCH_HOME=str(tmp_path)):
        pretrained = torchvision_net(64, "resnet18", weights="DEFAULT")
    assert pretrained[1].fc.out_features == 40 and predict(pretrained, x).shape == (4, 40)
    stand_in.fc = pretrained[1].fc
    theirs = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    assert torch.allclose(predict(pretrained, x), predict(stand_in, theirs((x + 1) / 2)), atol=1e-5)
