"""The networks and their parts: what they refuse, receptive fields, modes, initial bits, the count of their arithmetic."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from celeba_nb.architectures import PlainNet, norm_cnn, pooled_cnn, torchvision_net
from celeba_nb.core import import_object
from celeba_nb.layers import (
    ReceptiveField,
    Residual,
    check_images,
    check_size,
    conv_bn,
    evaluating,
    layer_window,
    macs,
    receptive_field,
    side,
    stages,
    stem,
)
from celeba_nb.model import AttributeCNN, ResNet, conv_block, count_parameters, predict
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


def test_parts_keep_or_halve_the_map():
    assert conv_bn(3, 8, pool=True)(torch.zeros(2, 3, 16, 16)).shape == (2, 8, 8, 8)
    assert Residual(8)(torch.zeros(2, 8, 8, 8)).shape == (2, 8, 8, 8)
    assert count_parameters(ResNet(64)) < count_parameters(AttributeCNN(64))


@pytest.mark.parametrize(("size", "blocks", "message"), [
    (100, 3, "size is 100, but 3 blocks halve it: take a multiple of 8"), (0, 3, "size is 0"), (100, 4, "a multiple of 16"),
    (96, 3, None), (100, 2, None), (1, 0, None)])
def test_a_size_must_be_halved(size, blocks, message):
    if message is None:
        assert check_size(size, blocks) is None
    else:
        with pytest.raises(ValueError, match=message):
            check_size(size, blocks)


X = torch.zeros(2, 3, 128, 128)


@pytest.mark.parametrize(("x", "size", "message"), [
    (X[0], 128, r"x has shape (3, 128, 128), but this network takes (n, 3, 128, 128)"), (X, 64, "(n, 3, 64, 64)"),
    (X[:, :1], 128, "(2, 1, 128, 128)"), (X[..., :64], 128, "(2, 3, 128, 64)"),
    (X.permute(0, 2, 3, 1), 128, "(2, 128, 128, 3)"), (X.byte(), 128, "normalise")])
def test_other_images_are_refused(x, size, message):
    with pytest.raises(ValueError) as error:
        check_images(x, size)
    assert message in str(error.value)


def test_empty_and_bfloat16_batches_are_batches():
    assert check_images(X, 128) is check_images(X[:0], 128) is check_images(X.bfloat16(), 128) is None


def test_the_network_checks_its_size_and_its_images():
    with pytest.raises(ValueError, match="size is 100, but 3 blocks halve it: take a multiple of 8"):
        AttributeCNN(size=100)
    net = AttributeCNN()
    with pytest.raises(ValueError, match=r"takes \(n, 3, 128, 128\)"):
        net(X[0])
    with pytest.raises(ValueError, match="normalise"):
        net(X.byte())


def test_the_network_has_any_size():
    assert AttributeCNN(size=64)(torch.zeros(2, 3, 64, 64)).shape == (2, 40)
    assert AttributeCNN(size=8, channels=(4,), hidden=5, attributes=3)(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    assert count_parameters(AttributeCNN(channels=())) == 512 * (3 * 128 * 128 + 1) + 40 * (512 + 1)
    assert {count_parameters(AttributeCNN(size=size).features) for size in (32, 64, 96, 128)} == {93_248}
    assert count_parameters(nn.ReLU()) == 0


def test_the_network_is_features_and_head():
    net, x = AttributeCNN(size=64), torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), net.head(net.features(x)))


def test_a_block_in_either_order():
    convolution, pool, relu = conv_block(3, 32)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(relu(pool(convolution(x))), pool(relu(convolution(x))))


def test_the_seed_draws_the_first_weights():
    torch.manual_seed(0)
    one = AttributeCNN(size=8)
    torch.manual_seed(0)
    two = AttributeCNN(size=8)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    torch.manual_seed(1)
    assert not torch.equal(AttributeCNN(size=8).features[0].weight, one.features[0].weight)


def test_the_blocks_move_with_the_image():
    "By a whole place of the last maps; a shift by half of it falls between two places."
    features, x = AttributeCNN(size=64).features, torch.randn(8, 3, 64, 64)

    def shift(x, pixels):
        return F.pad(x, (pixels, 0, 0, 0), mode="replicate")[..., : x.shape[-1]]

    def interior(maps):
        return maps[..., 1:-1, 2:-1]

    with torch.no_grad():
        still, by_8, by_4 = (features(shift(x, pixels)) for pixels in (0, 8, 4))
    assert torch.allclose(interior(by_8), interior(shift(still, 1)), atol=1e-4)
    assert not torch.allclose(interior(by_4), interior(shift(still, 1)), atol=1e-4)
    assert not torch.allclose(interior(by_4), interior(still), atol=1e-4)


def test_pixels_of_a_receptive_field():
    field = ReceptiveField(size=3, stride=1, start=-1)
    assert field.pixels(0) == range(-1, 2) and field.pixels(10) == range(9, 12) and len(field.pixels(99)) == field.size
    assert ReceptiveField(size=4, stride=2, start=-1).pixels(10) == range(19, 23)


def test_receptive_field_layer_by_layer():
    net = AttributeCNN()
    assert receptive_field([]) == (1, 1, 0) and receptive_field(net.features[:1]) == (3, 1, -1)
    assert receptive_field(net.features[:3]) == (4, 2, -1) and receptive_field(net.features) == (22, 8, -7)
    with pytest.raises(ValueError, match="Flatten"):
        receptive_field(net.head)


def test_windows_of_layers():
    assert side(3) == 3 and side((2, 2)) == 2
    assert layer_window(nn.Conv2d(3, 32, kernel_size=5, stride=2, padding=1)) == (5, 2, 1)
    assert layer_window(nn.MaxPool2d(2)) == layer_window(nn.AvgPool2d(2)) == (2, 2, 0)
    assert layer_window(nn.ReLU()) == layer_window(nn.BatchNorm2d(32)) == (1, 1, 0)
    assert layer_window(nn.Conv2d(3, 32, kernel_size=3, dilation=4)) == (9, 1, 0)


def test_unknown_windows_are_refused():
    with pytest.raises(ValueError, match="the receptive field of Linear"):
        layer_window(nn.Linear(4, 4))
    for value, start in (((3, 5), r"\(3, 5\) isn't one number"), ("same", "'same' isn't one number")):
        with pytest.raises(ValueError, match=f"^{start}"):
            side(value)


def test_evaluating_restores_each_mode():
    mixed = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5).eval())
    with evaluating(mixed) as same:
        assert same is mixed and not any(module.training for module in mixed.modules())
    assert [module.training for module in mixed.modules()] == [True, True, False]
    with pytest.raises(RuntimeError), evaluating(mixed):
        raise RuntimeError("an error in between")
    assert [module.training for module in mixed.modules()] == [True, True, False]


def test_predict():
    net, x = AttributeCNN(size=64), torch.randn(2, 3, 64, 64)
    probabilities = predict(net, x)
    assert torch.allclose(probabilities, torch.sigmoid(net(x))) and not probabilities.requires_grad and net.training
    assert predict(net.bfloat16(), x.bfloat16()).dtype == torch.float32
    dropout, ones = nn.Sequential(nn.Dropout(0.5)), torch.ones(1, 100)
    assert not torch.equal(dropout(ones), ones) and torch.equal(predict(dropout, ones), torch.sigmoid(ones))
