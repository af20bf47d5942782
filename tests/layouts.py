"""Rewraps a folder in CelebA's text layout as each of the layouts that people have.

Nothing here uses celeba_nb.files: the tests would otherwise compare its reader with itself."""
import csv
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from celeba_nb.core import DataError

SPLITS = ("train", "valid", "test")
ATTR, PART, IDS = TEXT_FILES = ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt")


def table(path: Path) -> list[list[str]]:
    "The fields of each line."
    return [line.split() for line in path.read_text().splitlines()]


def as_text(source: Path, target: Path) -> Path:
    "The authors' text files and a folder of images."
    return Path(shutil.copytree(source, target))


def as_zip(source: Path, target: Path) -> Path:
    "Text files and img_align_celeba.zip, not unpacked."
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("img_align_celeba"))
    with zipfile.ZipFile(target / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", "")
        for path in sorted((source / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    return target


def as_csv(source: Path, target: Path) -> Path:
    "Kaggle's: CSV files without identities, and a folder in a folder."
    shutil.copytree(source / "img_align_celeba", target / "img_align_celeba" / "img_align_celeba")
    _, header, *rows = table(source / "list_attr_celeba.txt")
    with open(target / "list_attr_celeba.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image_id", *header], *rows])
    with open(target / "list_eval_partition.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image_id", "partition"], *table(source / "list_eval_partition.txt")])
    return target


def parquet_columns(source: Path, split: str) -> dict:
    "The columns of one split, as flwrlabs/celeba has them."
    _, header, *rows = table(source / "list_attr_celeba.txt")
    numbers, people = dict(table(source / "list_eval_partition.txt")), dict(table(source / "identity_CelebA.txt"))
    rows = [row for row in rows if SPLITS[int(numbers[row[0]])] == split]
    images = [{"bytes": (source / "img_align_celeba" / row[0]).read_bytes(), "path": row[0]} for row in rows]
    attributes = {name: [row[i + 1] == "1" for row in rows] for i, name in enumerate(header)}
    return {"image": images, "celeb_id": [int(people[row[0]]) for row in rows], **attributes}


def as_parquet(source: Path, target: Path) -> Path:
    "Hugging Face's: parquet files by split, the training images in two of them."
    (target / "data").mkdir(parents=True)
    for split in SPLITS:
        columns = pa.table(parquet_columns(source, split))
        parts = [columns.slice(0, 11), columns.slice(11)] if split == "train" else [columns]
        for i, part in enumerate(parts):
            pq.write_table(part, target / "data" / f"{split}-{i:05d}-of-{len(parts):05d}.parquet", row_group_size=4)
    return target


LAYOUTS = {"text": as_text, "zip": as_zip, "csv": as_csv, "parquet": as_parquet}


def refused(call, *args):
    "The message of the DataError that this call must end in."
    with pytest.raises(DataError) as caught:
        call(*args)
    return str(caught.value)
