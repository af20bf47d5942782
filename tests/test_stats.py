"""Effects and their intervals: the same numbers as by the plainest way to compute them, fast, and in little memory."""
import time
import tracemalloc
from itertools import combinations, pairwise, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_1samp

from benchmarks import coverage
from celeba_nb import stats
from celeba_nb.metrics import rate_draws
from celeba_nb.stats import (
    _MANY,
    bootstrap_blocks,
    bootstrap_counts,
    effect_rows,
    equivalence_p,
    group_sums,
    holm,
    interval,
    judge,
    mean_p,
    measure_unpaired,
    order_share,
    power,
    sign_flip_p,
    split_spread,
    superiority,
    two_way_variance,
)

EFFECTS = {"flip": (-0.5, 0.5, -0.5, 0.5), "lower rate": (-0.5, -0.5, 0.5, 0.5), "interaction": (1.0, -1.0, -1.0, 1.0)}


def made_up(images, identities, seed=0):
    "Accuracies of 4 methods × 8 seeds × images, in fortieths, and which identity is on each image (None: each has its own)."
    rng = np.random.default_rng(seed)
    groups = np.arange(images) if identities is None else rng.integers(identities, size=images)
    return rng.binomial(40, 0.85, (4, 8, images)) / 40, groups


def variance_of_all_pairs(values, groups):
    "The variance of a mean, from every pair of cells that share a seed or an identity, less what both leave unexplained."
    seeds, images = values.shape
    people = len(np.unique(groups))
    rest = (values - values.mean()).ravel()
    seed, who = np.repeat(np.arange(seeds), images), np.tile(groups, seeds)
    products, same_seed, same_person = np.outer(rest, rest), seed[:, None] == seed, who[:, None] == who
    by_seed = seeds / (seeds - 1) * products[same_seed].sum()
    by_person = people / (people - 1) * products[same_person].sum()
    own = [(row - row.mean())[groups == person].sum() for row in values for person in np.unique(groups)]
    person = np.tile(np.eye(people), (seeds, 1))
    left = own - person @ np.linalg.lstsq(person, np.array(own), rcond=None)[0]
    variance = max(by_seed + by_person - seeds / (seeds - 1) * (left**2).sum(), by_seed, by_person)
    df = variance**2 / (by_seed**2 / (seeds - 1) + by_person**2 / (people - 1))
    return variance / values.size**2, df


@pytest.mark.parametrize("seed", range(4))
def test_the_variance_is_that_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(12, size=40)
    values = rng.normal(size=(6, 1)) * seed + rng.normal(size=12)[groups] + rng.normal(size=(6, 40))
    assert np.allclose(two_way_variance(values, groups), variance_of_all_pairs(values, groups))


def test_many_effects_have_the_intervals_of_each():
    values, groups = made_up(1000, 614)
    rows = effect_rows(values, groups, EFFECTS, "higher")
    for row, weights in zip(rows.itertuples(), EFFECTS.values()):
        assert np.allclose([row.low, row.high], interval(np.tensordot(weights, values, 1), groups), rtol=1e-12, atol=1e-15)


def test_only_seeds_or_only_people_give_the_t_tests_of_textbooks():
    rng = np.random.default_rng(0)
    seeds, people = rng.normal(0.3, 1, 8), rng.normal(0.3, 1, 50)
    for values, source in ((seeds[:, None] + np.zeros(50), seeds), (people + np.zeros((8, 1)), people)):
        groups, known = np.arange(50), ttest_1samp(source, 0)
        assert np.allclose(interval(values, groups), known.confidence_interval(0.95))
        assert np.isclose(mean_p(values, groups), known.pvalue)
        two_sides = [ttest_1samp(source, at, alternative=side).pvalue for at, side in ((-0.9, "greater"), (0.9, "less"))]
        assert np.isclose(equivalence_p(values, groups, 0.9), max(two_sides))


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
    for n, one_by_one in ((8, False), (1000, False), (1000, True), (_MANY + 1, False)):
        whole = bootstrap_counts(np.random.default_rng(1), n, 1200, one_by_one)
        blocks = [*bootstrap_blocks(np.random.default_rng(1), n, 1200, one_by_one)]
        assert np.array_equal(np.concatenate(blocks), whole) and (whole.sum(1) == n).all()
        assert max(block.size for block in blocks) <= max(stats._BLOCK, n)


def test_many_things_are_drawn_with_the_same_chance():
    "Above _MANY a different stream is used; its spread is that of the first: the number of a thing has the variance 1 - 1/n."
    counts = bootstrap_counts(np.random.default_rng(0), _MANY + 1, 200)
    assert abs(counts.var() - 1) < 0.01 and abs((counts == 0).mean() - np.exp(-1)) < 0.002


@pytest.mark.parametrize("kind", [np.array, lambda some: np.array([f"person {one}" for one in some])])
def test_group_sums(kind):
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(2, 3, 50)), kind(rng.integers(7, size=50))
    sums, sizes = group_sums(values, groups)
    wanted = [values[..., groups == group].sum(-1) for group in np.unique(groups)]
    assert np.allclose(sums, np.stack(wanted, -1)) and sizes.tolist() == [(groups == one).sum() for one in np.unique(groups)]


def test_one_seed_has_no_interval_and_one_group_has_that_of_the_seeds():
    assert np.isnan(interval(np.ones((1, 5)), np.arange(5))).all() and np.isnan(interval(np.ones((3, 1, 5)), np.arange(5))).all()
    assert mean_p(np.ones((1, 5)), np.arange(5)) == equivalence_p(np.ones((1, 5)), np.arange(5), 0.1) == 1
    seeds = np.random.default_rng(0).normal(size=(8, 1))
    assert np.allclose(interval(seeds + np.zeros(5), np.zeros(5)), ttest_1samp(seeds[:, 0], 0).confidence_interval(0.95))


def test_what_never_varies_is_certain():
    same = np.full((4, 5), 0.2)
    assert np.allclose(interval(same, np.zeros(5)), 0.2) and np.allclose(interval(same, np.arange(5)), 0.2)
    for values, zero, within in ((same, 0, 0), (0 * same, 1, 1)):
        assert np.isclose(mean_p(values, np.arange(5)), zero) and (equivalence_p(values, np.arange(5), 0.1) < 0.05) == within


def test_p_values_of_several_effects_are_those_of_each():
    differences = np.random.default_rng(0).normal(0.3, 1, (3, 8))
    assert np.array_equal(sign_flip_p(differences), [sign_flip_p(one) for one in differences])
    assert sign_flip_p(np.ones((2, 1))).tolist() == [1, 1] and sign_flip_p(np.ones(1)) == 1


def test_seven_seeds_allow_a_verdict():
    "As the help of `celeba-nb study` says."
    assert judge(0.01, 0.9, 0.9, 1, 3 * 2 / 2**6) == "too few seeds to tell"
    assert judge(0.01, 0.9, 0.9, 1, 3 * 2 / 2**7) == "no difference seen"
    assert judge(0.01, 3 * 2 / 2**7, 0.01, 1, 3 * 2 / 2**7) == "helps"


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


@pytest.fixture(scope="module")
def flips():
    "A made-up effect of 8 seeds on 200 images."
    rng = np.random.default_rng(5)
    return 0.003 + rng.normal(0, 0.004, (8, 1)) + rng.normal(0, 0.02, 200) + rng.normal(0, 0.05, (8, 200))


def test_intervals(flips):
    groups = np.arange(200)
    low, high = interval(flips, groups)
    assert low < flips.mean() < high and np.isnan(interval(flips[:1], groups)).all()
    assert np.allclose(interval(np.full((8, 3), 0.25), np.arange(3)), 0.25)
    assert np.allclose(interval(flips + 1, groups), np.add(interval(flips, groups), 1))
    surer, bolder = interval(flips, groups, 0.99), interval(flips, groups, 0.5)
    assert surer[0] < bolder[0] < flips.mean() < bolder[1] < surer[1]
    assert np.ptp(interval(flips, np.repeat(np.arange(20), 10))) != np.ptp(interval(flips, groups))  # images hang together


def test_verdicts():
    eight = {"p_same": 1.0, "p_least": 3 * 2 / 2**8}
    assert judge(0.01, 0.02, 0.02, **eight) == "helps" and judge(-0.01, 0.02, 0.02, **eight) == "hurts"
    assert judge(-0.01, 0.02, 0.02, **eight, better="lower") == "helps"
    assert judge(0.01, 0.02, 0.02, **eight, better="lower") == "hurts"
    assert judge(0.01, 0.02, 0.05, **eight) == judge(0.01, 0.05, 0.02, **eight) == "signs disagree"
    assert judge(0.01, 0.05, 0.05, **eight) == "no difference seen"
    assert judge(0.01, 0.75, 0.02, 1, 3 * 2 / 2**3) == judge(0.01, 0.09, 0.02, 1, 3 * 2 / 2**6) == "too few seeds to tell"
    assert judge(0.01, 0.09, 0.09, 1, 2 / 2**6) == "no difference seen"


def test_the_same_is_said_only_within_a_margin():
    nearly = np.random.default_rng(0).normal(0, 0.001, (1, 8, 50)) + np.array([1, -1] * 4)[:, None] * 1e-4
    rows = [effect_rows(np.concatenate([0 * nearly, nearly]), np.arange(50), {"new": (-1, 1)}, "higher", margin)
            for margin in (None, 0.002)]
    assert [row["verdict"][0] for row in rows] == ["no difference seen", "the same within 0.002"]
    assert judge(0.003, 0.01, 0.01, 0.01, 2 / 2**8, margin=0.01) == "helps"  # small, but there
    assert [*rows[0].columns] == [*rows[1].columns] == ["effect", "mean", "low", "high", "p", "p_holm", "wins", "n", "verdict"]


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
    values = np.random.default_rng(0).integers(9, size=(4, 6))
    counted = np.mean([all(a < b for a, b in pairwise(drawn)) for drawn in product(*values)])
    assert 0 < order_share(values) == counted


def test_one_run_against_one_run():
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 2.5, 3.5])
    share, low, high = superiority(a, b)
    assert share == np.mean([(x > y) + (x == y) / 2 for x, y in product(a, b)]) and 0 < low < share < high < 1
    assert np.allclose(superiority(b, a), [1 - share, 1 - high, 1 - low])
    assert superiority(a + 9, b)[0::2] == (1, 1) and 0.2 < superiority(a + 9, b)[1] < 0.5
    assert superiority(a, a + 9)[:2] == (0, 0)
    assert superiority(a[:1], b[:1])[0] == 1 and np.isnan(superiority(a[:1], b[:1])[1:]).all()


def test_the_interval_of_one_run_against_one_is_as_wide_as_resampling_says():
    rng = np.random.default_rng(0)
    luck = rng.normal(size=40)
    a, b = luck + rng.normal(0.3, 1, 40), luck + rng.normal(0, 1, 40)
    drawn = rng.integers(40, size=(2000, 40))
    shares = np.array([superiority(a[rows], b[rows])[0] for rows in drawn])
    _, low, high = superiority(a, b)
    assert np.isclose(high - low, np.ptp(np.quantile(shares, [0.025, 0.975])), rtol=0.15)


def test_runs_that_share_no_seed():
    "All ways to share out the runs; and Welch's formula, written down."
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 1, 5), rng.normal(0, 2, 7)
    row, both = measure_unpaired(a, b, 2.5).iloc[0], np.append(a, b)
    means = np.array([both[list(at)].mean() - np.delete(both, at).mean() for at in combinations(range(12), 5)])
    one_sided = (means >= row["mean"] - 1e-12).mean(), (means <= row["mean"] + 1e-12).mean()
    assert np.isclose(row["p"], 2 * min(one_sided)) and row["p_least"] == 2 / 792 and row["n"] == 5 and np.isnan(row["wins"])
    parts = np.array([a.var(ddof=1) / 5, b.var(ddof=1) / 7])
    df, error = parts.sum() ** 2 / (parts**2 / [4, 6]).sum(), np.sqrt(parts.sum())
    assert np.allclose([row["low"], row["high"]], row["mean"] + t.ppf([0.025, 0.975], df) * error)
    assert np.isclose(row["p_mean"], 2 * t.sf(abs(row["mean"]) / error, df))
    assert np.isclose(row["p_same"], t.sf((2.5 - abs(row["mean"])) / error, df))
    alone = measure_unpaired(a[:1], b).iloc[0]
    assert np.isnan(alone["low"]) and alone["p"] == alone["p_mean"] == alone["p_same"] == 1
    still = measure_unpaired(np.zeros(3), np.ones(3)).iloc[0]
    assert still["low"] == still["high"] == -1 and still["p_mean"] == 0
    assert measure_unpaired(np.zeros(4), np.zeros(4)).iloc[0]["p"] == 1


def test_power():
    strong, groups = np.random.default_rng(0).normal(1, 0.2, size=(3, 16, 1)), np.zeros(1)
    assert (power(strong, groups, 7, repeats=50) == 1).all() and (power(strong, groups, 6, repeats=50) == 0).all()
    nothing = power(strong - strong.mean(1, keepdims=True), groups, 8, repeats=100)
    assert nothing.shape == (3,) and nothing.max() < 0.15


def test_endless_images_would_leave_the_luck_of_the_seeds():
    "Luck of 0.3 and noise of 4 on 400 images: 0.2 of the noise is left in a mean, so 0.36 is measured."
    rng = np.random.default_rng(0)
    values = 0.3 * rng.normal(size=(300, 8, 1)) + 2 * rng.normal(size=(300, 1, 400)) + 4 * rng.normal(size=(300, 8, 400))
    measured, endless = split_spread(values, np.arange(400))
    assert np.isclose((measured**2).mean(), 0.3**2 + 0.2**2, rtol=0.05) and np.isclose((endless**2).mean(), 0.3**2, rtol=0.1)


@pytest.mark.parametrize("world", coverage.WORLDS)
def test_imagined_studies(world):
    "What benchmarks/coverage.py measures, with fewer studies: the bounds are four standard errors wider than what is promised."
    for seeds in (4, 8):
        row = coverage.measure(world, seeds, studies=200)
        assert 90 < row["interval"] < 98 and row["false_same"] < 7.5 and row["false_verdict"] < 12
