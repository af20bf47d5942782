"""Answers: honest probabilities, thresholds, and what a network was trained on, wherever it answers."""
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from celeba_nb import photo, report
from celeba_nb.answers import (
    answer_metrics,
    calibrate,
    calibrated_net,
    compare_data,
    decide,
    describe_answers,
    never_looking,
    photo_warning,
    with_thresholds,
)
from celeba_nb.core import TrainingError
from celeba_nb.detection import centre_crop
from celeba_nb.export import export_onnx
from celeba_nb.files import read_celeba
from celeba_nb.metrics import accuracy, balanced_accuracy, fit_temperature, log_loss, majority_accuracy
from celeba_nb.recipe import Recipe, run_id
from celeba_nb.report import make_page
from celeba_nb.run import load
from celeba_nb.sketch import make_sketch
from celeba_nb.training import evaluate, train
from tools.notebooks import ROOT

OLD = Path(__file__).parent / "old_records" / "601dfdbb69f765a3"
pytestmark = pytest.mark.filterwarnings("ignore:.*left out of the mean:UserWarning")  # so few images
SMALL = Recipe(train_images=None, size=16, epochs=4, lr=0.005, threads=1, device="cpu", precision="float32",
               model_args={"hidden": 16, "channels": [8, 8]}, thresholds="balanced")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return read_celeba(make_sketch(tmp_path_factory.mktemp("answers") / "faces", 120, 80, 80, progress=False))


@pytest.fixture(scope="module")
def folder(labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers") / "run"
    train(SMALL, labels, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return load(folder)


@pytest.fixture
def soon(monkeypatch):
    "A page without its intervals, which take long."
    monkeypatch.setattr(report, "metric_intervals", lambda functions, *rest: dict.fromkeys(functions, (0.1, 0.9)))


def test_a_record_keeps_what_the_validation_images_chose(run, labels):
    "From validation images only; and neither changes what was measured before."
    valid, truth = run.predictions["valid"], run.predictions["valid_truth"]
    assert run.temperature == fit_temperature(valid, truth) and len(run.thresholds) == 40
    assert log_loss(calibrate(run, valid), truth) < log_loss(valid, truth)
    yes = decide(run, calibrate(run, valid)).astype(float)
    assert balanced_accuracy(yes, truth) > balanced_accuracy(valid, truth) + 0.01
    half = train(replace(SMALL, thresholds="half"), labels, progress=False)
    assert half.thresholds is None and half.temperature == run.temperature
    assert half.metrics | {"seconds": 0} == run.metrics | {"seconds": 0}
    assert all((half.predictions[key] == array).all() for key, array in run.predictions.items())


def test_thresholds_are_chosen_anew_without_training(run):
    "From the stored answers of the validation images, to the same thresholds that a training gives."
    half = with_thresholds(run, "half")
    assert half.thresholds is None and with_thresholds(half, "balanced").thresholds == run.thresholds
    assert with_thresholds(run, None) is run
    with pytest.raises(TrainingError, match="there are no thresholds 'best': use half or balanced"):
        with_thresholds(run, "best")


def test_never_looking_is_one_number(run, labels):
    "In `train`, `evaluate` and the report: the majority of the labels that the network learned from."
    few = train(replace(SMALL, train_images=9, epochs=1), labels, progress=False)
    own = evaluate(few, labels)["majority_accuracy"]
    assert own == never_looking(few, labels) != never_looking(run, labels)
    assert own == accuracy(report.find_baselines(few, labels).majority, few.predictions["test_truth"])
    others = replace(labels, attributes=~labels.attributes)  # whose labels nobody has learned from
    truth = others.attributes.to_numpy()
    assert evaluate(few, others)["majority_accuracy"] == majority_accuracy(truth[:120], truth[200:])


def test_thresholds_rename_only_runs_that_have_them():
    assert run_id(Recipe(), "data") == run_id(Recipe(thresholds="half"), "data") != run_id(Recipe(thresholds="balanced"), "data")


def test_no_answer_at_one_half_changes_with_the_temperature(run):
    p = np.concatenate([np.nextafter(np.float32(0.5), np.float32([0, 1])), np.float32([0, 0.5, 1, 1e-30])])[:, None]
    for temperature in (0.05, 0.9, 20.0):
        one = replace(run, temperature=temperature, thresholds=None)
        assert (decide(one, calibrate(one, p)) == (p > 0.5)).all()


def test_a_photo_and_a_folder_get_the_same_probabilities(run, labels, monkeypatch):
    "`predict_photo`, `evaluate` and the stored predictions, all divided by the temperature."
    picture = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    monkeypatch.setattr(photo, "open_photo", lambda source: picture)
    monkeypatch.setattr(photo, "find_faces", lambda image: [centre_crop(image)])
    raw = photo.predict_images(run.net(), [photo.find_faces(picture)[0].picture], 16)
    said = photo.predict_photo("me.jpg", run)[list(run.attributes)].to_numpy()
    assert np.abs(said - raw).max() > 1e-3 and np.allclose(said, calibrate(run, raw), atol=1e-5)
    found, p, truth = evaluate(run, labels), run.predictions["test"], run.predictions["test_truth"]
    assert found["accuracy"] == accuracy(p, truth) and np.isclose(found["log_loss"], log_loss(calibrate(run, p), truth))
    assert found["balanced_accuracy_at_thresholds"] == answer_metrics(run, p, truth)["balanced_accuracy_at_thresholds"]


def test_sure_answers_lose_nothing_to_rounding(run):
    "A logit of 40 is more than a stored probability can hold."
    wide = replace(run, weights={name: weight * (30 if name.startswith("head") else 1) for name, weight in run.weights.items()})
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        logits = wide.net()(x)
        assert torch.equal(calibrated_net(wide)(x), logits / run.temperature)


def test_an_export_holds_the_temperature_and_names_the_rest(run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_onnx(run, tmp_path / "model.onnx")
    session, pixels = onnxruntime.InferenceSession(tmp_path / "model.onnx"), np.full((1, 3, 16, 16), 200, np.uint8)
    (said,) = session.run(None, {"pixels": pixels})
    with torch.inference_mode():
        logits = run.net()(torch.tensor(pixels) / 127.5 - 1).numpy()
    assert np.allclose(said, expit(logits / run.temperature), atol=1e-4) and np.abs(said - expit(logits)).max() > 1e-3
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["thresholds"]) == run.thresholds and float(notes["temperature"]) == run.temperature
    assert notes["trained_on"] == "drawn" and len(json.loads(notes["attributes"])) == 40
    assert str(ROOT).encode() not in (tmp_path / "model.onnx").read_bytes(), "it tells where the package is on this machine"


def test_an_old_record_says_uncalibrated(soon):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = load(OLD)
        page = make_page(old, "old")
    raw = old.predictions["test"]
    assert (old.temperature, old.thresholds) == (None, None) and calibrate(old, raw) is raw
    assert "uncalibrated" in describe_answers(old) and "unknown images" in describe_answers(old)
    assert "This older record is uncalibrated" in page and "does not say what images" in page
    assert "about photos of celebrities" not in page


def test_a_page_names_temperature_thresholds_and_kind(run, labels, soon):
    page = " ".join(make_page(run, "a").split())
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts["Trained"].startswith("on drawn faces, ") and "are divided by it" in facts["Temperature"]
    assert "one for each attribute" in facts["Thresholds"] and "a threshold of its own" in page and "Yes above" in page
    plain = " ".join(make_page(replace(run, thresholds=None, kind=None), "a", labels).split())  # the data say their kind
    assert "on faces that the package draws" in plain and "yes above 50%" in plain and "Yes above" not in plain


def test_a_network_says_what_it_was_trained_on(run, labels, tmp_path):
    assert "drawn faces" in photo_warning(run)
    assert photo_warning(replace(run, kind="CelebA")) == photo_warning(replace(run, kind=None)) == ""
    assert compare_data(run, labels) == ""
    others = replace(labels, root=tmp_path, attributes=~labels.attributes)
    assert "trained on drawn faces, and these are other images (CelebA)" in compare_data(run, others)
