"""The command line: what each command says, besides what it writes."""
import json
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from celeba_nb import cli
from celeba_nb.core import DataError
from celeba_nb.sketch import make_sketch


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_sketch(tmp_path_factory.mktemp("cli") / "faces", 24, 8, 8, progress=False)


@pytest.mark.parametrize("options, variable, on_sketch", [
    ((), None, True), (("--root", "here"), None, False), ((), "here", False), (("--root", "here"), "there", False)])
def test_who_names_data_gets_the_studys_sizes(options, variable, on_sketch, monkeypatch):
    asked = []
    def stop(on_sketch, **given):
        asked.append(on_sketch)
        raise DataError("no further")
    monkeypatch.setattr(cli, "study_sizes", stop)
    monkeypatch.setenv("CELEBA_ROOT", variable) if variable else monkeypatch.delenv("CELEBA_ROOT", raising=False)
    assert "no further" in call("study", *options).stderr and asked == [on_sketch]


def test_a_study_on_sketch_faces_says_so(capsys):
    cli.study_sizes(on_sketch=False)
    assert capsys.readouterr().out == ""
    cli.study_sizes(on_sketch=True)
    assert "sketch faces" in (said := capsys.readouterr().out) and "500 training images at 64×64" in said


def test_a_study_shows_its_tables_and_files(tmp_path, monkeypatch, capsys):
    "And its JSON keeps the effects on the accuracy apart from the others."
    monkeypatch.setattr(cli, "format_table", lambda table: f"{len(table)} methods")
    monkeypatch.setattr(cli, "format_effects", lambda effects: f"{len(effects)} effects")
    monkeypatch.setattr(cli, "save_study", lambda study, effects: ["runs.csv"])
    effects = pd.DataFrame({"outcome": ["test_accuracy", "valid_loss"], "mean": [0.5, 0.25]})
    cli.show_study(SimpleNamespace(table=lambda: effects, effects=lambda: effects), 1.0, tmp_path / "study.json")
    assert capsys.readouterr().out.split("\n") == ["", "2 methods", "", "2 effects", "", "Written: runs.csv", ""]
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["effects"] == [{"mean": 0.5}] and found["effects_other"] == [{"outcome": "valid_loss", "mean": 0.25}]


def test_train_and_evaluate_say_how_good_it_is(faces, tmp_path):
    options = ["--root", faces, "--size", 16, "--epochs", 1, "--device", "cpu", "--threads", 1]
    trained = call("train", *options, "--out", tmp_path / "model")
    assert f"Data: 40 images in {faces} (24 train, 8 valid, 8 test)" in trained.stdout
    assert "Test accuracy" in trained.stdout and f"Written: {tmp_path / 'model'}" in trained.stdout
    evaluated = call("evaluate", tmp_path / "model", "--root", faces, "--json", tmp_path / "test.json")
    said = [line.split() for line in evaluated.stdout.splitlines()]
    assert ["images", "8"] in said and {"accuracy", "balanced", "mean", "majority"} <= {line[0] for line in said}
    assert all(len(line[-1]) == len("0.8125") for line in said if "accuracy" in line)
    assert 0 < pd.read_json(tmp_path / "test.json", typ="series")["seconds"] < 60


def test_sketch_says_where(tmp_path):
    few = ["--train-images", 1, "--valid-images", 1, "--test-images", 1]
    assert f"Written: {tmp_path / 'faces'}" in call("sketch", tmp_path / "faces", *few).stdout


def test_bench_says_how_many_times_as_fast(capsys):
    found = pd.DataFrame({"way": ["naive", "celeba_nb"] * 2, "turn": [0, 0, 1, 1], "seconds": [8.0, 2.0, 12.0, 2.0],
                          "train_images_s": 1.0, "peak_mb": 1.0, "test_accuracy": 0.8})
    cli.show_bench(found, None)
    said = capsys.readouterr().out
    assert "5.00 times as fast as naive (4.00 to 6.00)" in said and "test_accuracy" in said
