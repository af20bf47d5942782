"""Effects and their intervals: the same numbers as by the plainest way to compute them, fast, and in little memory."""
import time
import tracemalloc
from itertools import product

import numpy as np
import pandas as pd
import pytest

from celeba_nb import stats
from celeba_nb.metrics import rate_draws
from celeba_nb.stats import (
    MANY,
    bootstrap_blocks,
    bootstrap_counts,
    effect_rows,
    expanded_level,
    group_sums,
    hierarchical_means,
    holm,
    interval,
    order_share,
    power,
    sign_flip_p,
    verdict,
)

EFFECTS = {"flip": (-0.5, 0.5, -0.5, 0.5), "lower rate": (-0.5, -0.5, 0.5, 0.5), "interaction": (1.0, -1.0, -1.0, 1.0)}


def made_up(images, identities, seed=0):
    "Accuracies of 4 methods × 8 seeds × images, in fortieths, and who is on the images (None: everybody else)."
    rng = np.random.default_rng(seed)
    groups = np.arange(images) if identities is None else rng.integers(identities, size=images)
    return rng.binomial(40, 0.85, (4, 8, images)) / 40, groups


def plain_interval(differences, groups):
    "The interval as it was computed first: a column for each group, and all counts at once."
    rng, n = np.random.default_rng(0), len(differences)
    members = pd.get_dummies(pd.Series(groups)).to_numpy(float)
    sums, sizes = differences @ members, members.sum(0)
    seeds = rng.multinomial(n, np.full(n, 1 / n), size=4000)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=4000)
    means = ((seeds @ sums) * drawn).sum(1) / (n * (drawn @ sizes))
    tail = (1 - stats.expanded_level(n)) / 2
    return np.quantile(means, [tail, 1 - tail])


@pytest.mark.parametrize("images, identities", [(1000, 614), (1000, None), (2500, 40)])
def test_intervals_are_those_of_the_plain_way(images, identities):
    "To 12 digits, so that no published interval moves."
    values, groups = made_up(images, identities)
    rows = effect_rows(values, groups, EFFECTS, "higher")
    for row, weights in zip(rows.itertuples(), EFFECTS.values()):
        plain = plain_interval(np.tensordot(weights, values, 1), groups)
        assert np.allclose([row.low, row.high], plain, rtol=1e-12, atol=1e-15)


@pytest.mark.serial
@pytest.mark.parametrize("identities", [1000, None])
def test_the_official_test_set_needs_little(identities):
    "Once 35 seconds and 5 GB without identities, and 1.4 seconds with them."
    values, groups = made_up(19_962, identities)
    began = time.thread_time()
    rows = effect_rows(values, groups, EFFECTS, "higher")
    seconds = time.thread_time() - began
    tracemalloc.start()
    effect_rows(values, groups, EFFECTS, "higher")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6 and seconds < 3  # on a machine that does nothing else, under 1
    by_hand = np.tensordot(EFFECTS["flip"], values, 1)
    assert np.isclose(rows["mean"][0], by_hand.mean()) and rows["low"][0] < by_hand.mean() < rows["high"][0]


def test_blocks_are_the_draws_of_one_call():
    for n, one_by_one in ((8, False), (1000, False), (1000, True), (MANY + 1, False)):
        whole = bootstrap_counts(np.random.default_rng(1), n, 1200, one_by_one)
        blocks = [*bootstrap_blocks(np.random.default_rng(1), n, 1200, one_by_one)]
        assert np.array_equal(np.concatenate(blocks), whole) and (whole.sum(1) == n).all()
        assert max(block.size for block in blocks) <= max(stats.BLOCK, n)


def test_many_things_are_drawn_with_the_same_chance():
    "Above MANY another stream is used; its spread is that of the first: the number of a thing has the variance 1 - 1/n."
    counts = bootstrap_counts(np.random.default_rng(0), MANY + 1, 200)
    assert abs(counts.var() - 1) < 0.01 and abs((counts == 0).mean() - np.exp(-1)) < 0.002


@pytest.mark.parametrize("kind", [np.array, lambda some: np.array([f"person {one}" for one in some])])
def test_group_sums(kind):
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(2, 3, 50)), kind(rng.integers(7, size=50))
    sums, sizes = group_sums(values, groups)
    wanted = [values[..., groups == group].sum(-1) for group in np.unique(groups)]
    assert np.allclose(sums, np.stack(wanted, -1)) and sizes.tolist() == [(groups == one).sum() for one in np.unique(groups)]


def test_one_seed_has_no_interval_and_one_group_has_a_narrow_one():
    assert np.isnan(interval(np.ones((1, 5)), np.arange(5))).all()
    assert np.isnan(interval(np.ones((3, 1, 5)), np.arange(5))).all()
    assert np.allclose(interval(np.full((4, 5), 0.2), np.zeros(5)), 0.2)


def test_p_values_of_several_effects_are_those_of_each():
    differences = np.random.default_rng(0).normal(0.3, 1, (3, 8))
    assert np.array_equal(sign_flip_p(differences), [sign_flip_p(one) for one in differences])
    assert sign_flip_p(np.ones((2, 1))).tolist() == [1, 1] and sign_flip_p(np.ones(1)) == 1


def test_seven_seeds_allow_a_verdict():
    "As the help of `celeba-nb study` says."
    assert verdict(0.01, -0.001, 0.02, 0.9, n=6, questions=3) == "too few seeds to tell"
    assert verdict(0.01, -0.001, 0.02, 0.9, n=7, questions=3) == "no difference seen"
    assert verdict(0.01, 0.001, 0.02, 3 * 2 / 2**7, n=7, questions=3) == "helps"


def test_rates_are_those_of_the_plain_way():
    "As notebook 13 computed them first: its published intervals come from these draws."
    rng = np.random.default_rng(3)
    values, cases, groups = rng.random((500, 3)), rng.random((500, 3)) < 0.3, rng.integers(90, size=500)
    hits, counted = (pd.DataFrame(part.astype(float)).groupby(groups).sum().to_numpy() for part in (values * cases, cases))
    drawn = np.random.default_rng(5).multinomial(len(hits), np.full(len(hits), 1 / len(hits)), size=300)
    assert np.allclose(rate_draws(values, cases, groups, 300, 5), (drawn @ hits) / (drawn @ counted), rtol=1e-12, atol=0)


def test_means_are_those_of_the_plain_way():
    "As notebook 04 computed them first: nbs/results/photo.csv comes from these draws."
    rng = np.random.default_rng(4)
    values, groups = rng.random(500), rng.integers(90, size=500)
    numbers = np.unique(groups, return_inverse=True)[1]
    sums, sizes, draws = np.bincount(numbers, values), np.bincount(numbers), np.random.default_rng(6)
    plain = [sums[drawn].sum() / sizes[drawn].sum() for drawn in (draws.integers(len(sums), size=len(sums)) for _ in range(300))]
    found = rate_draws(values[:, None], np.ones((500, 1), bool), groups, 300, 6, one_by_one=True)[:, 0]
    assert np.allclose(found, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_tie_is_no_win(better):
    "Nor one that rounding has made a difference of: 0.1 + 0.2 isn't 0.3."
    values = np.array([[[0.3, 0.3], [0.5, 0.5]], [[0.1 + 0.2, 0.3], [0.6, 0.6]]])  # (methods, seeds, images)
    row = effect_rows(values, np.arange(2), {"new": (-1, 1)}, better).iloc[0]
    assert row["wins"] == (1 if better == "higher" else 0) and row["n"] == 2


# ---- what 05a_evidence asserted before its definitions moved to internals/stats


def test_sign_flips_are_those_of_all_combinations():
    for d in np.random.default_rng(1).normal(0.2, 1, (3, 8)):
        signs = np.array([*product([-1, 1], repeat=8)])
        means = (signs * d).mean(1)
        assert np.isclose(sign_flip_p(d), (np.abs(means) >= abs(d.mean()) - 1e-12).mean())
        assert np.isclose(sign_flip_p(-d), sign_flip_p(d)) and np.isclose(sign_flip_p(64 * d), sign_flip_p(d))


def test_sign_flips_at_the_edges():
    assert sign_flip_p(np.array([1.0, -1.0, 1.0, -1.0])) == 1.0  # a mean of 0: all combinations are as far out
    assert sign_flip_p(np.array([0.3])) == 1.0 and sign_flip_p(np.ones(8)) == 2 / 2**8
    assert sign_flip_p(np.ones(20)) < 1e-4  # drawn signs


def test_holm():
    assert np.allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    assert holm(np.array([0.02])).tolist() == [0.02]  # one question needs no correction
    assert holm(np.array([0.5, 0.6])).tolist() == [1, 1]


def test_no_thing_is_favoured():
    counts = bootstrap_counts(np.random.default_rng(0), 8, 5000)
    assert counts.shape == (5000, 8) and (counts.sum(1) == 8).all()
    assert abs((counts == 0).mean() - (7 / 8) ** 8) < 0.01 and np.abs(counts.mean(0) - 1).max() < 0.1


def test_seeds_that_differ():
    "0 in one seed and 1 in the other: means of 0, 1/2 and 1 in 1 : 2 : 1."
    means = hierarchical_means(np.array([[0.0, 0.0], [1.0, 1.0]]), groups=np.array([1, 2]))
    assert np.abs([(means == mean).mean() - share for mean, share in [(0, 1/4), (0.5, 1/2), (1, 1/4)]]).max() < 0.03


@pytest.fixture(scope="module")
def flips():
    "A made-up effect of 8 seeds on 200 images."
    rng = np.random.default_rng(5)
    return 0.003 + rng.normal(0, 0.004, (8, 1)) + rng.normal(0, 0.02, 200) + rng.normal(0, 0.05, (8, 200))


def test_resampled_means_lie_around_the_measured_one(flips):
    drawn = hierarchical_means(flips, np.arange(200))
    assert abs(drawn.mean() - flips.mean()) < 3 * drawn.std() / np.sqrt(len(drawn)) + 1e-4
    assert np.array_equal(drawn, hierarchical_means(flips, np.arange(200)))  # the same seed, the same numbers


def test_levels_make_up_for_few_seeds():
    assert np.isclose(expanded_level(8), 0.9885, atol=1e-4) and np.isclose(expanded_level(100_000), 0.95, atol=1e-4)
    assert expanded_level(8) > expanded_level(16) > expanded_level(1000) > 0.95


def test_intervals(flips):
    groups = np.arange(200)
    low, high = interval(flips, groups)
    assert low < flips.mean() < high and np.isnan(interval(flips[:1], groups)).all()
    assert np.allclose(interval(np.full((8, 3), 0.25), np.arange(3)), 0.25)
    assert np.allclose(interval(flips + 1, groups), np.add(interval(flips, groups), 1))
    surer, bolder = interval(flips, groups, 0.99), interval(flips, groups, 0.5)
    assert surer[0] < bolder[0] < flips.mean() < bolder[1] < surer[1]
    assert (interval(flips, np.repeat([1, 2], 100)) != interval(flips, groups)).all()  # a group is drawn as a whole


def test_verdicts():
    assert verdict(0.01, 0.004, 0.016, 0.02, n=8, questions=3) == "helps"
    assert verdict(-0.01, -0.016, -0.004, 0.02, n=8, questions=3) == "hurts"
    assert verdict(-0.01, -0.016, -0.004, 0.02, n=8, questions=3, better="lower") == "helps"
    assert verdict(0.01, 0.004, 0.016, 0.02, n=8, questions=3, better="lower") == "hurts"
    assert verdict(0.01, -0.001, 0.016, 0.02, n=8, questions=3) == "no difference seen"
    assert verdict(0.01, 0.004, 0.016, 0.05, n=8, questions=3) == "no difference seen"
    assert verdict(0.01, 0.004, 0.016, 0.75, n=3, questions=3) == "too few seeds to tell"
    assert verdict(0.01, 0.004, 0.016, 0.09, n=6, questions=3) == "too few seeds to tell"
    assert verdict(0.01, -0.004, 0.016, 0.09, n=6, questions=1) == "no difference seen"


def test_what_is_there_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    same = rng.integers(100, size=(1, 8, 1)) + rng.integers(100, size=(1, 1, 20))
    world = same + 10.0 * np.array([0, 1, 0, 1])[:, None, None]
    rows = effect_rows(world, np.arange(20), EFFECTS, "higher")
    assert rows["mean"].tolist() == [10, 0, 0] and rows["wins"].tolist() == [8, 0, 0]
    assert rows["p"].tolist() == [2 / 2**8, 1, 1] and np.allclose(rows["p_holm"], [3 * 2 / 2**8, 1, 1])
    assert rows["verdict"].tolist() == ["helps", "no difference seen", "no difference seen"]
    as_loss = effect_rows(world, np.arange(20), EFFECTS, "lower")
    assert as_loss["verdict"][0] == "hurts" and as_loss["wins"].tolist() == [0, 0, 0]
    three = effect_rows(world[:, :3], np.arange(20), EFFECTS, "higher")
    assert (three["verdict"] == "too few seeds to tell").all() and three["wins"][0] == 3


def test_the_order_of_methods():
    apart = np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]])
    assert order_share(apart) == 1 and order_share(apart[::-1]) == 0
    assert order_share(np.array([[1.0], [1.0]])) == 0  # a tie is no order
    equal = np.random.default_rng(0).normal(size=(4, 500))
    assert abs(order_share(equal[:2]) - 1 / 2) < 0.05 and abs(order_share(equal) - 1 / 24) < 0.02


def test_power():
    strong = np.random.default_rng(0).normal(1, 0.2, size=(3, 16))
    assert (power(strong, 7, repeats=50) == 1).all() and (power(strong, 6, repeats=50) == 0).all()
    nothing = power(strong - strong.mean(1, keepdims=True), 8, repeats=100)
    assert nothing.shape == (3,) and nothing.max() < 0.15
