"""The measures beside torchmetrics and the plainest way to compute them, and the corners that a lesson leaves out."""
import warnings

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as tm

from celeba_nb import metrics
from celeba_nb.exercises import error_message
from celeba_nb.metrics import (
    accuracy,
    attribute_accuracy,
    attribute_balanced_accuracy,
    average_precision,
    balanced_accuracy,
    bootstrap_interval,
    calibration_curve,
    calibration_error,
    confusion_counts,
    fit_temperature,
    image_accuracy,
    log_loss,
    majority_accuracy,
    majority_guess,
    mean_average_precision,
    metrics_table,
    rate_draws,
    resampling_unit,
    rescale,
    tune_thresholds,
)

SMALL_P = np.array([[0.9, 0.2], [0.6, 0.1], [0.4, 0.7], [0.2, 0.5]])
SMALL_Y = np.array([[1, 0], [0, 0], [1, 1], [0, 0]], dtype=bool)
NOBODY = SMALL_Y & [True, False]  # no image has the second attribute


def made_up(images=300, attributes=40):
    "Probabilities that are true, as float32, and what came of them: (images, attributes) each."
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-rng.normal(-1, 1.5, (images, attributes))))
    return p.astype(np.float32), rng.random(p.shape) < p


P, Y = made_up()
IN_TORCH = torch.tensor(P), torch.tensor(Y).int()


# What is given


def test_what_can_not_be_meant_is_refused():
    said = [error_message(metrics._check, wrong, Y) for wrong in (np.full_like(P, np.nan), 3 * P, P[:, :39])]
    assert "12000 of 12000 probabilities are NaN" in said[0] and "logits?" in said[1]
    assert "(300, 39) and truth (300, 40)" in said[2]
    assert "-1 for no" in error_message(metrics._check, P, np.where(Y, 1, -1))
    assert "should be (images, attributes)" in error_message(metrics._check, P[0], Y[0])  # one image is a row: P[:1]
    assert "should be (images, attributes)" in error_message(metrics._check, P[:0], Y[:0])
    assert "from -0.1 to 0.3" in error_message(metrics._check, [[-0.1, 0.3]], [[0, 1]])
    assert "1 of 2 probabilities are NaN" in error_message(metrics._check, [[np.nan, 0.3]], [[0, 1]])
    metrics._check(np.zeros((1, 2)), np.ones((1, 2)))  # 0 and 1 are probabilities, too


def test_the_measures_look_first():
    slip = P.copy()
    slip[0, 0] = 1.001
    assert "NaN" in error_message(attribute_accuracy, np.full_like(P, np.nan), Y)
    assert "logits?" in error_message(accuracy, slip, Y)
    assert "-1 for no" in error_message(majority_guess, [[1, -1]], 2)
    assert "(images, attributes)" in error_message(majority_accuracy, Y, Y[:, :39])
    assert "larger than 0" in error_message(calibration_error, P, Y, bins=0)


# Decisions


def test_confusion_counts():
    assert confusion_counts(SMALL_P, SMALL_Y).tolist() == [[1, 1], [1, 0], [1, 3], [1, 0]]  # 0.5 is not above 0.5: a no
    assert confusion_counts(SMALL_P[:, :1], SMALL_Y[:, :1]).tolist() == [[1], [1], [1], [1]]  # one attribute will do
    tp, fp, tn, fn = confusion_counts(P, Y)
    assert (tp + fp + tn + fn == 300).all()
    assert np.allclose(tp / (tp + fn), tm.multilabel_recall(*IN_TORCH, 40, average="none"), atol=1e-6)
    assert np.allclose(tn / (tn + fp), tm.multilabel_specificity(*IN_TORCH, 40, average="none"), atol=1e-6)


def test_accuracies():
    assert accuracy(SMALL_P, SMALL_Y) == 0.75 and accuracy(P, Y) == ((P > 0.5) == Y).mean()
    assert abs(accuracy(P, Y) - tm.multilabel_accuracy(*IN_TORCH, 40, average="micro").item()) < 1e-6
    assert attribute_accuracy(SMALL_P, SMALL_Y).tolist() == [0.5, 1.0]
    tp, _, tn, _ = confusion_counts(P, Y)
    assert np.array_equal(attribute_accuracy(P, Y), (tp + tn) / 300)
    assert np.allclose(attribute_accuracy(P, Y), tm.multilabel_accuracy(*IN_TORCH, 40, average="none"), atol=1e-6)
    assert image_accuracy(SMALL_P, SMALL_Y).tolist() == [1.0, 0.5, 0.5, 1.0]
    assert image_accuracy(P, Y).shape == (300,) and abs(image_accuracy(P, Y).mean() - accuracy(P, Y)) < 1e-12


def test_majority():
    assert majority_guess([[1, 0], [1, 1], [0, 0]], 2).tolist() == [[1, 0], [1, 0]]
    assert majority_guess([[1, 0], [0, 1]], 1).tolist() == [[0, 0]]  # ties
    assert majority_accuracy([[1, 0], [1, 1], [0, 0]], [[1, 0], [1, 0]]) == 1.0
    assert majority_accuracy([[1, 0], [1, 1], [0, 0]], [[0, 1], [1, 1], [0, 1], [0, 1]]) == 0.125


def test_balanced_accuracy():
    assert attribute_balanced_accuracy(SMALL_P, SMALL_Y).tolist() == [0.5, 1.0] and balanced_accuracy(SMALL_P, SMALL_Y) == 0.75
    tp, fp, tn, fn = confusion_counts(P, Y)
    assert np.allclose(attribute_balanced_accuracy(P, Y), (tp / (tp + fn) + tn / (tn + fp)) / 2)
    two_classes = tm.multiclass_accuracy((IN_TORCH[0][:, 0] > 0.5).int(), IN_TORCH[1][:, 0], num_classes=2, average="macro")
    assert abs(attribute_balanced_accuracy(P, Y)[0] - two_classes.item()) < 1e-6
    assert balanced_accuracy(majority_guess(Y, 300), Y) == 0.5


def test_what_has_no_value_is_left_out_with_a_warning():
    assert np.array_equal(attribute_balanced_accuracy(SMALL_P, NOBODY), [0.5, np.nan], equal_nan=True)
    with pytest.warns(UserWarning, match="1 of 2 attributes left out of the mean"):
        assert balanced_accuracy(SMALL_P, NOBODY) == 0.5
    with pytest.warns(UserWarning, match="2 of 2"):
        assert np.isnan(balanced_accuracy(SMALL_P, np.zeros_like(SMALL_Y)))
    with pytest.warns(UserWarning, match="1 of 2 attributes left out of the mean"):
        assert np.isclose(mean_average_precision(SMALL_P, NOBODY), 5 / 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where each attribute has a value, nothing is said
        assert np.isclose(mean_average_precision(SMALL_P, SMALL_Y), (5 / 6 + 1) / 2)


# Order


def test_average_precision():
    assert np.allclose(average_precision(SMALL_P, SMALL_Y), [5 / 6, 1])
    assert np.allclose(average_precision(SMALL_P[:, :1], SMALL_Y[:, :1]), [5 / 6])
    by_hand = [np.mean([Y[P[:, a] >= at, a].mean() for at in P[Y[:, a], a]]) for a in range(40)]
    assert np.allclose(average_precision(P, Y), by_hand, atol=1e-6)
    macro = tm.multilabel_average_precision(IN_TORCH[0].double(), IN_TORCH[1], 40, average="macro")
    assert abs(mean_average_precision(P, Y) - macro.item()) < 1e-6


def test_average_precision_of_ties_is_the_rate():
    "In whichever order the images are."
    some = np.array([1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    assert np.allclose(average_precision(np.full((8, 2), 0.5), np.stack([some, ~some], 1)), [0.25, 0.75])
    rates = np.tile(Y.mean(0), (300, 1))
    assert np.allclose(average_precision(rates, Y), Y.mean(0))


def test_average_precision_without_images_of_both_kinds():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(average_precision(SMALL_P, NOBODY), [5 / 6, np.nan], equal_nan=True)
        assert np.isnan(average_precision(SMALL_P, np.ones_like(SMALL_Y))).all()


# Probabilities


def test_calibration_error():
    p, y = made_up(1000)
    boastful = rescale(p, 0.5)
    which = np.minimum((boastful * 15).astype(int), 14)
    gaps = [abs(boastful[which == b].mean() - y[which == b].mean()) * (which == b).mean() for b in range(15)]
    assert np.isclose(calibration_error(boastful, y), sum(gaps))
    assert calibration_error(p, y) < 0.01 < 0.05 < calibration_error(boastful, y)
    assert np.isclose(calibration_error([[0.99, 1.0]], [[True, False]]), 0.495)  # 1 is in the last bin
    assert np.isclose(calibration_error([[0.1, 0.4]], [[0, 1]], bins=1), 0.25)  # one bin: 0.25 on average, and half are yes


def test_boasting_changes_neither_decisions_nor_order():
    boastful = rescale(P, 0.5)
    assert accuracy(P, Y) == accuracy(boastful, Y)
    assert np.allclose(average_precision(P, Y), average_precision(boastful, Y))


def test_calibration_curve():
    confidence, share, count = calibration_curve([[0.1, 0.2], [0.9, 1.0]], [[0, 1], [1, 1]], bins=2)
    assert np.allclose(confidence, [0.15, 0.95]) and np.allclose(share, [0.5, 1]) and count.tolist() == [2, 2]
    assert [a.tolist() for a in calibration_curve([[0.7]], [[1]])] == [[0.7], [1.0], [1]]  # empty bins are left out
    confidence, share, count = calibration_curve(P, Y)
    assert count.sum() == Y.size
    assert np.isclose((abs(confidence - share) * count).sum() / count.sum(), calibration_error(P, Y))


def test_temperature():
    p, y = made_up(1000)
    assert np.allclose(rescale([0.5, 0.9], 2.0), [0.5, 0.75])  # odds of 9 become odds of 3
    assert np.isclose(log_loss(SMALL_P[:1], SMALL_Y[:1]), -(np.log(0.9) + np.log(0.8)) / 2)
    assert abs(fit_temperature(p, y) - 1) < 0.05 and abs(fit_temperature(rescale(p, 0.5), y) - 2) < 0.1


def test_thresholds_are_those_of_the_plain_way():
    grid = np.linspace(0.01, 0.99, 99)
    plain = [grid[np.argmax([(P[Y[:, a], a] > t).mean() + (P[~Y[:, a], a] <= t).mean() for t in grid])] for a in range(40)]
    assert np.allclose(tune_thresholds(P, Y), plain)
    assert tune_thresholds(SMALL_P, NOBODY)[1] == 0.5  # nothing to choose by


# How far a number moves


def means(values, groups, n=50):
    "Means of imagined test sets."
    values = np.array(values, float)[:, None]
    return rate_draws(values, np.ones_like(values, bool), np.array(groups), n)[:, 0]


def test_rate_draws():
    assert set(means([0, 1], [1, 2])) == {0, 0.5, 1}
    assert set(means([0, 1, 1, 1], ["a", "b", "b", "b"])) == {0, 0.75, 1}
    assert len(rate_draws(np.ones((300, 1)), np.ones((300, 1), bool), np.arange(300))) == 2000
    found, smiling = np.array([[1.0], [0.0], [1.0]]), np.array([[True], [True], [False]])
    drawn = rate_draws(found, smiling, np.arange(3), 200)
    assert set(drawn[~np.isnan(drawn)]) == {0, 1 / 3, 0.5, 2 / 3, 1} and np.isnan(drawn).any()  # NaN: only the third was drawn


def test_bootstrap_interval():
    values = image_accuracy(P, Y)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(values) == bootstrap_interval(values, None, 0.95, 2000, seed=0)
    assert bootstrap_interval(values, n=50) == bootstrap_interval(values, n=50, seed=0)
    assert bootstrap_interval(values, n=50, seed=1) != bootstrap_interval(values, n=50, seed=2)
    error = values.std() / np.sqrt(len(values))
    assert np.allclose([low, high], values.mean() + np.array([-1.96, 1.96]) * error, atol=0.2 * error)  # the textbook's
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_copies_are_no_evidence():
    values = image_accuracy(P, Y)
    low, high = bootstrap_interval(values)
    copies, originals = np.repeat(values, 10), np.repeat(np.arange(300), 10)
    assert np.allclose(bootstrap_interval(copies, originals), (low, high))
    assert np.isclose(np.ptp(bootstrap_interval(copies)), (high - low) / np.sqrt(10), rtol=0.15)


@pytest.mark.parametrize(("wrong", "said"), [
    (dict(values=[0.5, np.nan]), "NaN"), (dict(values=[0.5, 0.6], groups=[1, 2, 3]), "values (2,) and groups (3,)"),
    (dict(values=[0.5, 0.6], groups=[7, 7]), "two or more"), (dict(values=[]), "two or more"),
    (dict(values=Y, groups=Y), "both should have the shape (images,)"),
    *[(dict(values=[0.5, 0.6], level=level), "between 0 and 1") for level in (0, 1, 95)],
])
def test_bootstrap_interval_refuses(wrong, said):
    assert said in error_message(bootstrap_interval, **wrong)


def test_resampling_unit():
    assert resampling_unit(None) == "images, since identities are unknown"
    assert resampling_unit(np.array([3, 3, 8])) == "identities"


def invented_test_set(shared, rng, identities=100, images=10, mean=0.84, spread=0.06):
    "Accuracies of images, `shared` of whose variance belongs to the identity; and the identity of each."
    face = rng.normal(0, spread * np.sqrt(shared), (identities, 1))
    rest = rng.normal(0, spread * np.sqrt(1 - shared), (identities, images))
    return (mean + face + rest).ravel(), np.repeat(np.arange(identities), images)


def intervals(shared, tries, rng):
    "For each of many test sets two intervals, drawing images and drawing identities: (tries, 2, 2)."
    sets = (invented_test_set(shared, rng) for _ in range(tries))
    return np.array([[bootstrap_interval(v, None, n=200), bootstrap_interval(v, who, n=200)] for v, who in sets])


def test_coverage():
    "Drawing identities keeps its promise of 95%; drawing images doesn't, unless identities make no difference."
    rng = np.random.default_rng(0)
    found = intervals(shared=0.3, tries=150, rng=rng)
    caught = (found[..., 0] <= 0.84) & (0.84 <= found[..., 1])
    assert caught[:, 1].mean() > 0.88 and caught[:, 0].mean() < 0.85
    alone = np.ptp(intervals(shared=0, tries=30, rng=rng), axis=2).mean(0)
    assert abs(alone[0] / alone[1] - 1) < 0.1


# Everything on one page


def test_metrics_table():
    truth = np.array([[1, 0], [0, 0], [1, 1], [1, 0]], dtype=bool)
    page = metrics_table(SMALL_P, truth, SMALL_Y, ["Smiling", "Wearing_Hat"])
    assert page["per_attribute"] == {"Smiling": 0.25, "Wearing_Hat": 1.0}
    assert (page["images"], page["accuracy"], page["majority_accuracy"]) == (4, 0.625, 0.5)
    assert np.isclose(page["balanced_accuracy"], (1 / 6 + 1) / 2)
    assert np.isclose(page["mean_average_precision"], ((1 + 2 / 3 + 3 / 4) / 3 + 1) / 2)
    for names in (["Smiling"], ["Smiling", "Wearing_Hat", "Male"]):
        assert f"{len(names)} attribute names for 2 columns" in error_message(metrics_table, SMALL_P, SMALL_Y, SMALL_Y, names)
