"Wrong labels, groups, thresholds and mistakes: what notebook 13 builds, and the measures of `celeba_nb.audit`."
from unittest.mock import patch

import numpy as np
import pytest
from scipy.special import expit

from celeba_nb.audit import (
    confident_mistakes,
    gap_table,
    group_thresholds,
    label_audit,
    noise_of_pairs,
    recall_threshold,
    same_person_pairs,
)
from celeba_nb.core import ATTRIBUTES
from celeba_nb.limits import flip_labels
from celeba_nb.metrics import bootstrap_interval, fit_temperature, log_loss, rate_draws, rescale
from celeba_nb.sketch import label_faces, plan_faces

COUNTS = (2000, 500, 500)
MALE = ATTRIBUTES.index("Male")
RNG = np.random.default_rng(0)
SECOND = RNG.random(20_000) < 0.5  # an invented world: honest probabilities, and an attribute that is rarer in one group
CHANCE = expit(RNG.normal(np.where(SECOND, 0.5, -1.0), 1.5))
CAME = RNG.random(20_000) < CHANCE


@pytest.fixture(scope="module")
def labels():
    "The labels of faces that are planned but not drawn."
    with patch("celeba_nb.sketch.draw_all", lambda faces: [b""] * len(faces)):
        return label_faces(plan_faces(COUNTS), COUNTS)


def test_pairs_show_one_person(labels):
    who, male = labels.identity.to_numpy(), labels.attributes.to_numpy()[:, MALE]
    pairs = same_person_pairs(who)
    assert (who[pairs[:, 0]] == who[pairs[:, 1]]).all() and not (male[pairs[:, 0]] != male[pairs[:, 1]]).any()


def test_flip_labels(labels):
    noisy = flip_labels(labels, 0.1)
    assert abs((noisy.attributes != labels.attributes).to_numpy().mean() - 0.1) < 0.005
    assert noisy.attributes.dtypes.eq(bool).all()
    assert noisy.fingerprint != labels.fingerprint  # so no run on these labels is taken for one on the others
    only_test = flip_labels(labels, 0.1, ("test",)).attributes
    others = labels.split != "test"
    assert only_test[others].equals(labels.attributes[others]) and not only_test.equals(labels.attributes)
    assert flip_labels(labels, 0.0).attributes.equals(labels.attributes)


def test_pairs_tell_the_noise(labels):
    who, pairs, shares = labels.identity.to_numpy(), same_person_pairs(labels.identity), [0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3]
    held = []
    for share in shares:
        values = flip_labels(labels, share).attributes["Male"].to_numpy()
        differ = values[pairs[:, 0]] != values[pairs[:, 1]]
        low, high = noise_of_pairs(np.array(bootstrap_interval(differ, who[pairs[:, 0]], n=500)))
        assert abs(noise_of_pairs(differ.mean()) - share) < 0.03
        held.append(low <= share <= high)
    assert np.mean(held) > 0.7


def test_label_audit(labels):
    audit, right = label_audit(flip_labels(labels, 0.1)), label_audit(labels)
    assert audit.loc["Male", "low"] < 2 * 0.1 * 0.9 < audit.loc["Male", "high"] and len(audit) == 40
    assert np.isclose(audit.loc["Male", "noise"], 0.1, atol=0.02) and (audit["differ"] <= 1.1 * audit["chance"]).all()
    assert right.loc["Male", "differ"] == 0 < right.loc["Smiling", "differ"]
    assert (audit["pairs"] == len(same_person_pairs(labels.identity))).all()


def test_gap_table_where_a_group_is_empty():
    right, who = RNG.random((500, 1)), np.arange(500)
    table = gap_table(right, right > -1, right > 2, who, ["accuracy"])
    assert table["gap"].isna().item() and table["n_second"].item() == 0


def test_imagined_test_sets_are_the_same_each_time():
    right, everyone, who = RNG.random((500, 1)), np.ones((500, 1), bool), np.repeat(np.arange(100), 5)
    drawn = rate_draws(right, everyone, who)
    assert drawn.shape == (2000, 1) and (rate_draws(right, everyone, who) == drawn).all()
    assert np.allclose(np.quantile(drawn, [0.025, 0.975]), bootstrap_interval(right[:, 0], who), atol=0.003)


def test_thresholds_give_the_wanted_recall():
    each = group_thresholds(CHANCE, CAME, SECOND, 0.7)
    assert each[0] < recall_threshold(CHANCE, CAME, 0.7) < each[1]
    assert all(abs((CHANCE[CAME & g] >= t).mean() - 0.7) < 0.001 for g, t in zip((~SECOND, SECOND), each))


@pytest.mark.parametrize("recall", [0.4, 0.6, 0.8, 0.95])
def test_equal_recall_costs_accuracy(recall):
    one = CHANCE >= recall_threshold(CHANCE, CAME, recall)
    own = CHANCE >= group_thresholds(CHANCE, CAME, SECOND, recall)[SECOND.astype(int)]
    assert (one == CAME).mean() > (own == CAME).mean()


def test_temperature_of_a_boastful_network():
    assert abs(fit_temperature(rescale(CHANCE[:, None], 1 / 3), CAME[:, None]) - 3) < 0.1
    assert abs(fit_temperature(CHANCE[:, None], CAME[:, None]) - 1) < 0.05  # calibrated probabilities need no change
    assert np.allclose(rescale(CHANCE, 1.0), CHANCE, atol=1e-6)


def test_log_loss_of_certain_answers():
    assert np.isclose(log_loss(np.array([[0.5, 0.5]]), np.array([[True, False]])), np.log(2))
    right, wrong = (log_loss(np.array([[1.0]]), np.array([[label]])) for label in (True, False))
    assert right < 1e-6 < 10 < wrong


def test_confident_mistakes():
    p, y = CHANCE.reshape(500, 40), CAME.reshape(500, 40)
    assert len(confident_mistakes(p, y, 7)) == 7 and confident_mistakes(y.astype(float), y).empty
