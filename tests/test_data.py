"""Images and batches: broken images, interrupted and concurrent builds of the cache, batches, which data."""
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
from functools import partial

import numpy as np
import pytest
import torch
from layouts import ATTR, LAYOUTS, PART, as_parquet, as_text, as_zip
from PIL import Image

from celeba_nb import data
from celeba_nb.augment import random_flip
from celeba_nb.core import DataError
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


@pytest.mark.parametrize("layout", LAYOUTS)
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
