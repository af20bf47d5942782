"""Opening images of every kind; the cache of decoded images: grown, shared, interrupted, damaged."""
import io
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from filelock import FileLock
from layouts import ATTR, LAYOUTS, PART, as_parquet, as_text, as_zip, refused
from PIL import Image, TiffImagePlugin

from celeba_nb import formats, images
from celeba_nb.core import WriteError
from celeba_nb.files import read_celeba
from celeba_nb.formats import LARGEST_IMAGE, decode_with_pillow
from celeba_nb.images import ImageCache, decode, list_decoded, open_image

CELEBA = os.environ.get("CELEBA_ROOT")


def files_in(folder):
    "All files below a folder but locks, which stay."
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def headers(folder):
    "What the parts below a folder say of themselves."
    found = []
    for path in sorted(folder.rglob("*.images")):
        with open(path, "rb") as file:
            found.append(images._read_header(file)[0])
    return found


# ---- opening


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


def test_grey_is_three_equal_channels(labels):
    grey = decode(ODD["grey"](Image.open(io.BytesIO(labels.read(0)))), 64)
    assert grey.shape == (3, 64, 64) and torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])


BROKEN = {"empty": lambda b: b"", "truncated": lambda b: b[: len(b) // 2], "last bytes missing": lambda b: b[:-2],
          "text": lambda b: b"<html></html>", "only its start": lambda b: b[:2]}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_image(kind, layout, small, tmp_path):
    "A broken image is named, wherever it is stored, and no file is left."
    root = as_text(small, tmp_path / "text")
    path = root / "img_align_celeba" / "000004.jpg"
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    some = read_celeba(LAYOUTS[layout](root, tmp_path / "set"))
    message = refused(ImageCache, some, 16, None, tmp_path / "cache", False)
    assert "1 image(s) can't be decoded: 000004.jpg" in message and "delete them" in message
    assert not files_in(tmp_path / "cache")


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
    assert "test-00000-of-00001.parquet: not a readable parquet file" in refused(some.read, 40)


def test_pixels_of_a_jpeg(labels):
    "The decoder finds the pixels that Pillow finds, in each of them."
    for row in range(50):
        assert np.array_equal(open_image(labels.read(row)), decode_with_pillow(labels.read(row)))


@pytest.mark.skipif(not CELEBA, reason="needs CelebA")
def test_pixels_of_celeba():
    "The same on a thousand real images, or the rows that were made with another decoder would be about other images."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a sample lacks images
        celeba = read_celeba(CELEBA)
    rows = np.linspace(0, len(celeba) - 1, min(1000, len(celeba))).astype(int)
    for data in map(celeba.read, rows):
        assert np.array_equal(images._decode_jpeg(data), decode_with_pillow(data))


@pytest.mark.parametrize("kind", ["grey", "CMYK", "progressive"])
def test_odd_jpegs_have_pillows_pixels(kind, labels):
    blob = ODD[kind](Image.open(io.BytesIO(labels.read(0))))
    assert np.array_equal(open_image(blob), np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")))


def test_what_cameras_and_editors_do(labels):
    "A picture that lies on its side, transparent parts, sixteen bits of grey: as in a photo, so in training."
    picture, lying = Image.open(io.BytesIO(labels.read(0))), Image.Exif()
    lying[0x0112] = 6
    upright = open_image(encoded(picture.transpose(Image.Transpose.ROTATE_90), exif=lying, quality=100, subsampling=0))
    assert np.abs(upright.astype(int) - np.asarray(picture)).max() <= 4
    assert (open_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG")) == 255).all()
    assert (open_image(encoded(Image.fromarray(np.full((4, 4), 32896, np.uint16)), "PNG")) == 128).all()


def tiff(values, sample, colors=2):
    "A TIFF without compression. Sample: 1 whole numbers, 2 with a sign, 3 floats; colors: 0 for white, 1 for black, 2 RGB."
    data, (height, width), bands = values.tobytes(), values.shape[:2], 3 if values.ndim == 3 else 1
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: colors if bands == 1 else 2, 273: 8, 277: bands,
            278: height, 279: len(data), 339: sample}
    after, entries, lists = 8 + len(data) + 2 + 12 * len(tags) + 4, b"", b""
    for tag, value in tags.items():
        if tag in (258, 339) and bands == 3:
            entries += struct.pack("<HHII", tag, 3, 3, after + len(lists))
            lists += struct.pack("<3H", value, value, value)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + lists


SCALE = np.linspace(0, 1, 64 * 64).reshape(64, 64)  # from black to white
COLORS = SCALE[..., None].repeat(3, 2)


@pytest.mark.parametrize("values, sample", [
    (SCALE * 65535, 1), (SCALE * 4095, 1), (SCALE * 1023, 1), (SCALE * 16383, 1), (COLORS * 65535, 1),
    (SCALE, 3), (SCALE * 255, 3), (SCALE * 65535, 3), (SCALE * 4095, 3)])
def test_deep_tiffs_are_scaled(values, sample):
    found = open_image(tiff(values.astype("<f4" if sample == 3 else "<u2"), sample, 1))
    assert np.abs(found - 255 * COLORS).max() < 1.5


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pngs_are_scaled(bits):
    found = open_image(encoded(Image.fromarray((SCALE * (2**bits - 1)).astype(np.uint16)), "PNG"))
    assert np.abs(found - 255 * COLORS).max() < 1.5


@pytest.mark.parametrize("values, sample, colors, said", [
    ((SCALE * 65535 - 32768).astype("<i2"), 2, 1, "numbers with a sign"), ((SCALE * 32767).astype("<i2"), 2, 1, "with a sign"),
    ((SCALE * 255 - 128).astype("i1"), 2, 1, "with a sign"), ((SCALE * (2**32 - 1)).astype("<u4"), 1, 1, "32 bits"),
    ((SCALE * 65535).astype("<u2"), 1, 0, "0 for white"), ((SCALE * 1.3).astype("<f4"), 3, 1, "black and white are unknown"),
    ((SCALE - 0.5).astype("<f4"), 3, 1, "unknown"), ((SCALE * np.nan).astype("<f4"), 3, 1, "unknown"),
    (SCALE.astype("<f8"), 3, 1, "a TIFF of a kind"), (COLORS.astype("<f4"), 3, 2, "a TIFF of a kind"),
    ((COLORS * 4095).astype("<u2"), 1, 2, "the upper ones are empty")])
def test_tiffs_that_would_be_guessed_are_refused_by_their_kind(values, sample, colors, said):
    assert said in refused(open_image, tiff(values, sample, colors))


FTYP = b"\0\0\0\x20ftyp"


@pytest.mark.parametrize("data, said", [
    (FTYP + b"qt  " + bytes(99), "a film"), (FTYP + b"isom" + bytes(99), "a film"), (FTYP + b"mp42" + bytes(99), "a film"),
    (b"\0\0\0\x08wide" + bytes(99), "a film"), (b"RIFF\0\0\0\0AVI " + bytes(99), "a film"),
    (b"\x1aE\xdf\xa3" + bytes(99), "a film"),
    (FTYP + b"crx " + bytes(99), "RAW"), (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "RAW"), (b"MM\0*" + bytes(99), "RAW"),
    (b"FUJIFILMCCD-RAW " + bytes(99), "RAW"), (FTYP + b"avif" + bytes(99), "an AVIF picture, damaged or cut off"),
    (b"%PDF-1.7", "a PDF"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL")])
def test_what_is_no_photo_is_called_what_it_is(data, said):
    assert said in refused(open_image, data) and "pillow-heif" not in refused(open_image, data)


@pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}, {254: 1}])
def test_the_preview_in_a_raw_file_is_not_the_photo(tags):
    "The first bytes of DNG, NEF and ARW files."
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
    assert "RAW" in refused(open_image, encoded(Image.new("RGB", (16, 12)), "TIFF", tiffinfo=info))


@pytest.mark.filterwarnings("ignore")  # Pillow's, about the Exif data
def test_damaged_exif_data_do_not_damage_the_photo():
    "The unit of the resolution as a fraction: Pillow can read the data, and not write them again."
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes() + bytes(40)
    at = raw.index(b"\x12\x01") if raw[6:8] == b"II" else raw.index(b"\x01\x12")
    for damaged in (raw[: at + 4] + b"\xff" * 8, raw[:12], raw[:at] + b"\x28\x01\5\0" + raw[at + 4 :]):
        found = open_image(encoded(Image.new("RGB", (40, 30), "teal"), exif=damaged))
        assert set(found.shape[:2]) == {40, 30}


def test_a_jpeg_of_a_thousand_scans():
    one = encoded(Image.new("RGB", (16, 16)), progressive=True)
    start = one.index(b"\xff\xda")
    many = one[:start] + one[start:-2] * 101 + b"\xff\xd9"
    assert "more than 100 scans" in refused(open_image, many)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "CMYK", "YCbCr", "F"])
def test_every_kind_of_picture_becomes_rgb(mode):
    assert formats.flatten(Image.new(mode, (4, 4))).mode == "RGB"


def claiming(jpeg, width, height):
    "A JPEG whose header claims a different size."
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + height.to_bytes(2) + width.to_bytes(2) + jpeg[at + 4 :]


def test_one_limit(labels):
    "A size is refused by what the file claims, before anything is decoded; just below the limit it isn't."
    jpeg = labels.read(0)
    assert refused(open_image, claiming(jpeg, 9460, 9460)) == "9,460×9,460 pixels, and the limit is 89,478,485: make it smaller"
    assert "damaged, or cut off" in refused(open_image, claiming(jpeg, 9459, 9459)[:-2])
    large = encoded(Image.new("1", (LARGEST_IMAGE // 5000 + 1, 5000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert "17,896×5,000 pixels, and the limit is" in refused(open_image, large)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert "more than 89,478,485 pixels: make it smaller" in refused(open_image, large)
    assert "more than 89,478,485 pixels" in refused(open_image, encoded(Image.new("1", (20_000, 20_000)), "PNG"))


def test_no_deprecated_call(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ODD.values():
            decode(kind(Image.open(io.BytesIO(labels.read(0)))), 16)


# ---- the cache of decoded images


def test_cache(labels, cache):
    x = cache[np.array([7, 3, 7])]
    assert x.shape == (3, 3, 16, 16) and x.dtype == torch.uint8 and x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[0], decode(labels.read(7), 16)) and torch.equal(x[1], decode(labels.read(3), 16))
    x.zero_()  # a copy: the file stays as it was
    assert cache[[7]].any() and not any(part.flags.writeable for part in cache._found.parts)
    assert len(cache) == 50 and cache.labels is labels and cache.size == 16
    assert torch.equal(cache[cache.rows], torch.stack([decode(labels.read(row), 16) for row in range(50)]))


def test_cache_of_some_rows(labels, tmp_path):
    some = ImageCache(labels, 16, rows=[9, 4, 4, 30], folder=tmp_path, progress=False)
    assert len(some) == 3
    assert torch.equal(some[[30, 9]], torch.stack([decode(labels.read(row), 16) for row in (30, 9)]))
    for wrong in (5, -1, 50, -50):
        assert str([wrong]) in refused(some.__getitem__, [4, wrong])
    for wrong in ([-1, 3], [3, 50]):
        assert "the labels have rows 0 to 49" in refused(ImageCache, labels, 16, wrong, tmp_path, False)
    assert len(ImageCache(labels, 16, rows=[], folder=tmp_path / "none", progress=False)) == 0


def test_cache_grows(labels, cache, tmp_path):
    "Three seeds, each with its own training images and the same others: no image is kept twice."
    asked = [np.r_[10 * seed : 10 * seed + 12, 36:50] for seed in range(3)]
    caches = [ImageCache(labels, 16, rows, tmp_path, progress=False) for rows in asked]
    assert [header["images"] for header in headers(tmp_path)] and sum(h["images"] for h in headers(tmp_path)) == 46
    assert len(list(tmp_path.rglob("*.images"))) == 3
    for one, rows in zip(caches, asked):
        mixed = np.random.default_rng(0).permutation(rows)
        assert torch.equal(one[mixed], cache[mixed]) and len(one) == len(rows)
    assert str([35]) in refused(caches[0].__getitem__, [35])  # another seed's
    size = sum(path.stat().st_size for path in files_in(tmp_path))
    assert size < 46 * 16 * 16 * 3 + 3 * 1000


def test_cache_is_found_again(labels, tmp_path, monkeypatch):
    "What is there is not decoded again; a different size, other images, and a different way of decoding or resizing are."
    make = partial(ImageCache, folder=tmp_path, progress=False)
    make(labels, 16)
    with monkeypatch.context() as patched:
        patched.setattr(images, "_write_images", lambda *args: pytest.fail("decoded again"))
        assert len(make(labels, 16)) == 50 and len(make(labels, 16, rows=[7, 3])) == 2
        pickle.loads(pickle.dumps(make(labels, 16)))[[3]]
    make(labels, 17), make(labels.take(np.arange(49)), 16)
    assert len(list(tmp_path.glob("*/"))) == 3
    for name in ("RESIZE", "DECODER"):
        with monkeypatch.context() as patched:
            patched.setattr(images, name, "another")
            make(labels, 16)
    assert len(list(tmp_path.glob("*/"))) == 5


def test_cache_travels(labels, tmp_path):
    "In another process, the images are opened when they are needed; on a machine that has none, they are decoded there."
    some = ImageCache(labels, 16, [3, 7], tmp_path / "a", progress=False)
    sent = pickle.dumps(some)
    assert len(sent) < len(pickle.dumps(labels)) + 10_000
    shutil.rmtree(tmp_path / "a")
    assert torch.equal(some[[7]], decode(labels.read(7), 16)[None])  # those who have it open keep it
    there = pickle.loads(sent)
    assert not (tmp_path / "a").exists() and torch.equal(there[[7]], some[[7]]) and (tmp_path / "a").exists()


def test_reading_needs_no_lock(labels, tmp_path):
    ImageCache(labels, 16, range(20), tmp_path, progress=False)
    (folder,) = tmp_path.glob("*/")
    with FileLock(folder.with_suffix(".lock"), timeout=0):  # another process is decoding more
        assert ImageCache(labels, 16, [3], tmp_path, progress=False)[[3]].any()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"x")


def change(old, new):
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


DAMAGE = {
    "cut by a byte": cut, "longer by a byte": lengthen, "empty": lambda path: path.write_bytes(b""),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "header is no JSON": change(b"{", b"["), "header is a list": lambda path: path.write_bytes(b"[1]\n"),
    "another size": change(b'"size": 16', b'"size": 17'), "number of images": change(b'"images": 50', b'"images": -5'),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(list(range(1000)))),
    "brackets": lambda path: path.write_bytes(b"[" * 9000),
    "a bit of a row": lambda path: path.write_bytes(path.read_bytes().replace(b"\n\0\0\0\0\1", b"\n\0\0\0\0\3", 1)),
    "another part's name": lambda path: path.rename(path.with_name("0" * 24 + ".images")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_part(kind, labels, cache, tmp_path):
    "It is named, removed and made again; nothing is read from it."
    ImageCache(labels, 16, folder=tmp_path, progress=False)
    (path,) = tmp_path.rglob("*.images")
    whole = path.read_bytes()
    DAMAGE[kind](path)
    (damaged,) = tmp_path.rglob("*.images")
    with pytest.warns(UserWarning, match=f"{damaged.name}: damaged or cut off, so its images are decoded again"):
        again = ImageCache(labels, 16, folder=tmp_path, progress=False)
    assert files_in(tmp_path) == [path] and path.read_bytes() == whole
    assert torch.equal(again[again.rows], cache[cache.rows])


def test_a_part_that_may_not_be_read_stays(labels, tmp_path, monkeypatch):
    "No right to read is no damage."
    ImageCache(labels, 16, folder=tmp_path, progress=False)

    def closed(path, kind):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images, "_open_part", closed)
    assert ".images: can't be read (Permission denied)" in refused(ImageCache, labels, 16, None, tmp_path, False)
    assert len(files_in(tmp_path)) == 1


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
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends it also where its parent doesn't mind Ctrl-C
from celeba_nb import files, images
root, folder, pause, first, last = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
open_image = images.open_image
def slow(*args):
    time.sleep(pause)
    return open_image(*args)
images.open_image = slow
labels = files.read_celeba(root)
print("ready", flush=True)
sys.stdin.readline()
cache = images.ImageCache(labels, 16, range(first, last), folder, progress=False)
print(int(cache[cache.rows].long().sum()))
"""


def build(folder, root, *numbers):
    "A process that is ready to build a cache; numbers: seconds an image, first row, row after the last."
    process = subprocess.Popen([sys.executable, "-c", BUILD, root, folder, *map(str, numbers)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout.readline() != "ready\n":
        pytest.fail(process.communicate()[1])
    return process


def go(*processes):
    "Let them begin, all at once."
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_build(end, small, labels, cache, tmp_path):
    "Killed or interrupted in the middle: what was there stays, nothing incomplete counts, and the next build removes it."
    ImageCache(labels, 16, range(10), tmp_path, progress=False)
    process = build(tmp_path, small, 0.2, 0, 50)
    go(process)
    for _ in range(1200):
        if list(tmp_path.rglob("*.unfinished")):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the build never began: " + process.communicate()[1])
    process.send_signal(end)
    process.communicate()
    assert process.returncode != 0 and [header["images"] for header in headers(tmp_path)] == [10]
    again = ImageCache(labels, 16, folder=tmp_path, progress=False)
    assert torch.equal(again[again.rows], cache[cache.rows])
    assert sorted(header["images"] for header in headers(tmp_path)) == [10, 40] and len(files_in(tmp_path)) == 2


def test_two_processes_at_once(small, cache, tmp_path):
    "Rows that overlap: both end with the right images, none is kept twice, and there are no scraps."
    asked = [(0, 35), (15, 50)]
    processes = [build(tmp_path, small, 0.1, *rows) for rows in asked]
    go(*processes)
    results = [process.communicate(timeout=300) for process in processes]
    assert [out.strip() for out, _ in results] == [str(int(cache[range(*rows)].long().sum())) for rows in asked], results
    assert sorted(header["images"] for header in headers(tmp_path)) == [15, 35], "an image is kept twice"
    assert len(files_in(tmp_path)) == 2


def test_full_disk(labels, tmp_path, monkeypatch):
    "No room: one error that names the file, and nothing is left; what was there stays, and the next build succeeds."
    ImageCache(labels, 16, range(10), tmp_path, progress=False)

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(images.os, "fsync", fail)
        with pytest.raises(WriteError, match=r"\.images: can't be written \(No space left on device\)"):
            ImageCache(labels, 16, folder=tmp_path, progress=False)
    assert [header["images"] for header in headers(tmp_path)] == [10] and len(files_in(tmp_path)) == 1
    assert len(ImageCache(labels, 16, folder=tmp_path, progress=False)) == 50


def test_list_decoded(labels, tmp_path):
    assert list_decoded(tmp_path / "nothing here") == []
    for size, rows in ((16, range(10)), (16, range(5, 20)), (32, range(5))):
        ImageCache(labels, size, rows, tmp_path, progress=False)
    kept = {row["size"]: row for row in list_decoded(tmp_path)}
    assert kept[16]["images"] == 20 and kept[32]["images"] == 5 and kept[16]["fingerprint"] == labels.fingerprint
    assert kept[16]["root"] == str(labels.root) and kept[32]["bytes"] == sum(f.stat().st_size for f in kept[32]["path"].iterdir())
    for path in kept[16]["path"].glob("*.images"):
        path.write_bytes(b"no header")
    assert {row["images"] for row in list_decoded(tmp_path)} == {0, 5}


MEMORY = """
import re, sys
from pathlib import Path
from celeba_nb import data, files, images
def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
labels = files.read_celeba(sys.argv[1])
def use(n):
    cache = images.ImageCache(labels, 128, rows=range(n), folder=sys.argv[2], progress=False)
    sum(len(x) for x, y in data.Batches(cache, range(n), 32))
    return private(), sum(part.nbytes for part in cache._found.parts) / 2**20
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
