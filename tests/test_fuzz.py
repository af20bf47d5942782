"""Whatever lies in a file: the right result, or one of the package's own errors. Never another error, a hang, a crash, or more
memory than a bound.

A few hundred mutated inputs are part of `make test`; `make faults` (CELEBA_NB_FAULTS=full) tries more than ten thousand.
"""
import contextlib
import copy
import importlib
import io
import json
import math
import os
import random
import shutil
import signal
import struct
import sys
import traceback
import zipfile
from collections import Counter
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import CONTEXT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from layouts import as_csv, as_parquet, as_zip
from PIL import Image
from safetensors.torch import load_file, save_file
from signed import sign

from celeba_nb import record, sources
from celeba_nb.checkpoint import checksum, load_checkpoint, save_checkpoint
from celeba_nb.core import ATTRIBUTES, DataError, TrainingError, WriteError
from celeba_nb.export import export_onnx
from celeba_nb.files import SPLITS, read_celeba
from celeba_nb.images import ImageCache, decode, open_photo
from celeba_nb.photo import predict_photo
from celeba_nb.recipe import Recipe, recipe_from_dict, run_id
from celeba_nb.report import write_report
from celeba_nb.run import load
from celeba_nb.sketch import make_sketch
from celeba_nb.state import new_state
from celeba_nb.training import evaluate, train

FULL = os.environ.get("CELEBA_NB_FAULTS") == "full"
TIMES = 500 if FULL else 12  # mutated inputs of each kind
MEMORY = 3 << 30  # bytes of addresses that a reader may have beyond what its process has
PHOTO_MEMORY = 2 << 30  # likewise, of a photo
SECONDS = 20  # for one input
OWN = (DataError, TrainingError, WriteError)
EDGES = [b"\0", b"\xff", b"\x7f", b"\x80", b"-1", b"0", b"99999999999999999999", b"1e999", b"NaN", b"\n", b" ", b",", b'"',
         b"\r\n", b"../", b"{}", b"[", b"null", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xed\xa0\x80", "½²٣".encode()]
quick = settings(max_examples=300 if FULL else 30, deadline=None, suppress_health_check=list(HealthCheck))


# ---- mutations


def mutate(content, chance, others):
    "A few changes, anywhere: bits, bytes, pieces taken out, doubled, moved, put in, of another file, or cut off."
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 8])):
        at = chance.randrange(len(content) + 1)
        to = min(len(content), at + chance.choice([1, 2, 4, 16, 256, 4096]))
        match chance.randrange(9):
            case 0 | 1:
                if at < len(content):
                    content[at] ^= 1 << chance.randrange(8)
            case 2:
                content[at:to] = chance.randbytes(to - at)
            case 3:
                del content[at:to]
            case 4:
                content[at:at] = content[at:to] * chance.choice([1, 2, 50])
            case 5:
                content[at:at] = chance.choice(EDGES)
            case 6:
                content[at : at + 1] = chance.choice(EDGES)
            case 7:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                content[at:to] = other[start : start + to - at]
            case 8:
                del content[at:]
    return bytes(content)


VALUES = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "auto",
          "os.system", "celeba_nb.loop.bce", "celeba_nb.runs.make_runs",
          [], {}, [[]], {"": 0}, "x" * 1000, [1e9] * 3, "\ud800", "../.."]


def mutate_json(content, chance, others):
    "Another value somewhere in a JSON file, a key more or less; sometimes bytes."
    if chance.random() < 0.3:
        return mutate(content, chance, others)
    tree = json.loads(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and chance.random() < 0.7:
                node = node[key]
                continue
            if isinstance(node, dict) and chance.random() < 0.15:
                del node[key]
            elif isinstance(node, dict) and chance.random() < 0.1:
                node[chance.choice(["extra", "", "lrr", "model"])] = copy.deepcopy(chance.choice(VALUES))
            else:
                node[key] = copy.deepcopy(chance.choice(VALUES))
            break
    if chance.random() < 0.05:
        depth = chance.choice([50, 5_000, 200_000])
        return b"[" * depth + b"]" * depth
    return json.dumps(tree).encode("utf-8", "surrogatepass")


# ---- the doors: what is mutated, and who reads it


def check_labels(root):
    labels = read_celeba(root)
    assert labels.attributes.shape == (len(labels), 40) and labels.attributes.to_numpy().dtype == bool
    assert list(labels.attributes.columns) == list(ATTRIBUTES) and labels.attributes.index.is_unique
    assert labels.split.isin(SPLITS).all() and len(labels.split) == len(labels) > 0
    assert labels.identity is None or labels.identity.dtype == np.int64
    assert len(labels.fingerprint) == 32


def check_images(root):
    labels = read_celeba(root)
    shutil.rmtree(root.parent / "cache", ignore_errors=True)
    cache = ImageCache(labels, 8, folder=root.parent / "cache", progress=False)
    assert cache[cache.rows].shape == (len(labels), 3, 8, 8)


def check_run(folder):
    run = load(sign(folder))  # as somebody would who means to deceive us
    assert run.history.iloc[-1].notna().all() and set(run.predictions) == set(record.array_shapes(run.recipe, 40))
    if run.weights is not None and run.recipe.model == "celeba_nb.model.AttributeCNN":
        run.net()


def check_checkpoint(folder):
    state = new_state(load(folder).recipe, 1)
    load_checkpoint(state, folder / "model.checkpoint.safetensors", "a name")


def check_image(path):
    image = decode(path.read_bytes(), 16)
    assert image.shape == (3, 16, 16) and image.dtype == torch.uint8


DOORS = {  # what is mutated -> (file in the folder of specimens, how, who reads it, what he is given)
    "attributes, text": ("text/list_attr_celeba.txt", mutate, check_labels, "text"),
    "partition, text": ("text/list_eval_partition.txt", mutate, check_labels, "text"),
    "identities": ("text/identity_CelebA.txt", mutate, check_labels, "text"),
    "attributes, CSV": ("csv/list_attr_celeba.csv", mutate, check_labels, "csv"),
    "partition, CSV": ("csv/list_eval_partition.csv", mutate, check_labels, "csv"),
    "parquet": ("parquet/data/test-00000-of-00001.parquet", mutate, check_images, "parquet"),
    "zip archive": ("zip/img_align_celeba.zip", mutate, check_images, "zip"),
    "an image of a folder": ("text/img_align_celeba/000001.jpg", mutate, check_images, "text"),
    "recipe.json": ("model/recipe.json", mutate_json, check_run, "model"),
    "metrics.json": ("model/metrics.json", mutate_json, check_run, "model"),
    "history.csv": ("model/history.csv", mutate, check_run, "model"),
    "predictions.npz": ("model/predictions.npz", mutate, check_run, "model"),
    "weights.safetensors": ("model/weights.safetensors", mutate, check_run, "model"),
    "checkpoint": ("model/model.checkpoint.safetensors", mutate, check_checkpoint, "model"),
    "JPEG": ("images/a.jpg", mutate, check_image, "images/a.jpg"),
    "JPEG, progressive": ("images/b.jpg", mutate, check_image, "images/b.jpg"),
    "PNG": ("images/a.png", mutate, check_image, "images/a.png"),
    "WebP": ("images/a.webp", mutate, check_image, "images/a.webp"),
    "BMP": ("images/a.bmp", mutate, check_image, "images/a.bmp"),
    "GIF": ("images/a.gif", mutate, check_image, "images/a.gif"),
}


@pytest.fixture(scope="module")
def specimens(tmp_path_factory):
    "A good file of each kind."
    folder = tmp_path_factory.mktemp("fuzz")
    text = make_sketch(folder / "text", 4, 2, 2, progress=False)
    as_csv(text, folder / "csv"), as_zip(text, folder / "zip"), as_parquet(text, folder / "parquet")
    small = Recipe(train_images=4, size=8, epochs=1, threads=1, precision="float32", memory_format="contiguous",
                   model_args={"channels": [2, 2, 2], "hidden": 2})
    run = train(small, read_celeba(text), folder / "model", progress=False)
    save_checkpoint(new_state(run.recipe, 1), folder / "model" / "model.checkpoint.safetensors", "a name")
    (folder / "images").mkdir()
    picture = Image.open(text / "img_align_celeba" / "000001.jpg").resize((40, 50))
    picture.save(folder / "images" / "b.jpg", progressive=True)
    for kind in ("jpg", "png", "webp", "bmp", "gif"):
        picture.save(folder / "images" / f"a.{kind}")
    return folder


class Hang(BaseException):
    "An input took too long."


def stop(number, frame):
    raise Hang


def fuzz(door, specimens, folder, times, seed):
    "In a process of its own: try mutated files at a door, and write down what came of them."
    import resource

    file, mutation, reader, given_to = DOORS[door]
    place = folder / "now"
    shutil.copytree(specimens, place)
    others = [path.read_bytes() for path in sorted(specimens.rglob("*")) if path.is_file()][:40]
    content, chance, counts = (specimens / file).read_bytes(), random.Random(f"{door} {seed}"), Counter()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, stop)
    for _ in range(times):
        (place / file).write_bytes(mutation(content, chance, others))
        signal.alarm(SECONDS)
        try:
            reader(place / given_to)
            counts["read"] += 1
        except OWN as error:
            counts["refused"] += 1
            assert str(error), "an error without a word"
        finally:
            signal.alarm(0)
    (folder / "counts.json").write_text(json.dumps(counts))


def fuzz_quietly(fuzz, *arguments):
    import warnings

    warnings.simplefilter("ignore")
    try:
        fuzz(*arguments)
    except BaseException:
        (arguments[2] / "traceback.txt").write_text(traceback.format_exc())
        raise


def in_a_process(target, *arguments, seconds):
    "The exit code of a fork that calls the target; None: it took too long, and was killed."
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are Unix's")
@pytest.mark.parametrize("door", DOORS)
def test_mutated(door, specimens, tmp_path, figure):
    code = in_a_process(fuzz_quietly, fuzz, door, specimens, tmp_path, TIMES, 0, seconds=60 + TIMES * 2)
    said = tmp_path / "traceback.txt"
    assert code == 0, f"exit code {code}; see {tmp_path / 'now' / DOORS[door][0]}\n" + (said.read_text() if said.exists() else "")
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert sum(counts.values()) == TIMES
    figure("mutated inputs: the right result or one of the package's own errors", TIMES,
           {f"{door}, {what}": number for what, number in counts.items()})


# ---- records that somebody made on purpose, in use


NUMBERS = [0, -1, 1, 7, 1025, 10**6, 2**31, 2**63, 10**400, 0.5, -0.5, 1e-308, 1e38, 1e308, float("nan"), float("inf")]


def spoil_json(folder, chance):
    "Other values in recipe.json or metrics.json; half of the time, one number of the recipe."
    name = chance.choice(["recipe.json", "recipe.json", "metrics.json"])
    if name == "metrics.json" or chance.random() < 0.5:
        (folder / name).write_bytes(mutate_json((folder / name).read_bytes(), chance, [b"{}"]))
        return
    about = json.loads((folder / name).read_text())
    place = chance.choice([about["recipe"], about["recipe"], about["recipe"]["model_args"], about])
    key = chance.choice(sorted(place))
    value = place[key]
    if isinstance(value, list) and value:
        value[chance.randrange(len(value))] = chance.choice([*NUMBERS, "\ud800", "\x1b[2J"])
    else:
        place[key] = chance.choice([*NUMBERS, "\ud800", "\x1b[2J", [0.5] * 40, {"a": "\ud800"}])
    (folder / name).write_text(json.dumps(about))


def spoil_history(folder, chance):
    "Other numbers in the history, or rows more or less."
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    for _ in range(chance.choice([1, 1, 3])):
        row = chance.choice(rows[1:])
        row[chance.randrange(len(row))] = str(chance.choice(NUMBERS[:-2] + ["", "nan", "inf", "x", "1e400"]))
    rows[1:] = rows[1:] * chance.choice([1, 1, 1, 2, 1000])
    (folder / "history.csv").write_text("\n".join(map(",".join, rows)) + "\n")


def spoil_weights(folder, chance):
    "A tensor of other numbers, of another kind or shape, or missing."
    weights = load_file(folder / "weights.safetensors")
    key = chance.choice(sorted(weights))
    value = weights[key]
    number = chance.choice([float("nan"), float("inf"), 3e38, -3e38, -1.0, 0.0])
    weights[key] = chance.choice([
        torch.full_like(value, number), torch.where(torch.rand(value.shape) < 0.01, number, value.float()), value.double(),
        value.half(), torch.zeros(10**6), torch.zeros(0), value[None]])
    if chance.random() < 0.1:
        del weights[key]
    save_file(weights, folder / "weights.safetensors")


def spoil_predictions(folder, chance):
    "An array of other numbers, of another kind or shape, or missing."
    with np.load(folder / "predictions.npz") as file:
        arrays = dict(file)
    key = chance.choice(sorted(arrays))
    array = arrays[key]
    arrays[key] = chance.choice([
        np.full_like(array, chance.choice([0, 1])), np.full(array.shape, np.nan, np.float32), np.full(array.shape, 1e38),
        np.full(array.shape, -1), np.full(array.shape, 10**9), np.full(array.shape, 2**62), array[:0], array[None],
        array.astype(object).astype(str), np.zeros(5_000_000)])
    if chance.random() < 0.1:
        del arrays[key]
    np.savez_compressed(folder / "predictions.npz", **arrays)


def spoil_bytes(folder, chance):
    "Other bytes in one of its files."
    path = chance.choice(sorted(folder.iterdir()))
    path.write_bytes(mutate(path.read_bytes(), chance, [b"{}"]))


def spoil_file(folder, chance):
    "Something that is no file, or never ends; it isn't signed, since that would read it."
    path = chance.choice(sorted(folder.iterdir()))
    path.unlink()
    match chance.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.mkdir()
        case 4:
            with open(path, "wb") as file:
                file.truncate(3_000_000_000)


SPOILERS = {"JSON": spoil_json, "history": spoil_history, "weights": spoil_weights, "predictions": spoil_predictions,
            "bytes": spoil_bytes, "no file": spoil_file}


def use_record(folder, labels, turn):
    "What a user does with a record: evaluate, predict, and, as they take seconds, sometimes report and export."
    photo = labels.root / "img_align_celeba" / "000001.jpg"
    uses = [lambda: evaluate(load(folder), labels), lambda: predict_photo(photo, load(folder))]
    if turn % 3 < 2:
        uses.append(lambda: write_report(folder, folder.parent / "page.html", labels if turn % 3 else None))
    if turn % 25 == 0:
        uses.append(lambda: export_onnx(load(folder), folder.parent / "model.onnx"))
    for use in uses:
        signal.alarm(6 * SECONDS)  # other programs may run
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor
        try:
            found = use()
            yield "used"
        except OWN as error:
            assert str(error), "an error without a word"
            yield "refused"
            continue
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        if isinstance(found, dict):  # of evaluate
            assert math.isfinite(found["accuracy"])


def hostile(specimens, folder, times, seed):
    "In a process of its own: spoil records, use them, and write down what came of it."
    import resource

    signal.signal(signal.SIGALRM, stop), signal.signal(signal.SIGPROF, stop)
    labels = read_celeba(specimens / "text")
    chance, counts = random.Random(f"records {seed}"), Counter()
    for turn in range(times):
        kind = chance.choice(sorted(SPOILERS))
        shutil.rmtree(folder / "now", ignore_errors=True)
        now = Path(shutil.copytree(specimens / "model", folder / "now", ignore=shutil.ignore_patterns("*.checkpoint.*")))
        SPOILERS[kind](now, chance)
        if kind != "no file":
            sign(now)
        (folder / "turn.txt").write_text(f"{turn}: {kind}")
        for what in use_record(now, labels, turn):
            counts[f"{kind}, {what}"] += 1
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (folder / "counts.json").write_text(json.dumps({"counts": counts, "memory": memory}))


def hostile_quietly(*arguments):
    import warnings

    warnings.simplefilter("ignore")
    try:
        hostile(*arguments)
    except BaseException:
        (arguments[1] / "traceback.txt").write_text(traceback.format_exc())
        raise


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and signals are Unix's")
def test_hostile_records(specimens, tmp_path, figure):
    "Evaluate, predict, report and export: a right result or one of the package's own errors, within 20 s and 2 GB."
    times = 500 if FULL else 10
    code = in_a_process(hostile_quietly, specimens, tmp_path, times, 0, seconds=120 + times * 20)
    said = [path.read_text() for path in (tmp_path / "turn.txt", tmp_path / "traceback.txt") if path.exists()]
    assert code == 0, f"exit code {code}: " + "\n".join(said)
    result = json.loads((tmp_path / "counts.json").read_text())
    assert result["memory"] < 2_000_000_000, result["memory"]
    figure("hostile records, used or refused in one line, within 20 s and 2 GB", times, result["counts"])
# ---- the photo's door: every kind that Pillow and pillow-heif can write here


def exif_of_a_camera():
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "Maker", 0x0128: 2, 0x011A: 72.0, 0x0132: "2026:11:29 10:00:00"})
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2026:11:29 10:00:00", 0xA002: 40, 0x927C: b"\0" * 30})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0)})
    return exif.tobytes()


def photo_kinds():
    "Name -> the content of a small photo of that kind."
    chance = np.random.default_rng(5)
    picture = Image.fromarray(np.kron(chance.integers(0, 256, (5, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8))
    grey, exif = picture.convert("L"), exif_of_a_camera()
    deep = np.asarray(grey).astype(np.uint16) * 257
    several = {"save_all": True, "append_images": [picture.rotate(90), picture]}
    ways = {
        "JPEG": (picture, "JPEG", {}), "JPEG, progressive": (picture, "JPEG", {"progressive": True}),
        "JPEG, EXIF": (picture, "JPEG", {"exif": exif}), "JPEG, CMYK": (picture.convert("CMYK"), "JPEG", {}),
        "JPEG, grey": (grey, "JPEG", {"exif": exif}), "MPO": (picture, "MPO", several | {"exif": exif}),
        "PNG": (picture, "PNG", {"exif": exif}), "PNG, palette": (picture.quantize(9), "PNG", {"transparency": 3}),
        "PNG, 16 bits": (Image.fromarray(deep), "PNG", {}), "PNG, animated": (picture, "PNG", several),
        "PNG, alpha": (picture.convert("RGBA"), "PNG", {}), "PNG, 1 bit": (picture.convert("1"), "PNG", {}),
        "WebP": (picture, "WEBP", {"exif": exif}), "WebP, lossless": (picture.convert("RGBA"), "WEBP", {"lossless": True}),
        "WebP, animated": (picture, "WEBP", several), "GIF": (picture, "GIF", {}), "GIF, animated": (picture, "GIF", several),
        "BMP": (picture, "BMP", {}), "BMP, palette": (picture.quantize(9), "BMP", {}), "PPM": (picture, "PPM", {}),
        "PGM": (grey, "PPM", {}), "PGM, 16 bits": (Image.fromarray(deep), "PPM", {}),
        **{f"TIFF, {kind}": (picture, "TIFF", {"compression": kind})
           for kind in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")},
        "TIFF": (picture, "TIFF", {"exif": exif}),
        "TIFF, fax": (picture.convert("1"), "TIFF", {"compression": "group4"}), "TIFF, float": (grey.convert("F"), "TIFF", {}),
        "TIFF, 16 bits": (Image.fromarray(deep), "TIFF", {}),
        "TIFF, CMYK": (picture.convert("CMYK"), "TIFF", {}), "AVIF": (picture, "AVIF", {"exif": exif}),
        "AVIF, alpha": (picture.convert("RGBA"), "AVIF", {}), "AVIF, animated": (picture, "AVIF", several),
        "HEIC": (picture, "HEIF", {"exif": exif}), "HEIC, alpha": (picture.convert("RGBA"), "HEIF", {}),
        "HEIC, several": (picture, "HEIF", several),
    }
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    kinds = {}
    for name, (image, form, options) in ways.items():
        file = io.BytesIO()
        if form in Image.SAVE:
            image.save(file, form, **options)
            kinds[name] = file.getvalue()
    return kinds


def mutate_photo(content, chance, others):
    "Changes anywhere, or only in the Exif data, behind which the photo is whole."
    at = content.find(b"Exif\0\0") + 6
    if at < 6 or not content.startswith(b"\xff\xd8") or chance.random() < 0.5:
        return mutate(content, chance, others)
    exif = mutate(exif_of_a_camera(), chance, others).removeprefix(b"Exif\0\0")[:60_000]
    (length,) = struct.unpack_from(">H", content, at - 8)
    return content[: at - 8] + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + content[at - 8 + length :]


def fuzz_photos(kinds, part, folder, times, seed):
    "In a process of its own: try mutated photos at the door."
    import resource

    limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else 0
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit + PHOTO_MEMORY, limit + PHOTO_MEMORY))
    signal.signal(signal.SIGALRM, stop)
    chance, counts, names, others = random.Random(f"photos {part} {seed}"), Counter(), list(kinds), list(kinds.values())
    for number in range(times):
        name = names[number % len(names)]
        (folder / "photo").write_bytes(mutate_photo(kinds[name], chance, others))
        signal.alarm(SECONDS)
        try:
            pixels = open_photo(folder / "photo")
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8 and pixels.size
            counts["read"] += 1
        except DataError as error:
            assert str(error).startswith(f"{folder / 'photo'}: ") and "\n" not in str(error)
            counts["refused"] += 1
        finally:
            signal.alarm(0)
    (folder / "counts.json").write_text(json.dumps(counts))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are Unix's")
@pytest.mark.parametrize("part", range(8 if FULL else 1))
def test_mutated_photos(part, tmp_path, figure):
    kinds, times = photo_kinds(), 2500 if FULL else 700
    assert len(kinds) > 25
    code = in_a_process(fuzz_quietly, fuzz_photos, kinds, part, tmp_path, times, 0, seconds=900)
    said = tmp_path / "traceback.txt"
    assert code == 0, f"exit code {code}; see {tmp_path / 'photo'}\n" + (said.read_text() if said.exists() else "")
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert sum(counts.values()) == times and min(counts["read"], counts["refused"]) > times / 10
    figure("mutated photos: pixels, or one line that names the file", times)


# ---- absurd on purpose


def png_header(width, height):
    "A PNG that claims a size."
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", rows)


def gif_header(width, height):
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + size + b"\0"


def bmp_header(width, height):
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg_header(width, height, before=b""):
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8" + before + frame + b"\xff\xd9"


BOMBS = {
    "JPEG": jpeg_header(65535, 65535),
    "JPEG behind fill bytes": jpeg_header(65535, 65535, before=b"\xff" * 100),
    "JPEG behind rubbish": jpeg_header(65535, 65535, before=b"\xff\xe0\x00\x10" + b"x" * 40),
    "PNG": png_header(2**31 - 1, 2**31 - 1), "PNG, a line": png_header(2**31 - 1, 1), "GIF": gif_header(65535, 65535),
    "BMP": bmp_header(2**31 - 1, 2**31 - 1), "BMP, upside down": bmp_header(100_000, -100_000),
}


def decode_bomb(name):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    with pytest.raises(DataError):
        decode(BOMBS[name], 16)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
@pytest.mark.parametrize("name", BOMBS)
def test_an_image_of_absurd_size(name, figure):
    assert in_a_process(decode_bomb, name, seconds=120) == 0
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


@pytest.mark.parametrize("size", [sources.LARGEST_FILE + 1, 2**40])
def test_an_image_file_too_large(size, specimens, tmp_path, figure):
    "A file with holes takes no room on the disk."
    root = Path(shutil.copytree(specimens / "text", tmp_path / "set"))
    try:
        os.truncate(root / "img_align_celeba" / "000001.jpg", size)
    except OSError:
        pytest.skip(f"this file system has no files of {size:,} bytes")
    with pytest.raises(DataError, match="000001.jpg"):
        ImageCache(read_celeba(root), 8, folder=tmp_path / "cache", progress=False)
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


def test_a_zip_bomb(specimens, tmp_path, figure):
    "200 MB of zeros in 200 kB."
    root = as_zip(specimens / "text", tmp_path / "set")
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1, 9):
            archive.writestr(f"{number:06d}.jpg", bytes(200_000_000 if number == 3 else 100))
    with pytest.raises(DataError, match="000003.jpg"):
        ImageCache(read_celeba(root), 8, folder=tmp_path / "cache", progress=False)
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


@pytest.mark.parametrize("shape", ["(1000000000, 40)", "(10**15,)", f"({2**62},)", "(-1, 40)"])
def test_predictions_of_absurd_shape(shape, specimens, tmp_path, figure):
    folder = Path(shutil.copytree(specimens / "model", tmp_path / "model"))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {eval(shape)}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with zipfile.ZipFile(folder / "predictions.npz", "w") as archive:
        archive.writestr("valid.npy", member)
    sign(folder)
    with pytest.raises(TrainingError, match="predictions.npz"):
        load(folder)
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


def test_predictions_that_unpack_without_end(specimens, tmp_path, monkeypatch, figure):
    folder = Path(shutil.copytree(specimens / "model", tmp_path / "model"))
    monkeypatch.setattr(record, "LARGEST_RECORD", 1_000_000)
    np.savez_compressed(folder / "predictions.npz", valid=np.zeros(1_000_000))
    sign(folder)
    with pytest.raises(TrainingError, match="8,000,.* bytes when unpacked"):
        load(folder)
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


def test_a_recipe_that_asks_for_terabytes(specimens, tmp_path, figure):
    "The weights don't fit it, which is noticed before any memory is asked for."
    run = load(specimens / "model")
    huge = replace(run, recipe=replace(run.recipe, model_args={"hidden": 10**9}))
    with pytest.raises(TrainingError, match="don't fit"):
        huge.net()
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


def test_parquet_that_promises_more_rows_than_it_has(specimens, tmp_path, figure):
    root = Path(shutil.copytree(specimens / "parquet", tmp_path / "set"))
    file = next(root.glob("*/test-*.parquet"))
    table = pq.read_table(file)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    content, count = buffer.getvalue(), struct.pack("<B", len(table) * 2)  # thrift writes small numbers doubled
    places = [at for at in range(len(content) - 400, len(content)) if content[at : at + 1] == count]
    for at in places:
        file.write_bytes(content[:at] + b"\xfe" + content[at + 1 :])
        try:
            check_labels(root)
        except DataError:
            pass
    figure("bombs and absurd sizes, refused within a bound of memory", 1)


@pytest.mark.parametrize("column", ["image", "celeb_id", "Bald"])
@pytest.mark.parametrize("kind", [pa.string(), pa.float64(), pa.list_(pa.int64()), pa.binary(), pa.timestamp("s"), pa.null()])
def test_parquet_columns_of_another_kind(column, kind, specimens, tmp_path):
    root = Path(shutil.copytree(specimens / "parquet", tmp_path / "set"))
    file = next(root.glob("*/test-*.parquet"))
    table = pq.read_table(file)
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, pa.nulls(len(table), kind)), file)
    try:
        check_labels(root)
    except DataError as error:
        assert file.name in str(error)


# ---- properties


@quick
@given(st.binary(max_size=300))
def test_no_bytes_but_images_are_images(content):
    with pytest.raises(DataError):
        decode(content, 8)


@quick
@given(st.binary(max_size=100))
def test_no_bytes_but_jpegs_are_jpegs(content):
    with pytest.raises(DataError):
        decode(b"\xff\xd8" + content, 8)


names = st.text(st.characters(codec="utf-8", exclude_characters="/\\:\0", exclude_categories=["Z", "C"]), min_size=1, max_size=12)
tables = st.lists(st.tuples(names.filter(lambda name: name not in (".", "..") and "\ufeff" not in name and name[-1] != ","),
                            st.lists(st.booleans(), min_size=40, max_size=40), st.sampled_from([0, 1, 2]),
                            st.integers(-(10**17), 10**17)), min_size=1, max_size=6, unique_by=lambda row: row[0])


@quick
@given(tables)
@example([("0,0", [True] * 40, 0, 5)])  # once taken for a table with commas
def test_what_was_written_is_what_is_read(tmp_path_factory, rows):
    "Label files in CelebA's form, whatever the names."
    root = tmp_path_factory.mktemp("set")
    lines = [str(len(rows)), " ".join(ATTRIBUTES), *(f"{name} " + " ".join("1" if v else "-1" for v in values)
                                                     for name, values, *_ in rows)]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines), encoding="utf-8")
    (root / "list_eval_partition.txt").write_text("\n".join(f"{name} {split}" for name, _, split, _ in rows), encoding="utf-8")
    (root / "identity_CelebA.txt").write_text("\n".join(f"{name} {person}" for name, *_, person in rows), encoding="utf-8")
    archive = root / "img_align_celeba.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, *_ in rows:
            file.writestr(name, b"x")
    labels = read_celeba(root)
    for name, values, split, person in rows:
        at = labels.attributes.index.get_loc(name)
        assert labels.attributes.iloc[at].tolist() == values
        assert labels.split.iloc[at] == SPLITS[split] and labels.identity.iloc[at] == person
    shutil.rmtree(root)


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3))
names = sorted(field.name for field in fields(Recipe))


@quick
@given(st.dictionaries(st.sampled_from(names) | st.text(max_size=10), anything, max_size=4) | anything)
def test_any_choices_are_a_recipe_or_refused(choices):
    try:
        recipe = recipe_from_dict(choices)
    except TrainingError:
        return
    assert recipe_from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe


@quick
@given(lr=st.floats(0, exclude_min=True, allow_infinity=False), ema_decay=st.floats(0, 1, exclude_max=True),
       seed=st.integers(0, 2**32 - 1), epochs=st.integers(1, 100_000), threads=st.just("auto") | st.integers(1, 1024),
       train_images=st.none() | st.integers(1),
       optimizer=st.sampled_from(["Adam", "AdamW", "SGD"]), schedule=st.sampled_from(["constant", "cosine"]))
def test_recipes_come_back_from_json(**choices):
    recipe = Recipe(**choices)
    again = recipe_from_dict(json.loads(json.dumps(asdict(recipe))))
    assert again == recipe and run_id(again, "data") == run_id(recipe, "data")


@quick
@given(st.binary(min_size=4, max_size=40), st.integers(0), st.text(max_size=5))
def test_a_flipped_bit_changes_the_checksum(content, bit, text):
    tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    other = tensor.clone()
    other[bit // 8 % len(other)] ^= 1 << bit % 8
    assert checksum({"a": tensor}, text) != checksum({"a": other}, text)
