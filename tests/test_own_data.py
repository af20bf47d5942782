"""Data as people have them: a table of one's own, other copies of CelebA, faults that would otherwise pass in silence."""
import json
import os
import re
import resource
import shutil
import struct
import sys
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import CONTEXT
from joblib import parallel_config
from layouts import as_csv, as_parquet, as_text, refused
from PIL import Image
from typer.testing import CliRunner

import celeba_nb
from celeba_nb import cli, console, images, sources
from celeba_nb.console import open_labels
from celeba_nb.core import ATTRIBUTES, DataError, TrainingError
from celeba_nb.data import draw_rows
from celeba_nb.files import read_celeba, read_faces
from celeba_nb.images import ImageCache
from celeba_nb.recipe import Recipe
from celeba_nb.run import load, resolve
from celeba_nb.training import evaluate, train

TEN = [f"question_{i}" for i in range(10)]
YES_NO = {"1/0": ("1", "0"), "1/-1": ("1", "-1"), "true/false": ("true", "false"), "True/False": ("True", "False"),
          "yes/no": ("yes", "no"), "1.0/0.0": ("1.0", "0.0")}


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def said(read, *arguments):
    "What reading returns, and the warnings that it gives."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return read(*arguments), [str(warning.message) for warning in caught]


@pytest.fixture
def own(small, labels, tmp_path):
    "Fifty images and labels.csv with ten attributes, a split and people."
    root = shutil.copytree(small / "img_align_celeba", tmp_path / "own")
    frame = labels.attributes.iloc[:, :10].astype(int).set_axis(TEN, axis=1).rename_axis("image")
    frame.assign(split=labels.split, identity=labels.identity).to_csv(root / "labels.csv")
    return root


def table(root):
    return pd.read_csv(root / "labels.csv", dtype=str, keep_default_na=False).set_index("image")


# ---- a table of one's own


@pytest.mark.filterwarnings("ignore:.*left out of the mean:UserWarning")
def test_from_a_table_to_a_report_and_a_prediction(own, tmp_path):
    "Ten attributes of one's own, four commands."
    tiny = ["--size", 16, "--epochs", 1, "--device", "cpu", "--threads", 1]
    trained = call("train", "--root", own, *tiny, "--out", tmp_path / "mine")
    assert trained.exit_code == 0, trained.output
    assert f"Data: 50 images in {own} (30 train, 10 valid, 10 test), your own images, 10 attributes" in trained.stdout
    run = load(tmp_path / "mine")
    assert run.attributes == tuple(TEN) and run.recipe.model_args["attributes"] == 10
    assert run.predictions["test"].shape == (10, 10)

    evaluated = call("evaluate", tmp_path / "mine", "--root", own, "--json", tmp_path / "test.json")
    assert evaluated.exit_code == 0, evaluated.output
    assert list(json.loads((tmp_path / "test.json").read_text())["per_attribute"]) == TEN

    reported = call("report", tmp_path / "mine", "--root", own, "--out", tmp_path / "report.html")
    assert reported.exit_code == 0, reported.output
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in TEN) and "Smiling" not in page

    predicted = call("predict", own / "000001.jpg", "--model", tmp_path / "mine", "--json", tmp_path / "answer.json")
    assert predicted.exit_code == 0, predicted.output
    assert list(json.loads((tmp_path / "answer.json").read_text())["photos"][0]["faces"][0]["probabilities"]) == TEN
    assert call("reproduce", tmp_path / "mine", "--root", own).exit_code == 0


@pytest.mark.filterwarnings("always:.*no split is given:UserWarning")
def test_another_table_is_named(own, tmp_path):
    "With --labels; the images are then in --root, or beside the table."
    table(own)[TEN[:3]].to_csv(tmp_path / "three.csv")
    few = ["--size", 16, "--epochs", 1, "--device", "cpu", "--threads", 1, "--labels", tmp_path / "three.csv"]
    done = call("train", "--root", own, *few, "--out", tmp_path / "mine")
    assert done.exit_code == 0 and "3 attributes" in done.stdout, done.output
    assert "so one was drawn by image" in done.stderr
    assert load(tmp_path / "mine").attributes == tuple(TEN[:3])
    assert len(read_faces(own, "labels.csv")) == 50  # a name in root
    refusal = call("train", "--root", own, "--labels", tmp_path / "none.csv", "--out", tmp_path / "x")
    assert refusal.exit_code == 1 and "none.csv: can't be read" in refusal.stderr


@pytest.mark.filterwarnings("always:.*:UserWarning")
def test_a_study_and_a_file_for_other_programs(own, tmp_path):
    "study and export take the same table; the names of its columns, whatever they are, are in the records and in the file."
    odd = ["Wears glasses?", "Hut, Mütze", "way"]
    table(own)[[*TEN[:3], "split", "identity"]].set_axis([*odd, "split", "identity"], axis=1).to_csv(tmp_path / "odd.csv")
    tiny = ["--root", own, "--labels", tmp_path / "odd.csv", "--size", 16, "--epochs", 1, "--threads", 1]
    with parallel_config("sequential"):  # no processes to start
        done = call("study", *tiny, "--seeds", 1, "--train-images", 20, "--out", tmp_path / "study")
    assert done.exit_code == 0 and "3 attributes" in done.stdout and "These verdicts hold for your images" in done.stdout
    records = [load(path.parent) for path in (tmp_path / "study").glob("*/recipe.json")]
    assert len(records) == 4 and {(run.attributes, run.kind) for run in records} == {(tuple(odd), "own")}

    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert call("train", *tiny, "--thresholds", "balanced", "--out", tmp_path / "mine").exit_code == 0
    exported = call("export", tmp_path / "mine", "--out", tmp_path / "mine.onnx")
    assert exported.exit_code == 0 and "trained on your own images" in exported.stdout, exported.output
    notes = {entry.key: entry.value for entry in pytest.importorskip("onnx").load(tmp_path / "mine.onnx").metadata_props}
    assert json.loads(notes["attributes"]) == odd and notes["trained_on"] == "own"
    assert json.loads(notes["thresholds"]) == load(tmp_path / "mine").thresholds


def test_a_question_whose_heading_says_who_it_is(own):
    "A column `person` of yes and no would make intervals of two people: it is left out, and that is said."
    frame = table(own).drop(columns="identity")
    frame.assign(person=frame["question_3"]).to_csv(own / "labels.csv")
    got, text = said(read_faces, own)
    assert got.identity is None and len(text) == 1
    assert f"{own}: the identities name 2 people" in text[0] and "another heading" in text[0]


def test_a_split_that_divides_people_is_said(own):
    frame = table(own)
    trained = frame["identity"][frame["split"] == "train"].iloc[0]
    rows = np.flatnonzero(frame["split"] == "test")[:2]
    frame.iloc[rows, frame.columns.get_loc("identity")] = trained
    frame.to_csv(own / "labels.csv")
    text = said(read_faces, own)[1]
    assert len(text) == 1 and "2 of 20 validation and test images show people who are in the training images, too" in text[0]


@pytest.mark.filterwarnings("ignore:.*left out of the mean:UserWarning")
def test_a_table_with_its_columns_in_another_order(own):
    "evaluate takes the attributes by their names, and more than these."
    tiny = Recipe(train_images=None, valid_images=None, test_images=None, size=16, epochs=1, threads=1, device="cpu")
    run = train(tiny, read_faces(own, "labels.csv"), progress=False)
    wanted, frame = evaluate(run, read_faces(own)), table(own)
    frame[[*TEN[::-1], "split", "identity"]].assign(more=frame["question_1"]).to_csv(own / "labels.csv")
    assert evaluate(run, read_faces(own)) == wanted
    frame.drop(columns="question_4").to_csv(own / "labels.csv")
    with pytest.raises(TrainingError, match="has no question_4, only question_0"):
        evaluate(run, read_faces(own))


def test_one_question(own, capsys):
    table(own)[["question_1", "split"]].to_csv(own / "labels.csv")
    assert open_labels(own).attributes.shape == (50, 1) and "your own images, 1 attribute\n" in capsys.readouterr().out


def test_the_package_hands_it_out(own):
    assert celeba_nb.read_faces is read_faces and len(celeba_nb.read_faces(own)) == 50


@pytest.mark.parametrize("form", YES_NO)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_answers_and_separators(form, separator, own):
    wanted = read_faces(own)
    yes, no = YES_NO[form]
    frame = table(own)
    frame[TEN] = frame[TEN].replace({"1": yes, "0": no})
    frame.to_csv(own / "labels.csv", sep=separator)
    assert read_faces(own).fingerprint == wanted.fingerprint


def test_tables_of_other_kinds(own, tmp_path):
    "White space, parquet, a heading that says the separator, another order of rows and columns, capitals."
    wanted, frame = read_faces(own), table(own)
    kinds = {
        "labels.txt": lambda path: path.write_text(frame.reset_index().to_string(index=False)),
        "labels.parquet": lambda path: frame.astype(dict.fromkeys(TEN, int)).to_parquet(path),
        "labels.tsv": lambda path: frame.to_csv(path, sep="\t"),
        "labels.csv": lambda path: path.write_text("sep=;\n" + frame.iloc[::-1].rename_axis("Image").to_csv(sep=";")),
    }
    for name, write in kinds.items():
        (own / "labels.csv").unlink(missing_ok=True)
        write(own / name)
        assert read_faces(own).fingerprint == wanted.fingerprint, name
        if name != "labels.csv":
            (own / name).unlink()
    (own / "labels.tsv").touch()
    assert "labels.csv and labels.tsv are both there" in refused(read_faces, own)


def test_the_names_of_attributes_are_part_of_the_data(own):
    wanted = read_faces(own)
    table(own).rename(columns={"question_3": "other"}).to_csv(own / "labels.csv")
    assert read_faces(own).fingerprint != wanted.fingerprint


def test_columns_that_are_no_attributes_are_said(own):
    frame = table(own)
    frame.assign(note="a remark", score=np.linspace(0, 1, 50)).to_csv(own / "labels.csv")
    got, text = said(read_faces, own)
    assert list(got.attributes) == TEN
    assert text == [f"{own / 'labels.csv'}: 2 column(s) without yes and no left out: note, score."]


FLAWS = {
    "one value": (lambda f: f.assign(question_1=["maybe", *f["question_1"][1:]]), ["line 2", "question_1 is 'maybe'"]),
    "an empty value": (lambda f: f.assign(question_9=["", *f["question_9"][1:]]), ["line 2", "question_9 is ''"]),
    "both 0 and -1": (lambda f: f.assign(question_1=["-1", "0", *f["question_1"][2:]]), ["question_1", "both 0 and -1"]),
    "a split": (lambda f: f.assign(split=["trian", *f["split"][1:]]), ["line 2", "'trian'", "train, valid or test"]),
    "a person": (lambda f: f.assign(identity=["", *f["identity"][1:]]), ["line 2", "''", "identity"]),
    "an image twice": (lambda f: f.rename(index={"000002.jpg": "000001.jpg"}), ["line 3", "listed twice", "line 2"]),
    "a name that leads out": (lambda f: f.rename(index={"000002.jpg": "../000001.jpg"}), ["line 3", "plain file name"]),
    "no attribute": (lambda f: f[[]].assign(score="0.7"), ["no column of yes and no", "score", "0.7"]),
    "other images": (lambda f: f.rename(index=lambda name: f"x{name}"), ["labels say x000001.jpg", "folder has 000001.jpg"]),
    "zeros": (lambda f: f.rename(index=lambda name: name.lstrip("0")), ["labels say 1.jpg", "folder has 000001.jpg", "zeros"]),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_table(flaw, own):
    change, parts = FLAWS[flaw]
    change(table(own)).to_csv(own / "labels.csv")
    message = refused(read_faces, own)
    assert all(part in message for part in parts) and "\n" not in message, message


def test_a_split_is_drawn_the_same_each_time(own, labels):
    "By person, whatever the order of rows; without people by image."
    frame = table(own).drop(columns="split")
    frame.to_csv(own / "labels.csv")
    got, text = said(read_faces, own)
    assert len(text) == 1 and "no split is given, so one was drawn by person" in text[0] and "the same each time" in text[0]
    assert got.split.groupby(got.identity).nunique().max() == 1 and set(got.split) == {"train", "valid", "test"}
    assert 35 <= (got.split == "train").sum() <= 45
    frame.sample(frac=1, random_state=1).to_csv(own / "labels.csv")
    assert said(read_faces, own)[0].split.equals(got.split)
    names = frame.assign(identity=[f"Person {i}" for i in frame["identity"]])  # names of people are numbered
    names.to_csv(own / "labels.csv")
    assert said(read_faces, own)[0].identity.nunique() == labels.identity.nunique()
    frame.drop(columns="identity").to_csv(own / "labels.csv")
    assert "drawn by image (40 train, 5 valid, 5 test)" in said(read_faces, own)[1][0]


def test_recipes_get_as_many_outputs_as_there_are_attributes(own, labels):
    tiny = Recipe(train_images=None, valid_images=None, test_images=None, size=16, epochs=1, threads=1, device="cpu")
    assert resolve(tiny, read_faces(own)).model_args == {"attributes": 10}
    assert resolve(tiny, labels).model_args == {}  # as before: the ids of runs stay
    assert resolve(replace(tiny, model_args={"attributes": 10}), read_faces(own)).model_args == {"attributes": 10}


# ---- where the images are


def upper(root):
    for path in sorted(root.glob("*.jpg"))[:10]:
        path.rename(path.with_suffix(".JPG"))


def below(root):
    for i, path in enumerate(sorted(root.glob("*.jpg"))):
        (root / f"part{i % 2}").mkdir(exist_ok=True)
        path.rename(root / f"part{i % 2}" / path.name)


def zipped(root):
    with zipfile.ZipFile(root / "faces.zip", "w") as archive:
        for path in sorted(root.glob("*.jpg")):
            archive.write(path, f"faces/{path.name}")
            path.unlink()


def write(change):
    return lambda root: change(table(root)).to_csv(root / "labels.csv")


PLACES = {
    "some .JPG": upper,
    "subfolders": below,
    "an archive": zipped,
    "names without .jpg": write(lambda f: f.rename(index=lambda name: name[:-4])),
    "names with the folder": write(lambda f: f.rename(index=lambda name: f"faces/{name}")),
    "names of Windows": write(lambda f: f.rename(index=lambda name: f"faces\\{name}")),
    "PNG": lambda root: [path.rename(path.with_suffix(".png")) for path in root.glob("*.jpg")],
    "a link to the folder": lambda root: (shutil.copytree(root, root.parent / "there"), [p.unlink() for p in root.glob("*.jpg")],
                                          (root / "faces").symlink_to(root.parent / "there")),
}


@pytest.mark.parametrize("place", PLACES)
def test_images_are_found(place, own):
    wanted = read_faces(own)
    content = [wanted.read(row) for row in range(50)]
    PLACES[place](own)
    got, text = said(read_faces, own)
    assert (got.attributes.to_numpy() == wanted.attributes.to_numpy()).all() and not text
    assert [got.read(row) for row in range(50)] == content


def test_an_image_that_two_files_may_be(own):
    below(own)
    (own / "part1/000001.jpg").write_bytes(b"another")
    assert "'000001.jpg' of the labels may be part0/000001.jpg or part1/000001.jpg" in refused(read_faces, own)


def test_images_and_labels_of_which_only_some_fit(own):
    "Both sides are named: perhaps these are not the labels of these images."
    table(own).rename(index={"000003.jpg": "x.jpg"}).to_csv(own / "labels.csv")
    got, text = said(read_faces, own)
    assert len(got) == 49 and len(text) == 1
    assert "1 of 50 labelled images are missing" in text[0] and "x.jpg is missing, and no label names 000003.jpg" in text[0]


# ---- copies of CelebA


def folders_of_splits(own):
    "train/, valid/ and test/, each with images that are counted from 0."
    for split, some in table(own).groupby("split"):
        (own / split).mkdir()
        for i, name in enumerate(some.index):
            (own / name).rename(own / split / f"{i}.jpg")
    return own


def test_folders_of_splits(own):
    "With a table in each, or one table for all."
    frame, content = table(own), sorted(path.read_bytes() for path in own.glob("*.jpg"))
    names = {name: f"{split}/{i}.jpg" for split, some in frame.groupby("split") for i, name in enumerate(some.index)}
    folders_of_splits(own)
    frame.drop(columns="split").rename(index=names).to_csv(own / "labels.csv")
    one, text = said(read_faces, own)
    assert not text and one.split.value_counts().to_dict() == {"train": 30, "valid": 10, "test": 10}
    (own / "labels.csv").unlink()
    for split, some in frame.groupby("split"):
        some.drop(columns="split").rename(index=lambda name: names[name].split("/")[1]).to_csv(own / split / "labels.csv")
    each, text = said(read_faces, own)
    assert not text and each.fingerprint == one.fingerprint and each.identity.equals(one.identity)
    assert sorted(each.read(row) for row in range(50)) == content


def test_folders_of_splits_that_are_whole_sets(small, tmp_path):
    "Today's trap: of three whole sets, one was read."
    for split in ("train", "valid", "test"):
        as_text(small, tmp_path / "sets" / split)
    message = refused(read_celeba, tmp_path / "sets")
    assert "the folder says test, its label files say test, train, valid" in message


def test_mask_hq(small, tmp_path):
    "CelebAMask-HQ's file: a count, names without a heading for the images, no split."
    source = as_text(small, tmp_path / "source")
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    count, header, *rows = (source / "list_attr_celeba.txt").read_text().splitlines()
    for i, path in enumerate(sorted((source / "img_align_celeba").iterdir())):
        shutil.copy(path, root / "CelebA-HQ-img" / f"{i}.jpg")
    rows = [f"{i}.jpg " + row.split(maxsplit=1)[1] for i, row in enumerate(rows)]
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join([count, f"{header} ", *rows]))
    for read in (read_celeba, read_faces):
        got, text = said(read, root)
        assert tuple(got.attributes) == ATTRIBUTES and len(got) == 50 and len(text) == 1 and "drawn by image" in text[0]


def test_lfwa(small, tmp_path):
    "A table of paths and 0 and 1, names with blanks, people by name."
    root = tmp_path / "lfw"
    people = ["Aaron_Eckhart", "Abba_Eban", "Zico", "Zoe_Ball"]
    rows = []
    for i, path in enumerate(sorted((small / "img_align_celeba").iterdir())):
        person = people[i % 4]
        (root / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / person / f"{person}_{i // 4:04d}.jpg")
        rows.append([f"{person}/{person}_{i // 4:04d}.jpg", person, i % 2, i % 3 // 2])
    pd.DataFrame(rows, columns=["image", "person", "5 o Clock Shadow", "Asian"]).to_csv(root / "labels.csv", index=False)
    got, text = said(read_faces, root)
    assert list(got.attributes) == ["5 o Clock Shadow", "Asian"] and got.identity.nunique() == 4 and "drawn by person" in text[0]


def rewrite(root, change, name=lambda file: file.name):
    for file in sorted((root / "data").glob("*.parquet")):
        columns = change(pq.read_table(file).to_pydict())
        file.unlink()
        pq.write_table(pa.table(columns), file.with_name(name(file)), row_group_size=4)


def others(columns, attributes):
    return {key: value for key, value in columns.items() if key not in ATTRIBUTES} | attributes


PARQUETS = {
    "an extra column": lambda c: c | {"caption": ["a face"] * len(c["image"])},
    "a struct": lambda c: others(c, {"attributes": [dict(zip(ATTRIBUTES, row)) for row in zip(*(c[a] for a in ATTRIBUTES))]}),
    "doubles": lambda c: others(c, {a: [float(value) for value in c[a]] for a in ATTRIBUTES}),
    "lower case": lambda c: others(c, {a.lower(): c[a] for a in ATTRIBUTES}),
    "bytes alone": lambda c: c | {"image": [image["bytes"] for image in c["image"]], "path": [i["path"] for i in c["image"]]},
}


@pytest.mark.parametrize("kind", PARQUETS)
def test_mirrors(kind, small, labels, tmp_path):
    root = as_parquet(small, tmp_path / "set")
    rewrite(root, PARQUETS[kind])
    for read in (read_celeba, read_faces):
        got, text = said(read, root)
        assert got.fingerprint == labels.fingerprint
        assert text == ([f"{root}: 1 column(s) not among CelebA's 40 attributes left out: caption."] if kind == "an extra column"
                        else [])


def test_mirrors_with_one_split(small, tmp_path):
    "train alone: a split is drawn; test alone: it stays what it is."
    root = as_parquet(small, tmp_path / "set")
    for file in (root / "data").glob("[vt]*.parquet"):
        if not file.name.startswith("train"):
            file.unlink()
    got, text = said(read_celeba, root)
    assert len(got) == 30 and len(text) == 1 and "all images are in train, so one was drawn by person" in text[0]
    for file in (root / "data").glob("*.parquet"):
        file.rename(file.with_name(file.name.replace("train", "test")))
    assert set(read_celeba(root).split) == {"test"}


def test_paths_that_begin_anew_in_each_split(small, labels, tmp_path):
    root = as_parquet(small, tmp_path / "set")
    starts = {"train-00000": 0, "train-00001": 11, "valid-00000": 0, "test-00000": 0}
    for file in sorted((root / "data").glob("*.parquet")):
        columns = pq.read_table(file).to_pydict()
        columns["image"] = [{"bytes": image["bytes"], "path": f"{i}.jpg"} for i, image in enumerate(
            columns["image"], starts[file.name[:-len("-of-00001.parquet")]])]
        pq.write_table(pa.table(columns), file)
    got = read_celeba(root)
    assert got.split.value_counts().to_dict() == {"train": 30, "valid": 10, "test": 10} and "test/0.jpg" in got.attributes.index
    assert sorted(got.read(row) for row in range(50)) == sorted(labels.read(row) for row in range(50))


@pytest.mark.parametrize("given", ["datasets--flwrlabs--celeba", "datasets--flwrlabs--celeba/snapshots"])
def test_the_hubs_cache(given, small, labels, tmp_path):
    hub = tmp_path / "datasets--flwrlabs--celeba"
    as_parquet(small, hub / "snapshots" / "abc")
    assert read_celeba(tmp_path / given).fingerprint == labels.fingerprint
    as_parquet(small, hub / "snapshots" / "def")
    assert "2 snapshots (abc, def)" in refused(read_celeba, tmp_path / given)
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("abc")
    assert read_celeba(tmp_path / given).fingerprint == labels.fingerprint


def rename(root, old, new):
    (root / old).rename(root / new)


def replace_text(name, old, new):
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


CSV_COPIES = {
    "semicolons": replace_text("list_attr_celeba.csv", ",", ";"),
    "tabs": replace_text("list_attr_celeba.csv", ",", "\t"),
    "lower case": lambda root: (root / "list_attr_celeba.csv").write_text((root / "list_attr_celeba.csv").read_text().lower()),
    "the separator is said": lambda root: (root / "list_attr_celeba.csv").write_text(
        "sep=,\n" + (root / "list_attr_celeba.csv").read_text()),
    "named .txt": lambda root: (rename(root, "list_attr_celeba.csv", "list_attr_celeba.txt"),
                                rename(root, "list_eval_partition.csv", "list_eval_partition.txt")),
    "images below": lambda root: [(path.parent / "a").mkdir(exist_ok=True) or path.rename(path.parent / "a" / path.name)
                                  for path in sorted((root / "img_align_celeba/img_align_celeba").iterdir())],
    "images by another name": lambda root: rename(root, "img_align_celeba", "img_celeba"),
}


@pytest.mark.parametrize("kind", CSV_COPIES)
def test_copies_of_kaggles(kind, small, labels, tmp_path):
    root = as_csv(small, tmp_path / "set")
    CSV_COPIES[kind](root)
    got = read_celeba(root)
    assert got.attributes.equals(labels.attributes) and got.split.equals(labels.split) and got.read(7) == labels.read(7)


def test_the_authors_labels_with_kaggles_partition(small, labels, tmp_path):
    root, other = as_text(small, tmp_path / "set"), as_csv(small, tmp_path / "other")
    (root / "list_eval_partition.txt").unlink()
    shutil.copy(other / "list_eval_partition.csv", root)
    assert read_celeba(root).fingerprint == labels.fingerprint
    (root / "list_attr_celeba.txt").rename(root / "list_attr_celeba.csv")  # renamed, not converted
    assert read_celeba(root).fingerprint == labels.fingerprint


QUOTA = "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


def encrypt(root):
    path = root / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("000001.jpg", b"secret")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))
    shutil.rmtree(root / "img_align_celeba")


STAND_INS = {
    "a quota page": (lambda r: (r / "list_attr_celeba.txt").write_text(QUOTA), ["list_attr_celeba.txt", "a web page"]),
    "a pointer": (lambda r: (r / "list_attr_celeba.txt").write_text("version https://git-lfs.github.com/spec/v1\n"),
                  ["git lfs pull"]),
    "a page as archive": (lambda r: (shutil.rmtree(r / "img_align_celeba"), (r / "img_align_celeba.zip").write_text(QUOTA)),
                          ["img_align_celeba.zip", "a web page"]),
    "a password": (encrypt, ["img_align_celeba.zip", "password"]),
    "packed": (lambda r: (shutil.rmtree(r / "img_align_celeba"), (r / "img.7z").touch()), ["Unpack img.7z"]),
    "save_to_disk": (lambda r: ([p.unlink() for p in r.glob("*.txt")], (r / "data-00000-of-00001.arrow").touch()),
                     ["data-00000-of-00001.arrow", "parquet"]),
    "another table": (lambda r: ([p.unlink() for p in r.glob("*.txt")], (r / "mine.csv").write_text("image,Hat\n")),
                      ["mine.csv"]),
}


@pytest.mark.parametrize("kind", STAND_INS)
def test_what_stands_in_place_of_a_file(kind, small, tmp_path):
    root = as_text(small, tmp_path / "set")
    change, parts = STAND_INS[kind]
    change(root)
    for read in (read_celeba, read_faces):
        message = refused(read, root)
        assert all(part in message for part in parts) and "\n" not in message, message


# ---- what would pass in silence


def test_two_sets_in_one_folder(small, tmp_path):
    "Trial 6: images at the top, labels/, and a whole set in faces/."
    root = tmp_path / "set"
    as_text(small, root / "faces")
    for path in (small / "img_align_celeba").iterdir():
        shutil.copy(path, root)
    assert "images are there, such as" in refused(read_celeba, root)
    as_text(small, root / "labels")
    assert "list_attr_celeba.txt is there twice, in faces and labels" in refused(read_celeba, root)
    for path in root.glob("*.jpg"):
        path.unlink()
    shutil.rmtree(root / "labels")
    assert len(read_celeba(root)) == 50
    shutil.copy(small / "list_attr_celeba.txt", root)  # labels of root with the images of faces
    assert "list_attr_celeba.txt is there twice" in refused(read_celeba, root)
    for name in ("list_eval_partition.txt", "identity_CelebA.txt"):
        shutil.copy(small / name, root)
    shutil.copytree(small / "img_align_celeba", root / "img_align_celeba")
    assert len(read_celeba(root)) == 50  # a whole set in root


@pytest.mark.parametrize("way", ["written", "moved"])
def test_an_image_that_changes_while_others_are_decoded(way, own, tmp_path, monkeypatch):
    "It is replaced, decoded, and put back: what was decoded is not kept."
    some, path = read_faces(own), own / "000007.jpg"
    good, first = path.read_bytes(), images._decode_rows
    some.fingerprint  # noqa: B018

    def decode(labels, size, rows):
        if 6 not in rows:  # another thread's
            return first(labels, size, rows)
        path.rename(tmp_path / "kept") if way == "moved" else None
        path.write_bytes((own / "000008.jpg").read_bytes())
        found = first(labels, size, rows)
        path.write_bytes(good) if way == "written" else (tmp_path / "kept").rename(path)
        return found

    monkeypatch.setattr(images, "_decode_rows", decode)
    message = refused(ImageCache, some, 16, None, tmp_path / "cache", False)
    assert "1 image(s) changed while they were read, such as 000007.jpg" in message
    assert not list((tmp_path / "cache").rglob("*.images"))
    monkeypatch.undo()
    assert len(ImageCache(read_faces(own), 16, folder=tmp_path / "cache", progress=False)) == 50


def test_a_file_that_changes_between_fingerprint_and_decoding(own, tmp_path):
    some = read_faces(own)
    some.fingerprint  # noqa: B018
    os.link(own / "000008.jpg", tmp_path / "link")  # as a backup makes them
    (own / "000007.jpg").chmod(0o400)
    assert len(ImageCache(some, 16, folder=tmp_path / "cache", progress=False)) == 50
    (own / "000009.jpg").write_bytes((own / "000009.jpg").read_bytes())
    assert "000009.jpg" in refused(ImageCache, some, 8, None, tmp_path / "cache", False)


def test_small_images_are_said_once(own, tmp_path):
    for path in sorted(own.glob("*.jpg"))[:3]:
        with Image.open(path) as image:
            small = image.resize((10, 12))
        small.save(path)
    read = lambda: ImageCache(read_faces(own), 16, folder=tmp_path / "cache", progress=False)  # noqa: E731
    text = said(read)[1]
    assert len(text) == 1 and "3 of 50 images are smaller than 16×16, such as 000001.jpg, 10×12" in text[0]
    assert not said(read)[1]


# ---- empty splits


def only(root, *splits):
    frame = table(root)
    frame[frame["split"].isin(splits)].to_csv(root / "labels.csv")
    return read_faces(root)


@pytest.mark.filterwarnings("ignore:.*left out of the mean:UserWarning", "ignore:.*the identities name 2 people:UserWarning")
def test_empty_splits(own, tmp_path):
    tiny = Recipe(train_images=None, valid_images=None, test_images=None, size=16, epochs=1, threads=1, device="cpu")
    whole = table(own)
    run = train(tiny, read_faces(own), progress=False)
    some = only(own, "train")
    assert "no valid images (30 train, 0 valid, 0 test)" in refused(train, tiny, some)
    assert "no test images (30 train, 0 valid, 0 test)" in refused(evaluate, run, some)
    assert "no valid images" in refused(draw_rows, some, "valid")
    whole.to_csv(own / "labels.csv")
    found = evaluate(run, only(own, "test"))
    assert found["images"] == 10 and 0 <= found["majority_accuracy"] <= 1
    done = call("train", "--root", own, "--size", 16, "--out", tmp_path / "x")
    assert done.exit_code == 1 and f"Error: {own}: no train images (0 train, 0 valid, 10 test)" in done.stderr


# ---- bounds: 2 GB of memory and 20 s for whatever is refused


def read_within_bounds(root, folder):
    "In a process of its own: what reading says, its peak of memory in kB, and its seconds."
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + int(3e9), used + int(3e9)))
    before = time.process_time()
    try:
        read_faces(root).fingerprint  # noqa: B018
        said = "read"
    except DataError as error:
        said = f"refused: {error}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (folder / "said.json").write_text(json.dumps([said, peak, time.process_time() - before]))


def bounded(root, figure):
    "What reading says; at most 2 GB, those of PyTorch included, and 20 s."
    process = CONTEXT.Process(target=read_within_bounds, args=(root, root.parent))
    process.start()
    process.join(200)
    process.kill()
    assert process.exitcode == 0, process.exitcode
    said, peak, seconds = json.loads((root.parent / "said.json").read_text())
    assert peak < 2e6 and seconds < 20, f"{peak:,} kB, {seconds:.0f} s"
    figure("hostile label files and archives", 1)
    return said


def hole(path):
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)


@pytest.mark.parametrize("name", ["labels.csv", "000001.jpg", "labels.parquet"])
def test_a_hole_of_three_gigabytes(name, own, figure):
    if name == "labels.parquet":
        (own / "labels.csv").unlink()
    hole(own / name)
    answer = bounded(own, figure)
    assert answer.startswith("refused:") and name in answer, answer


@pytest.mark.parametrize("name", ["labels.csv", "000001.jpg"])
def test_a_pipe(name, own, figure):
    (own / name).unlink()
    os.mkfifo(own / name)
    answer = bounded(own, figure)
    assert "not a regular file" in answer or answer.startswith("read"), answer


def test_parquet_with_numbers_and_bad_text(own, tmp_path):
    "Names may be numbers; a text that isn't UTF-8 is refused."
    frame = table(own).reset_index()
    (own / "labels.csv").unlink()
    frame.assign(image=range(50)).to_parquet(own / "labels.parquet")
    for i, path in enumerate(sorted(own.glob("*.jpg"))):
        path.rename(own / f"{i}.jpg")
    assert len(read_faces(own)) == 50
    bad = pa.Array.from_buffers(pa.string(), 50, [None, pa.py_buffer(np.arange(51, dtype=np.int32)), pa.py_buffer(b"\x8d" * 50)])
    pq.write_table(pa.table({"image": bad, "Hat": [True] * 50}), own / "labels.parquet")
    assert "labels.parquet: can't be read" in refused(read_faces, own)


def parquet_of(root, image, rows):
    "A file in which one value is an image's bytes for all rows; made without much memory, and small."
    root.mkdir()
    pixels = pa.StructArray.from_arrays([pa.array([image], pa.binary()), pa.nulls(1, pa.string())], ["bytes", "path"])
    piece = pa.table({"image": pixels, "Hat": [True]})
    pq.write_table(pa.concat_tables([piece] * rows), root / "train.parquet", compression="zstd")
    assert (root / "train.parquet").stat().st_size < 2_000_000
    return root


def test_parquet_that_unfolds(tmp_path, figure):
    "Large images; images that are stored once and repeated; too many rows; more than CelebA has."
    assert "unfolds to more than" in bounded(parquet_of(tmp_path / "large", bytes(10_000_000), 41), figure)
    assert "unfolds to more than" in bounded(parquet_of(tmp_path / "repeated", bytes(900_000), 460), figure)
    for rows, answer in ((1_500_000, "1,500,000 images, more than the 1,000,000"), (210_000, "read")):
        null = pa.StructArray.from_arrays([pa.nulls(rows, pa.binary()), pa.nulls(rows, pa.string())], ["bytes", "path"])
        (tmp_path / str(rows)).mkdir()
        pq.write_table(pa.table({"image": null, "Hat": pa.array(np.ones(rows, bool))}), tmp_path / str(rows) / "train.parquet")
        assert answer in bounded(tmp_path / str(rows), figure)


@pytest.mark.parametrize("size, large", [(46 + 6, True), (300, True), (46 + 6, False)])
def test_a_zip_with_millions_of_members(size, large, own, monkeypatch):
    "Its directory is counted before an object is made of each; without objects, so are long names."
    monkeypatch.setattr(sources, "MOST_IMAGES", 1000)
    member = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 6, size - 52, 0, 0, 0, 0, 0)
    directory = b"".join(member + b"%06d" % i + bytes(size - 52) for i in range(1001))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1001, 1001, len(directory), 0, 0)
    if large:  # as archives with more than 65,535 members have it
        end = (struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 7, 7, len(directory), 0)
               + struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
               + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[65535] * 2, *[2**32 - 1] * 2, 0))
    path = own / "img_align_celeba.zip"
    path.write_bytes(directory + end)
    monkeypatch.setattr(zipfile, "ZipFile", lambda path: pytest.fail("an object is made of each member"))
    assert re.search("img_align_celeba.zip: 1,[05]01 images, more than the 1,000", refused(sources.Zip, path))


def test_no_traceback_for_a_home_that_is_not_there(monkeypatch):
    monkeypatch.delenv("CELEBA_ROOT", raising=False)  # where it is set, it is the folder of the images
    assert "no home folder for ~" in refused(read_faces, "~nobody-has-this-name/x")
    assert "no home folder for ~" in refused(read_faces, ".", "~nobody-has-this-name/labels.csv")
    assert "no home folder for ~" in refused(console.find_data, None, Path("~nobody-has-this-name/labels.csv"))


def test_data_errors_only(own):
    "A source is asked about a file that has gone."
    some = read_faces(own)
    (own / "000004.jpg").unlink()
    with pytest.raises(DataError, match="000004.jpg|own"):
        some.fingerprint  # noqa: B018
    assert sources.MOST_IMAGES >= 202_599
