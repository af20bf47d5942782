"""Reading CelebA: four layouts, flawed files, broken images, interrupted and concurrent builds, batches."""
import http.server
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from layouts import LAYOUTS, SPLITS, as_csv, as_parquet, as_text, as_zip, parquet_columns, table
from PIL import Image

from celeba_nb import data
from celeba_nb.augment import random_flip
from celeba_nb.core import ATTRIBUTES, DataError
from celeba_nb.data import Batches, download_celeba, draw_rows, find_root
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache, decode, denormalize, normalize
from celeba_nb.sketch import make_sketch


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "Fifty sketch faces in the text layout; never changed."
    return make_sketch(tmp_path_factory.mktemp("small") / "celeba", train=30, valid=10, test=10, progress=False)


@pytest.fixture(scope="module")
def labels(small):
    return read_celeba(small)


@pytest.fixture(scope="module")
def cache(labels, tmp_path_factory):
    return ImageCache(labels, 16, folder=tmp_path_factory.mktemp("cache"), progress=False)


def refused(call, *args):
    "The message of the DataError that this call must end in."
    with pytest.raises(DataError) as caught:
        call(*args)
    return str(caught.value)


# ---- the four layouts


@pytest.mark.parametrize("memory_format", LAYOUTS)
def test_layout(layout, small, labels, tmp_path):
    "The same set, however it is wrapped: labels, fingerprint, bytes, pixels."
    other = read_celeba(LAYOUTS[layout](small, tmp_path / "set"))
    truth = table(small / "list_attr_celeba.txt")[2:]
    assert list(other.attributes.index) == sorted(row[0] for row in truth)
    assert other.attributes.to_numpy().tolist() == [[value == "1" for value in row[1:]] for row in truth]
    assert tuple(other.attributes.columns) == ATTRIBUTES and set(other.attributes.dtypes) == {np.dtype(bool)}
    assert list(other.split) == [SPLITS[int(number)] for _, number in table(small / "list_eval_partition.txt")]
    if layout == "csv":
        assert other.identity is None
    else:
        assert list(other.identity) == [int(person) for _, person in table(small / "identity_CelebA.txt")]
    assert other.fingerprint == labels.fingerprint
    assert [other.read(row) for row in range(50)] == [labels.read(row) for row in range(50)]
    ours = ImageCache(labels, 32, folder=tmp_path / "ours", progress=False)
    theirs = ImageCache(other, 32, folder=tmp_path / "theirs", progress=False)
    assert np.array_equal(ours.images, theirs.images) and ours.path.name == theirs.path.name


@pytest.mark.parametrize("memory_format", LAYOUTS)
def test_labels_travel(layout, small, tmp_path):
    "Labels can be sent to another process, which opens archives and files itself."
    some = read_celeba(LAYOUTS[layout](small, tmp_path / "set"))
    some.read(0)
    again = pickle.loads(pickle.dumps(some))
    assert again.read(49) == some.read(49) and again.fingerprint == some.fingerprint


def move(root, *moves):
    for old, new in moves:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    return root


def edit(root, name, change, encoding="utf-8"):
    (root / name).write_bytes(change((root / name).read_bytes().decode(encoding)).encode(encoding))
    return root


def shuffle_columns(text):
    "The attributes in another order, with 0 for no."
    count, *lines = text.splitlines()
    rows = [line.split() for line in lines]
    turned = [" ".join(rows[0][::-1])] + [" ".join([row[0], *row[:0:-1]]) for row in rows[1:]]
    return "\n".join([count, *(line.replace("-1", "0") for line in turned)])


TEXT_FILES = ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt")
VARIANTS = {
    "CRLF": lambda root: [edit(root, f, lambda t: t.replace("\n", "\r\n")) for f in TEXT_FILES],
    "BOM": lambda root: [edit(root, f, lambda t: "\ufeff" + t) for f in TEXT_FILES],
    "blank lines": lambda root: [edit(root, f, lambda t: "\n" + t.replace("\n", "\n \n\n")) for f in TEXT_FILES],
    "no newline at the end": lambda root: [edit(root, f, str.rstrip) for f in TEXT_FILES],
    "other column order, 0 for no": lambda root: edit(root, TEXT_FILES[0], shuffle_columns),
    "partition in another order": lambda root: edit(root, TEXT_FILES[1], lambda t: "\n".join(t.splitlines()[::-1])),
    "attributes in another order": lambda root: edit(
        root, TEXT_FILES[0], lambda t: "\n".join(t.splitlines()[:2] + t.splitlines()[:1:-1])),
    "the authors' folders": lambda root: move(
        root, (TEXT_FILES[0], f"Anno/{TEXT_FILES[0]}"), (TEXT_FILES[2], f"Anno/{TEXT_FILES[2]}"),
        (TEXT_FILES[1], f"Eval/{TEXT_FILES[1]}"), ("img_align_celeba", "Img/img_align_celeba")),
    "torchvision's folder": lambda root: move(root, *((f, f"celeba/{f}") for f in (*TEXT_FILES, "img_align_celeba"))),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant, small, labels, tmp_path):
    "What differs only in form is read all the same."
    root = as_text(small, tmp_path / "set")
    VARIANTS[variant](root)
    other = read_celeba(root)
    assert other.fingerprint == labels.fingerprint and other.identity.equals(labels.identity)


@pytest.mark.parametrize("inside", ["img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_image_folder_given(inside, small, labels, tmp_path, monkeypatch):
    "The folder of images stands for the one above, given whole or relative."
    root = as_csv(small, tmp_path / "set")
    assert read_celeba(root / inside).fingerprint == labels.fingerprint
    monkeypatch.chdir(root / inside)
    assert read_celeba(".").fingerprint == labels.fingerprint
    assert read_celeba(str(root)).fingerprint == labels.fingerprint


def rewrite_parquet(root, change):
    "All parquet files of root after `change`, which gets the columns as a dict and the file."
    for file in sorted((root / "data").glob("*.parquet")):
        pq.write_table(pa.table(change(pq.read_table(file).to_pydict())), file, row_group_size=4)


def by_folder(root):
    for file in sorted((root / "data").iterdir()):
        move(root, (f"data/{file.name}", f"{file.name.split('-')[0]}/{file.name[-22:]}"))


ONE = "00000-of-00001.parquet"
PARQUET_VARIANTS = {
    "validation": lambda root: move(root, (f"data/valid-{ONE}", f"data/validation-{ONE}")),
    "split in the folder's name": by_folder,
    "whole numbers": lambda root: rewrite_parquet(root, lambda c: {
        k: [int(x) for x in v] if k in ATTRIBUTES else v for k, v in c.items()}),
    "-1 and 1": lambda root: rewrite_parquet(root, lambda c: {
        k: [2 * int(x) - 1 for x in v] if k in ATTRIBUTES else v for k, v in c.items()}),
}


@pytest.mark.parametrize("variant", PARQUET_VARIANTS)
def test_parquet_variant(variant, small, labels, tmp_path):
    root = as_parquet(small, tmp_path / "set")
    PARQUET_VARIANTS[variant](root)
    assert read_celeba(root).fingerprint == labels.fingerprint


def test_parquet_without_paths_or_identities(small, labels, tmp_path):
    "Names are made up where there are none; all else is as before."
    root = as_parquet(small, tmp_path / "set")
    rewrite_parquet(root, lambda c: {"image": [{"bytes": i["bytes"], "path": None} for i in c["image"]],
                                     **{a: c[a] for a in ATTRIBUTES}})
    some = read_celeba(root)
    assert some.identity is None and len(set(some.attributes.index)) == 50
    assert {some.read(row) for row in range(50)} == {labels.read(row) for row in range(50)}


def test_parquet_is_read_lazily(small, tmp_path, monkeypatch):
    "Reading labels reads no image; reading in order reads each row group once."
    groups = []
    monkeypatch.setattr(data, "_read_group", lambda *place, read=data._read_group: groups.append(place) or read(*place))
    some = read_celeba(as_parquet(small, tmp_path / "set"))
    assert not groups
    [some.read(row) for row in range(50)]
    assert len(groups) == len(set(groups)) == 3 + 5 + 3 + 3  # 11, 19, 10, 10 images, 4 to a group


# ---- flawed files: one error each, which names file, line and what to do

ATTR, PART, IDS = TEXT_FILES


def line(number, change):
    "Changes one line (from 1) of a text."
    def changed(text):
        lines = text.splitlines()
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(x for x in lines if x is not None) + "\n"
    return changed


BAD_TEXT = {
    "no attribute file": (lambda r: (r / ATTR).unlink(), ["no list_attr_celeba.txt", "download_celeba"]),
    "no partition file": (lambda r: (r / PART).unlink(), ["list_eval_partition.txt is missing"]),
    "no images": (lambda r: move(r, ("img_align_celeba", "../elsewhere")), ["neither img_align_celeba/ nor"]),
    "empty image folder": (lambda r: [f.unlink() for f in (r / "img_align_celeba").iterdir()], ["is empty"]),
    "other images": (lambda r: [f.rename(f.with_suffix(".jpeg")) for f in (r / "img_align_celeba").iterdir()],
                     ["none of the 50 labelled images"]),
    "empty attribute file": (lambda r: (r / ATTR).write_text(""), [ATTR, "line 1", "number of images"]),
    "count is a word": (lambda r: edit(r, ATTR, line(1, lambda t: "fifty")), [ATTR, "line 1", "number of images"]),
    "no count": (lambda r: edit(r, ATTR, line(1, lambda t: None)), [ATTR, "line 1", "number of images"]),
    "count too high": (lambda r: edit(r, ATTR, line(1, lambda t: "51")),
        [ATTR, "line 1", "51 images promised, 50 follow"]),
    "cut off": (lambda r: edit(r, ATTR, lambda t: "\n".join(t.splitlines()[:20])), ["50 images promised, 18 follow"]),
    "cut off in a line": (lambda r: edit(r, ATTR, lambda t: t[:-20]),
        [ATTR, "line 52", "values after the name, not 40"]),
    "header only": (lambda r: edit(r, ATTR, lambda t: "\n".join(t.splitlines()[:2])), [ATTR, "no line names an image"]),
    "column missing": (lambda r: edit(r, ATTR, line(2, lambda t: t.replace(" Bald ", " "))),
        [ATTR, "line 2", "missing: Bald"]),
    "column unknown": (lambda r: edit(r, ATTR, line(2, lambda t: t + " Happy")), [ATTR, "line 2", "unknown: Happy"]),
    "column twice": (lambda r: edit(r, ATTR, line(2, lambda t: t.replace("Bald", "Male"))),
        ["missing: Bald", "twice: Male"]),
    "value 7": (lambda r: edit(r, ATTR, line(9, lambda t: t.replace(" -1", " 7", 1))), [ATTR, "line 9", "'7'"]),
    "last value 7": (lambda r: edit(r, ATTR, line(9, lambda t: t.rsplit(None, 1)[0] + " 7")), [ATTR, "line 9", "'7'"]),
    "value missing": (lambda r: edit(r, ATTR, line(9, lambda t: t.rsplit(None, 1)[0])), [ATTR, "line 9", "39 values"]),
    "value too many": (lambda r: edit(r, ATTR, line(9, lambda t: t + " 1")), [ATTR, "line 9", "41 values"]),
    "name twice": (lambda r: edit(r, ATTR, line(9, lambda t: "000003" + t[6:])),
        [ATTR, "line 9", "again, after line 5"]),
    "name twice in the partition": (lambda r: edit(r, PART, line(9, lambda t: "000003.jpg 0")),
        [PART, "line 9", "line 3"]),
    "name leads out": (lambda r: edit(r, ATTR, line(9, lambda t: "../" + t)), [ATTR, "line 9", "plain file name"]),
    "name with a backslash": (lambda r: edit(r, ATTR, line(9, lambda t: "a\\" + t)),
        [ATTR, "line 9", "plain file name"]),
    "unknown split": (lambda r: edit(r, PART, line(4, lambda t: t[:-1] + "3")), [PART, "line 4", "'3'", "0, 1 or 2"]),
    "no split": (lambda r: edit(r, PART, line(4, lambda t: t[:-1])), [PART, "line 4", "0 values"]),
    "empty partition": (lambda r: (r / PART).write_text(""), [PART, "no line names an image"]),
    "partition lacks an image": (lambda r: edit(r, PART, line(4, lambda t: None)),
        [PART, "doesn't name 1 image(s)", "000004.jpg"]),
    "partition lacks five": (lambda r: edit(r, PART, lambda t: "\n".join(t.splitlines()[5:])),
        [PART, "doesn't name 5 image(s) (000001.jpg, 000002.jpg, 000003.jpg, …)"]),
    "partition has one more": (lambda r: edit(r, PART, lambda t: t + "x.jpg 0\n"),
        [PART, "beyond the attribute file", "x.jpg"]),
    "identity is a word": (lambda r: edit(r, IDS, line(5, lambda t: "000005.jpg Ann")), [IDS, "line 5", "'Ann'"]),
    "identities lack an image": (lambda r: edit(r, IDS, line(5, lambda t: None)), [IDS, "000005.jpg"]),
    "not text": (lambda r: (r / ATTR).write_bytes(b"50\n\xff\xfe\x00"), [ATTR, "not a table of text"]),
}


@pytest.mark.parametrize("flaw", BAD_TEXT)
def test_bad_text(flaw, small, tmp_path):
    root = as_text(small, tmp_path / "set")
    spoil, parts = BAD_TEXT[flaw]
    spoil(root)
    message = refused(read_celeba, root)
    assert all(part in message for part in parts) and "\n" not in message, message


BAD_CSV = {
    "value 2": ("list_attr_celeba.csv", line(9, lambda t: t.replace(",-1", ",2", 1)), ["line 9", "'2'"]),
    "column missing": ("list_attr_celeba.csv", line(1, lambda t: t.replace(",Bald", "")), ["line 1", "missing: Bald"]),
    "name twice": ("list_attr_celeba.csv", line(9, lambda t: "000002" + t[6:]), ["line 9", "line 3"]),
    "unknown split": ("list_eval_partition.csv", line(9, lambda t: t[:-1] + "train"), ["line 9", "'train'"]),
    "empty": ("list_attr_celeba.csv", lambda t: "", ["line 1", "missing: 5_o_Clock_Shadow"]),
    "a quote never closed": ("list_attr_celeba.csv", line(9, lambda t: '"' + t), ["line"]),
}


@pytest.mark.parametrize("flaw", BAD_CSV)
def test_bad_csv(flaw, small, tmp_path):
    root = as_csv(small, tmp_path / "set")
    name, change, parts = BAD_CSV[flaw]
    edit(root, name, change)
    message = refused(read_celeba, root)
    assert name in message and all(part in message for part in parts), message


def without(column):
    return lambda c: {k: v for k, v in c.items() if k != column}


BAD_PARQUET = {
    "no image": (lambda r: rewrite_parquet(r, without("image")), ["image with its bytes"]),
    "column missing": (lambda r: rewrite_parquet(r, without("Bald")), ["missing: Bald"]),
    "column unknown": (lambda r: rewrite_parquet(r, lambda c: {**c, "Happy": c["Bald"]}), ["unknown: Happy"]),
    "empty value": (lambda r: rewrite_parquet(r, lambda c: {**c, "Bald": [None, *c["Bald"][1:]]}),
        ["row 0", "Bald is None"]),
    "value 7": (lambda r: rewrite_parquet(r, lambda c: {**c, "Bald": [0, 0, 7, *[0] * (len(c["Bald"]) - 3)]}),
        ["row 2", "is 7"]),
    "name leads out": (lambda r: rewrite_parquet(r, lambda c: {
        **c, "image": [{**i, "path": "../" + i["path"]} for i in c["image"]]}), ["plain file name"]),
    "unknown split": (lambda r: move(r, (f"data/test-{ONE}", "data/extra.parquet")), ["extra.parquet", "begin"]),
    "the same twice": (lambda r: (r / "data/test-1.parquet").write_bytes((r / f"data/test-{ONE}").read_bytes()),
                       ["10 image(s) are there twice"]),
    "cut off": (lambda r: (r / f"data/test-{ONE}").write_bytes(b"PAR1 and no more"), ["not a readable parquet"]),
}


@pytest.mark.parametrize("flaw", BAD_PARQUET)
def test_bad_parquet(flaw, small, tmp_path):
    root = as_parquet(small, tmp_path / "set")
    spoil, parts = BAD_PARQUET[flaw]
    spoil(root)
    message = refused(read_celeba, root)
    assert all(part in message for part in ["data", *parts] if part != "data" or flaw != "the same twice"), message


def zip_of(root, *members):
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for member in members:
            archive.writestr(member, b"\xff\xd8")


BAD_ZIP = {
    "cut off": (lambda r: (r / "img_align_celeba.zip").write_bytes(b"PK\x03\x04 and no more"), ["can't be read"]),
    "leads out": (lambda r: zip_of(r, "img_align_celeba/../../000001.jpg"), ["'..'", "plain file name"]),
    "absolute": (lambda r: zip_of(r, "/etc/000001.jpg"), ["plain file name"]),
    "backslash": (lambda r: zip_of(r, "a\\..\\000001.jpg"), ["plain file name"]),
    "twice": (lambda r: zip_of(r, "a/000001.jpg", "b/000001.jpg"), ["two members are called 000001.jpg"]),
}


@pytest.mark.parametrize("flaw", BAD_ZIP)
def test_bad_zip(flaw, small, tmp_path):
    root = as_zip(small, tmp_path / "set")
    spoil, parts = BAD_ZIP[flaw]
    spoil(root)
    message = refused(read_celeba, root)
    assert all(part in message for part in ["img_align_celeba.zip", *parts]), message


def test_bad_root(small, tmp_path):
    assert "no such folder" in refused(read_celeba, tmp_path / "nowhere")
    assert "Give the folder that it lies in" in refused(read_celeba, small / ATTR)
    assert "no list_attr_celeba.txt" in refused(read_celeba, tmp_path)


# ---- images


def encoded(picture, format="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


ODD = {
    "grey": lambda p: encoded(p.convert("L")),
    "CMYK": lambda p: encoded(p.convert("CMYK")),
    "progressive": lambda p: encoded(p, progressive=True),
    "PNG": lambda p: encoded(p, "PNG"),
    "PNG with alpha": lambda p: encoded(p.convert("RGBA"), "PNG"),
    "PNG with a palette": lambda p: encoded(p.convert("P"), "PNG"),
    "WebP": lambda p: encoded(p, "WEBP"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_image(kind, labels):
    "What isn't a plain JPEG is decoded as Pillow would."
    blob = ODD[kind](Image.open(io.BytesIO(labels.read(0))))
    pillows = np.asarray(Image.open(io.BytesIO(blob)).convert("RGB").resize((32, 32), Image.BILINEAR)).astype(int)
    assert np.abs(decode(blob, 32).permute(1, 2, 0).numpy() - pillows).max() <= 1


BROKEN = {"empty": lambda b: b"", "truncated": lambda b: b[: len(b) // 2], "last bytes missing": lambda b: b[:-2],
          "text": lambda b: b"<html></html>", "only its start": lambda b: b[:2]}


@pytest.mark.parametrize("memory_format", LAYOUTS)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_image(kind, layout, small, tmp_path):
    "A broken image is named, whatever it lies in, and no file is left."
    root = as_text(small, tmp_path / "text")
    path = root / "img_align_celeba" / "000004.jpg"
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    some = read_celeba(LAYOUTS[layout](root, tmp_path / "set"))
    message = refused(ImageCache, some, 16, None, tmp_path / "cache", False)
    assert "1 image(s) can't be decoded: 000004.jpg" in message and "delete them" in message
    assert not [f for f in (tmp_path / "cache").iterdir() if f.suffix != ".lock"]


def test_many_broken_images(small, tmp_path):
    "All are counted, ten are named."
    root = as_text(small, tmp_path / "set")
    for i in range(1, 13):
        (root / "img_align_celeba" / f"{i:06d}.jpg").write_bytes(b"")
    message = refused(ImageCache, read_celeba(root), 16, None, tmp_path / "cache", False)
    assert "12 image(s)" in message and "000010.jpg" in message and "000011.jpg" not in message and "…" in message


def test_damaged_member_of_a_zip(small, tmp_path):
    "The archive's own checksum notices what a decoder might not."
    root = as_zip(small, tmp_path / "set")
    archive = bytearray((root / "img_align_celeba.zip").read_bytes())
    at = archive.index((small / "img_align_celeba" / "000004.jpg").read_bytes()) + 3000
    archive[at] ^= 255
    (root / "img_align_celeba.zip").write_bytes(archive)
    message = refused(ImageCache, read_celeba(root), 16, None, tmp_path / "cache", False)
    assert "img_align_celeba.zip, member 000004.jpg: can't be read (Bad CRC-32" in message


def test_damaged_row_group(small, tmp_path):
    "So does parquet's reader, where it can."
    root = as_parquet(small, tmp_path / "set")
    some, file = read_celeba(root), root / "data" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert "test-00000-of-00001.parquet, row group 0" in refused(some.read, 40)


@pytest.mark.parametrize("kind", [None, "grey", "CMYK", "progressive"])
def test_without_torchvisions_decoder(kind, labels, monkeypatch):
    "The same pixels by Pillow, should torchvision drop its decoder."
    blob = labels.read(0) if kind is None else ODD[kind](Image.open(io.BytesIO(labels.read(0))))
    fast = decode(blob, 128)
    monkeypatch.setattr(data, "FAST", False)
    assert torch.equal(decode(blob, 128), fast)


@pytest.mark.parametrize("memory_format", ["text", "zip", "csv"])
def test_sample(layout, small, labels, tmp_path):
    "Labels of absent images are dropped, and it is said once, in one line."
    root = as_text(small, tmp_path / "text")
    for i in range(1, 21):
        (root / "img_align_celeba" / f"{i:06d}.jpg").unlink()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        some = read_celeba(LAYOUTS[layout](root, tmp_path / "set"))
    assert [str(w.message) for w in said] == ["20 of 50 labelled images are absent: 30 stay."]
    assert some.fingerprint == labels.take(np.arange(20, 50)).fingerprint
    assert len(some) == len(some.split) == 30 and some.read(0) == labels.read(20)


# ---- labels


def test_labels(labels):
    assert [len(labels.rows(split)) for split in SPLITS] == [30, 10, 10]
    assert labels.rows("valid").dtype == np.int64 and labels.rows("valid").tolist() == list(range(30, 40))
    assert "tset" in refused(labels.rows, "tset")
    part = labels.take(np.array([40, 2]))
    assert len(part) == 2 and part.read(0) == labels.read(40) and list(part.split) == ["test", "train"]
    assert list(part.identity) == [labels.identity.iloc[40], labels.identity.iloc[2]]


def test_fingerprint(small, labels, tmp_path):
    "Any change of names, labels, split or images shows; identities are no part of it."
    changes = {
        "label": lambda r: edit(r, ATTR, line(9, lambda t: t.replace(" -1", " 1", 1))),
        "split": lambda r: edit(r, PART, line(4, lambda t: t[:-1] + "1")),
        "image": lambda r: (r / "img_align_celeba/000009.jpg").write_bytes(labels.read(9)),
        "a byte of an image": lambda r: (r / "img_align_celeba/000009.jpg").write_bytes(labels.read(8)[:-1] + b"?"),
    }
    prints = {labels.fingerprint}
    for name, change in changes.items():
        root = as_text(small, tmp_path / name)
        change(root)
        prints.add(read_celeba(root).fingerprint)
    assert len(prints) == 5 and all(len(p) == 32 for p in prints)
    assert labels.take(np.arange(49)).fingerprint not in prints
    assert labels.take(np.arange(50)[::-1]).fingerprint not in prints


# ---- the cache of decoded images


def test_cache(labels, cache):
    x = cache[np.array([7, 3, 7])]
    assert x.shape == (3, 3, 16, 16) and x.dtype == torch.uint8 and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[0], decode(labels.read(7), 16)) and torch.equal(x[1], decode(labels.read(3), 16))
    x.zero_()  # a copy: the file stays as it was
    assert cache[[7]].any() and not cache.images.flags.writeable
    assert len(cache) == 50 and cache.labels is labels and cache.size == 16
    assert torch.equal(pickle.loads(pickle.dumps(cache))[[5]], cache[[5]])


def test_cache_of_some_rows(labels, tmp_path):
    some = ImageCache(labels, 16, rows=[9, 4, 4, 30], folder=tmp_path, progress=False)
    assert len(some) == 3
    assert torch.equal(some[[30, 9]], torch.stack([decode(labels.read(row), 16) for row in (30, 9)]))
    for wrong in (5, -1, 50, -50):
        assert str([wrong]) in refused(some.__getitem__, [4, wrong])


def test_cache_is_found_again(labels, tmp_path, monkeypatch):
    "A second object decodes nothing; another size, other rows or other images do."
    make = partial(ImageCache, folder=tmp_path, progress=False)
    first = make(labels, 16)
    monkeypatch.setattr(data, "_decode_into", lambda *args: pytest.fail("decoded again"))
    assert make(labels, 16).path == first.path == make(labels, 16, rows=np.arange(50)).path
    monkeypatch.undo()
    others = {make(labels, 17).path, *(make(labels, 16, rows=rows).path for rows in (range(49), range(1, 50)))}
    assert len(others) == 3 and first.path not in others


def test_cache_that_was_cut_is_made_again(labels, tmp_path):
    first = ImageCache(labels, 16, folder=tmp_path, progress=False)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-1])
    assert ImageCache(labels, 16, folder=tmp_path, progress=False).path.read_bytes() == whole
    first.path.with_suffix(".json").unlink()
    assert ImageCache(labels, 16, folder=tmp_path, progress=False).path.read_bytes() == whole


def test_index_is_written_last(labels, tmp_path, monkeypatch):
    "Stopped between the two renamings: no index, so the file doesn't count."
    calls = []
    def stop(old, new, rename=os.replace):
        calls.append(new)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(old, new)
    monkeypatch.setattr(data.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        ImageCache(labels, 16, folder=tmp_path, progress=False)
    monkeypatch.undo()
    assert [path.suffix for path in calls] == [".uint8", ".json"] and not list(tmp_path.glob("*.json"))
    assert not list(tmp_path.glob("*.tmp"))
    assert len(ImageCache(labels, 16, folder=tmp_path, progress=False)) == 50


def test_decoding_gives_torch_its_threads_back(labels, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        ImageCache(labels, 16, folder=tmp_path, progress=False)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


BUILD = """
import signal, sys, time
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends it also where its parent doesn't mind Ctrl-C
from celeba_nb import data
root, folder, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
decode = data.decode
def slow(*args):
    time.sleep(pause)
    return decode(*args)
data.decode = slow
cache = data.ImageCache(data.read_celeba(root), 16, folder=folder, progress=False)
print(int(np.asarray(cache.images, dtype=np.int64).sum()))
"""


def build(root, folder, pause):
    return subprocess.Popen([sys.executable, "-c", BUILD, str(root), str(folder), str(pause)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_build(end, small, labels, cache, tmp_path):
    "Killed or interrupted in the middle: no file under the final name, and the next build sweeps up."
    process = build(small, tmp_path, 0.2)
    for _ in range(600):
        if list(tmp_path.glob("*.tmp")):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the build never began: " + process.communicate()[1])
    process.send_signal(end)
    process.communicate()
    assert process.returncode != 0 and not list(tmp_path.glob("*.uint8")) and not list(tmp_path.glob("*.json"))
    again = ImageCache(labels, 16, folder=tmp_path, progress=False)
    assert np.array_equal(again.images, cache.images) and not list(tmp_path.glob("*.tmp"))


def test_concurrent_builds(small, cache, tmp_path):
    "Two processes at once: both end with the right images, and no scraps."
    processes = [build(small, tmp_path, 0.02) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in results] == [str(int(cache.images.astype(np.int64).sum()))] * 2, results
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock") == [".json", ".uint8"]


def test_full_disk(labels, tmp_path, monkeypatch):
    "No room: the system's error is passed on, and nothing is left; the next build succeeds."
    def fail(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(data.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        ImageCache(labels, 16, folder=tmp_path, progress=False)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    monkeypatch.undo()
    assert len(ImageCache(labels, 16, folder=tmp_path, progress=False)) == 50


MEMORY = """
import re, sys
from pathlib import Path
from celeba_nb import data
def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
labels = data.read_celeba(sys.argv[1])
def use(n):
    cache = data.ImageCache(labels, 128, rows=range(n), folder=sys.argv[2], progress=False)
    sum(len(x) for x, y in data.Batches(cache, range(n), 32))
    return private(), cache.images.nbytes / 2**20
before, _ = use(600)
after, size = use(3000)
print(after - before, size)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc, which only Linux has")
def test_memory(small, tmp_path):
    "Three thousand images need no more private memory than six hundred."
    root = tmp_path / "set"
    (root / "img_align_celeba").mkdir(parents=True)
    _, header, *rows = (small / ATTR).read_text().splitlines()
    names = [f"{i:06d}.jpg" for i in range(3000)]
    for i, name in enumerate(names):
        os.link(small / "img_align_celeba" / f"{i % 50 + 1:06d}.jpg", root / "img_align_celeba" / name)
    lines = [name + rows[i % 50][10:] for i, name in enumerate(names)]
    (root / ATTR).write_text("\n".join(["3000", header, *lines]))
    (root / PART).write_text("\n".join(f"{name} 0" for name in names))
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc then gives back at once what is freed
    command = [sys.executable, "-c", MEMORY, root, tmp_path / "cache"]
    grown, size = map(float, subprocess.check_output(command, env=env).split())
    assert size > 140 and grown < 25, (grown, size)


# ---- batches


def test_normalize():
    every = torch.arange(256, dtype=torch.uint8)
    x = normalize(every)
    assert x.dtype == torch.float32 and x[0] == -1 and x[255] == 1 and torch.allclose(x.diff(), torch.tensor(2 / 255))
    assert torch.equal(denormalize(x), every) and denormalize(torch.tensor([-2.0, 2.0])).tolist() == [0, 255]


def test_random_flip():
    x = torch.rand(1000, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(random_flip(x, None, p=1), x.flip(-1)) and torch.equal(random_flip(x, None, p=0), x)
    assert random_flip(x, None).is_contiguous(memory_format=torch.channels_last)
    seeded = [random_flip(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(seeded[0], seeded[1]) and not torch.equal(seeded[0], seeded[2])
    moved = (seeded[0] != x).flatten(1).any(1)
    assert torch.equal(seeded[0][moved], x[moved].flip(-1)) and 0.45 < moved.float().mean() < 0.55


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def test_batches_in_order(labels, cache):
    rows = np.array([4, 9, 2, 30, 1])
    batches = Batches(cache, rows, 2)
    assert len(batches) == 3 and [len(x) for x, _ in batches] == [2, 2, 1]
    x, y = (torch.cat(parts) for parts in zip(*batches))
    assert torch.equal(x, normalize(cache[rows])) and np.array_equal(y.numpy(), labels.attributes.to_numpy()[rows])
    assert x.dtype == y.dtype == torch.float32
    assert [len(x) for x, _ in Batches(cache, rows, 1)] == [1] * 5
    x, _ = next(iter(Batches(cache, rows, 2, dtype=torch.bfloat16)))
    assert x.dtype == torch.bfloat16 and x.is_contiguous(memory_format=torch.channels_last)
    assert "at least 1" in refused(Batches, cache, rows, 0)


def equal(some, others):
    "Whether two sequences of (x, y) are the same."
    some, others = list(some), list(others)
    return len(some) == len(others) and all(
        torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(some, others))


@pytest.mark.parametrize("start", range(9))
def test_resume(start, cache):
    "An epoch taken up at any batch goes on as if it had never stopped; so does the next epoch."
    whole, resumed = (Batches(cache, range(30), 4, random_flip, generator()) for _ in range(2))
    assert equal(list(whole)[start:], resumed.iterate(start))
    assert equal(whole, resumed)


def test_epochs_and_seeds(cache):
    make = partial(Batches, cache, np.arange(30), 4)
    batches = make(random_flip, generator())
    first, second = list(batches), list(batches)
    assert equal(first, make(random_flip, generator())) and not equal(first, second)
    assert not equal(first, make(random_flip, generator(4)))
    labels_of = [torch.cat([y for _, y in some]) for some in (first, make(None, generator()))]
    assert torch.equal(*labels_of), "the order depends on the augmentation"
    plain = make(None, generator())
    list(plain)
    assert torch.equal(torch.cat([y for _, y in second]), torch.cat([y for _, y in plain])), "so does the next epoch's"


def test_each_batch_has_its_own_chance(cache):
    seen = []
    list(Batches(cache, range(30), 4, lambda x, g: seen.append(g.initial_seed()) or x, generator()))
    assert len(set(seen)) == 8 and seen == list(range(seen[0], seen[0] + 8))


def test_random_streams_are_what_they_were(labels):
    "Finished runs are compared with new ones, so the same seed must go on meaning the same images and order."
    assert draw_rows(labels, "train", 5, seed=8).tolist() == [2, 23, 24, 26, 29]
    order, seed = data._epoch(10, generator())
    assert order.tolist() == [6, 0, 3, 7, 8, 5, 1, 9, 2, 4] and seed == 3450683738566129354


def test_draw_rows(labels):
    draws = [draw_rows(labels, "train", 7, seed) for seed in range(8)]
    assert all(len(set(rows)) == 7 and (np.diff(rows) > 0).all() and set(rows) <= set(range(30)) for rows in draws)
    assert len(set(np.concatenate(draws[:4]))) == len(set(np.concatenate(draws[4:]))) == 28
    assert draws[0].tolist() != draws[4].tolist() and draws[0].dtype == np.int64
    assert draw_rows(labels, "test").tolist() == list(range(40, 50)) == draw_rows(labels, "test", 10, seed=5).tolist()
    assert "there are 10" in refused(draw_rows, labels, "test", 11)
    for wrong in [("test", 0), ("test", 5, -1), ("tset", 5)]:
        refused(draw_rows, labels, *wrong)


# ---- which data


def test_find_root(small, tmp_path, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(tmp_path))
    monkeypatch.setenv("CELEBA_ROOT", str(small))
    assert find_root() == small
    monkeypatch.setenv("CELEBA_ROOT", str(tmp_path / "nowhere"))
    assert "CELEBA_ROOT" in refused(find_root)


def test_sketch_root(tmp_path, monkeypatch, capsys):
    "Drawn once, and anew when the code that draws has changed."
    drawn, folder = [], tmp_path / "not" / "made yet"
    monkeypatch.setenv("CELEBA_NB_CACHE", str(folder))
    monkeypatch.delenv("CELEBA_ROOT", raising=False)
    monkeypatch.setattr(data, "make_sketch", lambda root: drawn.append(root) or root.mkdir())
    first = find_root()
    assert first == find_root() and drawn == [first] and first.name.startswith("sketch-") and first.parent == folder
    assert capsys.readouterr().out.count("sketch faces are drawn") == 1
    (tmp_path / "changed.py").write_text("other code")
    monkeypatch.setattr(data.sketch, "__file__", str(tmp_path / "changed.py"))
    assert find_root() != first and len(drawn) == 2


# ---- fetching it


class Hub(http.server.SimpleHTTPRequestHandler):
    "Plays the hub: lists the files of a split, and serves them; those named in `cut` break off."

    cut = ()

    def do_GET(self):
        split = self.path.rsplit("/", 1)[-1]
        files = sorted(os.listdir(self.directory))
        if "/api/" in self.path:
            base = f"http://{self.headers['Host']}"
            body, length = json.dumps([f"{base}/{f}" for f in files if f.startswith(split)]).encode(), None
        else:
            body = open(os.path.join(self.directory, split), "rb").read()
            length, body = len(body), body[:100] if split in self.cut else body
        self.send_response(200)
        self.send_header("Content-Length", length or len(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(small, tmp_path):
    folder = as_parquet(small, tmp_path / "hub") / "data"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_download(hub, labels, tmp_path, monkeypatch, capsys):
    "The hub's files are fetched once, and read; one that breaks off is not kept."
    monkeypatch.setattr(Hub, "cut", ("test-00000-of-00001.parquet",))
    message = refused(download_celeba, tmp_path / "new", "huggingface", hub, False)
    assert "By hand" in message and str(tmp_path / "new") in message and "img_align_celeba.zip" in message
    assert not list((tmp_path / "new").glob("test*.parquet"))
    monkeypatch.setattr(Hub, "cut", ())
    fetched = (tmp_path / "new" / "train-00000-of-00002.parquet").stat().st_mtime_ns
    assert read_celeba(download_celeba(tmp_path / "new", "huggingface", hub, False)).fingerprint == labels.fingerprint
    assert (tmp_path / "new" / "train-00000-of-00002.parquet").stat().st_mtime_ns == fetched
    download_celeba(tmp_path / "shown", "huggingface", hub)
    assert capsys.readouterr().err.count("(100%)") == 4  # a bar for each file, which knows how much is to come


def test_download_by_torchvision(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "CelebA", lambda root, download: asked.append((root, download)))
    root = tmp_path / "not" / "made yet"
    assert download_celeba(root) == root and root.is_dir() and asked == [(str(root), True)]


def test_download_refused(tmp_path, monkeypatch):
    def quota(*args, **kwargs):
        raise RuntimeError("quota exceeded")
    monkeypatch.setattr(data, "CelebA", quota)
    assert "quota exceeded" in refused(download_celeba, tmp_path)
    assert "By hand" in refused(download_celeba, tmp_path, "huggingface", "http://127.0.0.1:9")
    assert "torchvision, huggingface" in refused(download_celeba, tmp_path, "elsewhere")


def test_parquet_helper_matches(small):
    "The helper above splits as the partition file says."
    assert [len(parquet_columns(small, split)["image"]) for split in SPLITS] == [30, 10, 10]
