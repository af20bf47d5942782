"""Reading CelebA: four layouts, flawed label files and archives, samples, labels."""
import pickle
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from layouts import (
    ATTR,
    IDS,
    LAYOUTS,
    PART,
    SPLITS,
    TEXT_FILES,
    as_csv,
    as_parquet,
    as_text,
    as_zip,
    parquet_columns,
    refused,
    table,
)

from celeba_nb import parquet
from celeba_nb.core import ATTRIBUTES
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache

# ---- the four layouts


@pytest.mark.parametrize("layout", LAYOUTS)
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
    assert torch.equal(ours[ours.rows], theirs[theirs.rows])
    assert len({tuple(sorted(path.name for path in cache.folder.rglob("*"))) for cache in (ours, theirs)}) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
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
    "The attributes in a different order, with 0 for no."
    count, *lines = text.splitlines()
    rows = [line.split() for line in lines]
    turned = [" ".join(rows[0][::-1])] + [" ".join([row[0], *row[:0:-1]]) for row in rows[1:]]
    return "\n".join([count, *(line.replace("-1", "0") for line in turned)])


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


def test_csv_with_quotes_and_blanks(small, labels, tmp_path):
    root = as_csv(small, tmp_path / "set")
    quotes = {",": '" , "', "\r": '"\r', "\n": '\n"'}
    edit(root, "list_eval_partition.csv", lambda t: ('"' + t.translate(str.maketrans(quotes)))[:-1])
    assert (root / "list_eval_partition.csv").read_text().splitlines()[1] == '"000001.jpg" , "0"'
    assert read_celeba(root).fingerprint == labels.fingerprint


@pytest.mark.parametrize("inside", ["img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_image_folder_given(inside, small, labels, tmp_path, monkeypatch):
    "The folder of images means the one above, given as an absolute or relative path."
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
    monkeypatch.setattr(parquet, "_read_group", lambda *place, read=parquet._read_group: groups.append(place) or read(*place))
    some = read_celeba(as_parquet(small, tmp_path / "set"))
    assert not groups
    [some.read(row) for row in range(50)]
    assert len(groups) == len(set(groups)) == 3 + 5 + 3 + 3  # 11, 19, 10, 10 images, 4 to a group


# ---- flawed files: one error each, which names file, line and what to do

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
    "other images": (lambda r: [f.rename(f.with_name(f"x{f.name}")) for f in (r / "img_align_celeba").iterdir()],
                     ["none of the 50 labelled images", "labels say 000001.jpg, the folder has x000001.jpg"]),
    "empty attribute file": (lambda r: (r / ATTR).write_text(""), [ATTR, "line 1", "number of images"]),
    "count is a word": (lambda r: edit(r, ATTR, line(1, lambda t: "fifty")), [ATTR, "line 1", "number of images"]),
    "no count": (lambda r: edit(r, ATTR, line(1, lambda t: None)), [ATTR, "line 1", "number of images"]),
    "count too high": (lambda r: edit(r, ATTR, line(1, lambda t: "51")),
        [ATTR, "line 1", "51 images promised, 50 follow"]),
    "cut off": (lambda r: edit(r, ATTR, lambda t: "\n".join(t.splitlines()[:20])), ["50 images promised, 18 follow"]),
    "cut off in a line": (lambda r: edit(r, ATTR, lambda t: t[:-20]),
        [ATTR, "line 52", "values after the name, not 40"]),
    "header only": (lambda r: edit(r, ATTR, lambda t: "\n".join(t.splitlines()[:2])), [ATTR, "no images are listed"]),
    "column missing": (lambda r: edit(r, ATTR, line(2, lambda t: t.replace(" Bald ", " "))),
        [ATTR, "line 2", "missing: Bald"]),
    "column unknown": (lambda r: edit(r, ATTR, line(2, lambda t: t.replace("Bald", "Happy"))),
        [ATTR, "line 2", "missing: Bald", "unknown: Happy"]),
    "column without values": (lambda r: edit(r, ATTR, line(2, lambda t: t + " Happy")), [ATTR, "line 3", "40 values", "not 41"]),
    "column twice": (lambda r: edit(r, ATTR, line(2, lambda t: t.replace("Bald", "Male"))),
        ["missing: Bald", "repeated: Male"]),
    "value 7": (lambda r: edit(r, ATTR, line(9, lambda t: t.replace(" -1", " 7", 1))), [ATTR, "line 9", "'7'"]),
    "last value 7": (lambda r: edit(r, ATTR, line(9, lambda t: t.rsplit(None, 1)[0] + " 7")), [ATTR, "line 9", "'7'"]),
    "value missing": (lambda r: edit(r, ATTR, line(9, lambda t: t.rsplit(None, 1)[0])), [ATTR, "line 9", "39 values"]),
    "value too many": (lambda r: edit(r, ATTR, line(9, lambda t: t + " 1")), [ATTR, "line 9", "41 values"]),
    "name twice": (lambda r: edit(r, ATTR, line(9, lambda t: "000003" + t[6:])),
        [ATTR, "line 9", "is listed twice, first in line 5"]),
    "name twice in the partition": (lambda r: edit(r, PART, line(9, lambda t: "000003.jpg 0")),
        [PART, "line 9", "line 3"]),
    "name leads out": (lambda r: edit(r, ATTR, line(9, lambda t: "../" + t)), [ATTR, "line 9", "plain file name"]),
    "name with a backslash": (lambda r: edit(r, ATTR, line(9, lambda t: "a\\" + t)),
        [ATTR, "line 9", "plain file name"]),
    "unknown split": (lambda r: edit(r, PART, line(4, lambda t: t[:-1] + "3")), [PART, "line 4", "'3'", "0, 1 or 2"]),
    "no split": (lambda r: edit(r, PART, line(4, lambda t: t[:-1])), [PART, "line 4", "0 values"]),
    "empty partition": (lambda r: (r / PART).write_text(""), [PART, "no images are listed"]),
    "partition lacks an image": (lambda r: edit(r, PART, line(4, lambda t: None)),
        [PART, "doesn't list 1 image(s)", "000004.jpg"]),
    "partition lacks five": (lambda r: edit(r, PART, lambda t: "\n".join(t.splitlines()[5:])),
        [PART, "doesn't list 5 image(s) (000001.jpg, 000002.jpg, 000003.jpg, …)"]),
    "partition has one more": (lambda r: edit(r, PART, lambda t: t + "x.jpg 0\n"),
        [PART, "lists, unlike the attribute file, 1 image", "x.jpg"]),
    "identity is a word": (lambda r: edit(r, IDS, line(5, lambda t: "000005.jpg Ann")), [IDS, "line 5", "'Ann'"]),
    "identities lack an image": (lambda r: edit(r, IDS, line(5, lambda t: None)), [IDS, "000005.jpg"]),
    "not text": (lambda r: (r / ATTR).write_bytes(b"50\n\xff\xfe\x00"), [ATTR, "not a table of text"]),
    "a null character": (lambda r: edit(r, ATTR, line(9, lambda t: "\0" + t)), [ATTR, "not a table of text", "null"]),
    "a folder": (lambda r: [(r / PART).unlink(), (r / PART).mkdir()], [PART, "Is a directory"]),
    "value 01": (lambda r: edit(r, ATTR, line(9, lambda t: t.replace(" -1", " 01", 1))), [ATTR, "line 9", "'01'"]),
    "value 1.0": (lambda r: edit(r, PART, line(9, lambda t: t[:-1] + "1.0")), [PART, "line 9", "'1.0'"]),
    "value NA": (lambda r: edit(r, IDS, line(9, lambda t: "000009.jpg NA")), [IDS, "line 9", "'NA'"]),
    "an identity of 19 digits": (lambda r: edit(r, IDS, line(9, lambda t: "000009.jpg " + "1" * 19)), [IDS, "line 9", "1" * 19]),
    "two flaws, the first is named": (lambda r: edit(edit(r, ATTR, line(30, lambda t: t + " 1")), ATTR, line(
        9, lambda t: t.replace(" -1", " 7", 1))), [ATTR, "line 9", "'7'"]),
    "the first image has a value too few": (lambda r: edit(r, ATTR, line(3, lambda t: t.rsplit(None, 1)[0])),
        [ATTR, "line 3", "39 values"]),
    "all lines have a value too many": (lambda r: edit(r, PART, lambda t: t.replace("\n", " 0\n")), [PART, "line 1", "2 values"]),
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
    "a quote never closed": ("list_attr_celeba.csv", line(9, lambda t: '"' + t), ["line 9", "0 values"]),
    "a quote over two lines": ("list_eval_partition.csv", line(9, lambda t: '"a\nb",' + t[-1]), ["line 9", "0 values"]),
    "a field without end": ("list_eval_partition.csv", line(9, lambda t: '"' + 200_000 * "x"), ["line 9", "0 values"]),
    "an empty value": ("list_eval_partition.csv", line(9, lambda t: t[:-1]), ["line 9", "''", "0, 1 or 2"]),
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
    "column unknown": (lambda r: rewrite_parquet(r, lambda c: {**without("Bald")(c), "Happy": c["Bald"]}), ["unknown: Happy"]),
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
    "twice": (lambda r: zip_of(r, "a/000001.jpg", "b/000001.jpg"), ["two members are named 000001.jpg"]),
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
    assert "Give the folder that contains it" in refused(read_celeba, small / ATTR)
    assert "no list_attr_celeba.txt" in refused(read_celeba, tmp_path)


# ---- samples


@pytest.mark.parametrize("layout", ["text", "zip", "csv"])
def test_sample(layout, small, labels, tmp_path):
    "Labels of absent images are dropped, and it is said once, in one line."
    root = as_text(small, tmp_path / "text")
    for i in range(1, 21):
        (root / "img_align_celeba" / f"{i:06d}.jpg").unlink()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        some = read_celeba(LAYOUTS[layout](root, tmp_path / "set"))
    assert [str(w.message) for w in said] == ["20 of 50 labelled images are missing: 30 remain."]
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
    "The fingerprint shows any change of names, labels, split or images; identities are no part of it."
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


def test_parquet_helper_matches(small):
    "The helper above splits as the partition file says."
    assert [len(parquet_columns(small, split)["image"]) for split in SPLITS] == [30, 10, 10]
