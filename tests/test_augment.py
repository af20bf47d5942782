"""Augmentations: the contract that all keep, exactness against torchvision, how far each goes, and resuming with them."""
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import tensor
from torchvision.transforms import v2

from benchmarks.alternating import Alternating
from benchmarks.augment import SETTINGS, recipes
from celeba_nb.augment import (
    _gray,
    _reflect,
    affine_matrix,
    color_jitter,
    compose,
    cut_square,
    mixup_bce,
    random_affine,
    random_blur,
    random_color,
    random_cutout,
    random_flip,
    random_shift,
    shift_by,
    trivial_augment,
    uniform,
    warp,
)
from celeba_nb.core import TrainingError
from celeba_nb.drawing import draw
from celeba_nb.images import ImageCache, denormalize, normalize
from celeba_nb.loop import Callback, bce
from celeba_nb.recipe import Recipe
from celeba_nb.sketch import plan_faces
from celeba_nb.training import train
from tools.notebooks import ROOT

FACE = plan_faces((400, 1, 1))[31]
HERE = "celeba_nb.augment."
STEPS = [[HERE + "random_flip", {}], [HERE + "random_affine", {}], [HERE + "random_cutout", {"share": 0.25}]]
ZERO, ONE = torch.zeros(1), torch.ones(1)
AS_IT_WAS = (ZERO, ONE, ZERO, ZERO)  # degrees, scale, down, right


def portrait(size=64):
    image = torch.from_numpy(np.array(draw(FACE))).permute(2, 0, 1)[None]
    return normalize(F.interpolate(image, (size, size), mode="bilinear", antialias=True))[0]


MAN = portrait()


def copies(n, image=MAN):
    return image.repeat(n, 1, 1, 1).to(memory_format=torch.channels_last)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", [random_flip, random_shift, random_affine, random_color, random_blur, random_cutout,
                                     trivial_augment, partial(compose, steps=STEPS)])
def test_contract(augment):
    x, before = copies(8), torch.get_rng_state()
    one, again = augment(x, seeded()), augment(x, seeded())
    assert one.shape == x.shape and one.stride() == x.stride() and one.dtype == x.dtype
    assert torch.equal(one, again) and not torch.equal(one, augment(x, seeded(1)))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(x, copies(8))  # nothing else has changed
    assert len({image.numpy().tobytes() for image in one}) > 1
    assert augment(x, None).shape == x.shape
    assert augment(x.contiguous(), seeded()).is_contiguous()


def test_uniform():
    many = uniform(torch.zeros(1000, 3), seeded(), -2, 4)
    assert many.shape == (1000,) and -2 <= many.min() < -1.9 and 3.9 < many.max() <= 4
    assert abs(many.mean() - 1) < 0.2
    assert torch.equal(uniform(MAN, seeded(), 0, 1), torch.rand(3, generator=seeded()))


def test_reflect():
    assert _reflect(torch.arange(-3, 8), 5).tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]


def shift_one(image, down, right, border=8):
    h, w = image.shape[1:]
    padded = F.pad(image[None], (border,) * 4, mode="reflect")[0]
    return padded[:, border - down : border - down + h, border - right : border - right + w]


def test_shift_is_a_padded_crop():
    down, right = tensor([8, 0, -3]), tensor([0, -8, 5])
    by_hand = torch.stack([shift_one(MAN, a, b) for a, b in zip(down.tolist(), right.tolist())])
    assert torch.equal(shift_by(copies(3), down, right), by_hand)
    wide = MAN[:, :20]
    assert torch.equal(shift_by(wide[None], tensor([2]), tensor([-7]))[0], shift_one(wide, 2, -7))
    assert torch.equal(shift_by(wide[None], tensor([0]), tensor([0]))[0], wide)


def test_how_far_a_shift_goes():
    dot = torch.zeros(2000, 1, 64, 64)
    dot[:, :, 32, 32] = 1
    moved = random_shift(dot, seeded()).nonzero()[:, 2:] - 32
    assert moved.min() == -4 and moved.max() == 4 and len(moved.unique(dim=0)) == 81
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1  # down says nothing of right


def test_affine_matrix():
    assert torch.equal(affine_matrix(*AS_IT_WAS), tensor([[[1.0, 0, 0], [0, 1, 0]]]))
    assert torch.equal(affine_matrix(ZERO, ONE, ZERO, ZERO + 0.25), tensor([[[1.0, 0, -0.5], [0, 1, 0]]]))
    assert torch.equal(affine_matrix(ZERO, ONE + 1, ZERO, ZERO), tensor([[[0.5, 0, 0], [0, 0.5, 0]]]))


def test_warp_where_the_answer_is_known():
    quarter = warp(MAN[None], affine_matrix(ZERO + 90, ONE, ZERO, ZERO))
    assert torch.allclose(quarter, torch.rot90(MAN[None], -1, (2, 3)), atol=1e-5)
    moved = warp(MAN[None], affine_matrix(ZERO, ONE, ZERO + 4 / 64, ZERO - 8 / 64))
    expected = shift_by(MAN[None], tensor([4]), tensor([-8]))
    assert torch.allclose(moved[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=1e-5)


def test_warp_equals_torchvision():
    "But at the border, which is black there."
    ours = warp(MAN[None], affine_matrix(ZERO + 20, ZERO + 1.1, ZERO + 4 / 64, ZERO - 8 / 64))[0]
    theirs = v2.functional.affine(MAN, 20, [-8, 4], 1.1, [0.0, 0.0], interpolation=v2.InterpolationMode.BILINEAR, fill=[-1.0])
    assert torch.allclose(ours[:, 20:-20, 20:-20], theirs[:, 20:-20, 20:-20], atol=1e-4)


def test_parts_of_random_affine():
    "Each of turn, scale and shift can be switched off, and goes as far as it should."
    square = torch.zeros(500, 1, 64, 64)
    square[:, :, 24:40, 24:40] = 1
    centre = torch.stack([(random_affine(square, seeded(), 0, 0) * torch.arange(64.0).view(shape)).sum((1, 2, 3)) / 256 - 31.5
                          for shape in ((64, 1), (1, 64))])
    assert torch.allclose(random_affine(square, seeded(), 0, 0, 0), square, atol=1e-4)
    assert 0.95 * 0.08 * 64 < centre.abs().max() < 1.01 * 0.08 * 64
    area = random_affine(square, seeded(), 0, 0.5, 0).sum((1, 2, 3)) / 256  # a scale from 0.5 to 1.5
    assert 0.5**2 - 0.05 < area.min() < 0.4 and 2.1 < area.max() < 1.5**2 + 0.1
    turned = random_affine(square, seeded(), 45, 0, 0)  # the corners of a turned square leave the old one
    assert turned[:, 0, 24:40, 24:40].mean() < 0.95 and turned[:, 0, 27:37, 27:37].mean() > 0.99


def test_color_equals_torchvision():
    "As long as nothing leaves the range from black to white."
    dull = 0.3 * MAN
    theirs = (dull + 1) / 2  # torchvision counts from 0 to 1
    for adjust, factor in ((v2.functional.adjust_brightness, 1.3), (v2.functional.adjust_contrast, 0.7),
                           (v2.functional.adjust_saturation, 1.2)):
        theirs = adjust(theirs, factor)
    ours = color_jitter(dull[None], tensor([1.3]), tensor([0.7]), tensor([1.2]))[0]
    assert torch.allclose(ours, 2 * theirs - 1, atol=1e-4)


def test_color_factors_of_one_and_zero():
    assert torch.allclose(color_jitter(MAN[None], ONE, ONE, ONE), MAN[None], atol=1e-5)
    black, flat, gray = (color_jitter(MAN[None], *[ONE * v for v in factors]) for factors in ((0, 1, 1), (1, 0, 1), (1, 1, 0)))
    assert torch.allclose(black, torch.full_like(black, -1.0), atol=1e-5)
    assert flat.std() < 1e-5 and (gray[:, 0] - gray[:, 2]).abs().max() < 1e-5


def test_parts_of_random_color():
    brighter = random_color(copies(500), seeded(), contrast=0, saturation=0)
    factors = (brighter + 1).mean((1, 2, 3)) / (MAN + 1).mean()
    assert 0.7 <= factors.min() < 0.72 and 1.28 < factors.max() <= 1.3001
    assert brighter.max() > 1  # not clamped
    softer, paler = (random_color(copies(200), seeded(), 0, contrast, 0.3 - contrast) for contrast in (0.3, 0))
    assert (softer.std((2, 3)) / MAN.std((1, 2))).min() < 0.72
    assert torch.allclose(_gray(paler), _gray(copies(200)), atol=1e-3)
    assert torch.allclose(random_color(copies(2), seeded(), 0, 0, 0), copies(2), atol=1e-6)


def test_how_much_is_blurred():
    "Each image is a mixture of itself and its blurred copy, from none to all of it."
    soft, blurred = random_blur(copies(300), seeded()), v2.functional.gaussian_blur(MAN[None], 7, 1.0)
    amount = ((soft - MAN) * (blurred - MAN)).sum((1, 2, 3)) / ((blurred - MAN) ** 2).sum()
    assert torch.allclose(soft, torch.lerp(MAN, blurred, amount[:, None, None, None]), atol=1e-4)
    assert -1e-4 < amount.min() < 0.02 and 0.98 < amount.max() < 1 + 1e-4


def test_blur_is_a_share_of_the_size():
    small, large = portrait(32)[None], portrait(128)[None]
    lost = [(random_blur(x, seeded()) - x).abs().mean().item() for x in (small, large)]
    assert 0.2 < lost[0] / lost[1] < 5  # of the same order


def test_cut_square():
    by_hand = copies(2)
    by_hand[0, :, 8:32, 28:52] = 0
    by_hand[1, :, 48:, :14] = 0
    assert torch.equal(cut_square(copies(2), tensor([20.0, 60.0]), tensor([40.0, 2.0]), 24 / 64), by_hand)
    assert torch.equal(cut_square(MAN[None], ZERO, ZERO, 0), MAN[None])
    assert not cut_square(MAN[None], ZERO + 32, ZERO + 32, 1).any()


def test_how_much_a_cutout_hides():
    "Of a side s, on average s - s²/4 is inside the image."
    hidden = (random_cutout(torch.ones(4000, 3, 64, 64), seeded()) == 0).double().mean((1, 2, 3))
    assert abs(hidden.mean() - (3 / 8 - (3 / 8) ** 2 / 4) ** 2) < 0.002
    assert abs(hidden.max() - (3 / 8) ** 2) < 0.003 and abs(hidden.min() - (3 / 16) ** 2) < 0.005


def test_trivial_augment_equals_torchvision():
    torch.manual_seed(int(torch.randint(2**62, (), generator=seeded())))
    policy = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)
    theirs = normalize(torch.stack([policy(denormalize(MAN)) for _ in range(3)]))
    assert torch.equal(trivial_augment(copies(3), seeded()), theirs)


def test_trivial_augment_leaves_some_alone():
    "One transform of the 14 is nothing at all, and others do nothing at their least strength."
    change = (trivial_augment(copies(200), seeded()) - normalize(denormalize(MAN))).abs().amax((1, 2, 3))
    assert 1 / 14 / 3 < (change == 0).double().mean() < 0.4


def mixtures(alpha, seeds=100):
    "Which mixtures of a 0 and a 1 a network gets to see."
    seen = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        mixup_bce(lambda x: seen.append(x) or x, tensor([[0.0], [1.0]]), tensor([[0.0], [1.0]]), alpha)
    return torch.cat(seen)


def test_what_alpha_does():
    assert mixtures(0.01).sub(0.5).abs().gt(0.4).double().mean() > 0.9
    assert mixtures(10_000).sub(0.5).abs().min() < 0.02 and 0 <= mixtures(0.4).min() and mixtures(0.4).max() <= 1
    shares = [torch.minimum(m, 1 - m)[(m > 0) & (m < 1)].mean() for m in map(partial(mixtures, seeds=300), (0.2, 0.4, 1.0))]
    assert shares[0] < shares[1] < shares[2] and abs(shares[2] - 0.25) < 0.03  # of the weaker image; evenly spread for 1


def test_mixup_is_a_mixture_of_two_losses():
    x, net = torch.rand(32, 3, 8, 8, generator=seeded()), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 40))
    y = (torch.rand(32, 40, generator=seeded()) < 0.3).float()
    torch.manual_seed(3)
    share, other = torch.distributions.Beta(0.4, 0.4).sample(), torch.randperm(32)
    logits = net(share * x + (1 - share) * x[other])
    two_losses = share * bce(lambda _: logits, x, y) + (1 - share) * bce(lambda _: logits, x, y[other])
    torch.manual_seed(3)
    assert torch.isclose(mixup_bce(net, x, y), two_losses)


def test_compose():
    assert torch.equal(compose(MAN[None], seeded(), []), MAN[None])
    source = seeded()
    by_hand = random_cutout(random_affine(random_flip(copies(8), source), source), source, share=0.25)
    assert torch.equal(compose(copies(8), seeded(), STEPS), by_hand)
    with pytest.raises(TrainingError, match="random_flop"):
        compose(copies(8), seeded(), [[HERE + "random_flop", {}]])


class PullThePlug(Callback):
    def on_step(self, state):
        if state.epoch == 1 and state.batch == 1:
            raise KeyboardInterrupt


def test_resumed_with_trivial_augment_and_mixup(labels, tmp_path):
    "The two that could draw from elsewhere: a run that is stopped within an epoch ends with the same bits."
    recipe = Recipe(size=16, train_images=24, valid_images=8, test_images=8, epochs=2, batch_size=8, model_args={"hidden": 4},
                    threads=1, augment=HERE + "trivial_augment", loss=HERE + "mixup_bce")
    whole = train(recipe, labels, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, labels, tmp_path / "run", callbacks=(PullThePlug(),), progress=False, every=1)
    resumed = train(recipe, labels, tmp_path / "run", progress=False)
    assert np.array_equal(whole.predictions["test"], resumed.predictions["test"])


@pytest.mark.parametrize("images", SETTINGS)
def test_the_tables_are_of_the_methods_that_the_program_trains(images):
    "What benchmarks/augment.py would make: as many methods, in its order, with as many seeds."
    runs = pd.read_csv(ROOT / "nbs" / "results" / f"augment_runs_{images}.csv")
    assert [*runs["method"].unique()] == [*recipes(images)] and set(runs.groupby("method").size()) == {SETTINGS[images]["seeds"]}
    effects = pd.read_csv(ROOT / "nbs" / "results" / f"augment_effects_{images}.csv")
    assert [*effects["effect"].unique()] == [*recipes(images)][1:]


def test_alternating_flips(labels):
    "Half of the training images are mirrored in an epoch, the others in the next; no other image ever is."
    rows = np.arange(40)
    cache = ImageCache(labels, 16, rows, progress=False)
    images = Alternating(cache, rows[:30], seed=0)
    plain, first = cache[rows], images[rows]
    images.on_epoch(None)
    second = images[rows]
    assert torch.equal(first[:30], second[:30].flip(-1)) and torch.equal(first[30:], plain[30:])
    assert torch.equal(second[30:], plain[30:])
    mirrored = [not torch.equal(one, other) for one, other in zip(first[:30], plain)]
    assert 8 <= sum(mirrored) <= 22
    images.on_epoch(None)
    assert torch.equal(images[rows], first)
