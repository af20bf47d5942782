"""The residual network: the same initial bits as the one it replaced, and the count of its arithmetic."""
import pytest
import torch
from torch import nn

from celeba_nb.architectures import PlainNet, norm_cnn, pooled_cnn, torchvision_net
from celeba_nb.core import import_object
from celeba_nb.model import AttributeCNN, Residual, ResNet, conv_bn, evaluating, macs, predict, stages, stem
from celeba_nb.recipe import QUICKEST


class SmallResNet(nn.Module):
    "The network of notebook 06 before `ResNet` took its place, as it was written then."

    def __init__(self, channels=(16, 48, 96, 128), attributes=40):
        super().__init__()
        first = stem(channels[0])
        firsts = [conv_bn(a, b, pool=True) for a, b in zip(channels, channels[1:])]
        residual = [nn.Identity(), *[Residual(c) for c in channels[2:]]]
        self.body = nn.Sequential(first, *[layer for pair in zip(firsts, residual) for layer in pair])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels[-1], attributes))

    def forward(self, x):
        return self.head(self.body(x))


def test_the_quickest_network_begins_and_computes_as_before():
    torch.manual_seed(0)
    old = SmallResNet()
    torch.manual_seed(0)
    new = import_object(QUICKEST["model"])(size=QUICKEST["size"], **QUICKEST["model_args"])
    assert isinstance(new, ResNet) and list(new.state_dict()) != list(old.state_dict())
    for one, other in zip(old.state_dict().values(), new.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    assert torch.equal(old(x), new(x)) and torch.equal(predict(old, x), predict(new, x))


def test_blocks_add_their_input():
    net, x = ResNet(channels=(16, 48, 96, 128), blocks=(0, 0, 1, 1)).eval(), torch.rand(2, 3, 64, 64)
    assert net.body[0](x).shape == (2, 16, 32, 32) and net.body(x).shape == (2, 128, 4, 4)
    block, x = Residual(8).eval(), torch.rand(2, 8, 4, 4)
    assert torch.equal(block(x), x + block.body(x))


def test_channels_and_blocks_must_match():
    with pytest.raises(ValueError, match=r"blocks \(0, 1\)"):
        stages((16, 48, 96), (0, 1), Residual)


def products(net, size):
    "Multiply-adds counted layer by layer: numbers that come out, times weights of one kernel."
    counts = []
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(
                lambda layer, _, output: counts.append(output[0].numel() * layer.weight[0].numel()))
    with evaluating(net), torch.no_grad():
        net(torch.zeros(1, 3, size, size))
    return sum(counts)


@pytest.mark.parametrize("build", [
    AttributeCNN, norm_cnn, pooled_cnn, ResNet, PlainNet, lambda size: ResNet(size, blocks=(0, 2, 2, 2), drop=0.3),
    lambda size: torchvision_net(size, "resnet18"), lambda size: torchvision_net(size, "mobilenet_v3_small"),
    lambda size: torchvision_net(size, "mobilenet_v3_large")])
def test_multiply_adds(build):
    net = build(64)
    assert macs(net, 64) == products(net, 64)


def test_multiply_adds_on_paper():
    by_hand = 64 * 64 * 32 * 27 + 32 * 32 * 64 * 9 * 32 + 16 * 16 * 128 * 9 * 64 + 8 * 8 * 128 * 512 + 512 * 40
    assert macs(AttributeCNN(64), 64) == by_hand
