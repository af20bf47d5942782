"""Batches, in order, resumed and made ahead; which data there are, fetching them, and what is kept of them."""
import http.server
import json
import os
import queue
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from layouts import as_parquet, refused
from typer.testing import CliRunner

from celeba_nb import data
from celeba_nb.augment import random_flip
from celeba_nb.cli import app
from celeba_nb.data import Batches, DeviceImages, clear_cache, download_celeba, draw_rows, find_root, keep_on_card, list_cache
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache, denormalize, normalize
from celeba_nb.sketch import make_sketch

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


def ahead(batches):
    "Batches that are made one ahead, as for a graphics card."
    batches.ahead = True
    return batches


@pytest.mark.parametrize("start", [0, 3, 7, 8])
def test_made_ahead(start, cache):
    "The same bits in the same order, resumed or not, and the next epoch's, too."
    plain, early = (Batches(cache, range(30), 4, random_flip, generator()) for _ in range(2))
    ahead(early)
    assert equal(plain.iterate(start), early.iterate(start)) and equal(plain, early)
    assert not plain.ahead and Batches(cache, range(30), 4, device="cuda").ahead


def test_ahead_by_one(cache, monkeypatch):
    "While a batch is used, a thread makes the next one, and no more."
    made = queue.Queue()
    monkeypatch.setattr(data, "_stage", lambda *args, do=data._stage: made.put((args[-1], threading.get_ident())) or do(*args))
    batches = iter(ahead(Batches(cache, range(30), 4)))
    for i in range(3):
        next(batches)
        assert [made.get(timeout=60)[0] for _ in range(2 if i == 0 else 1)][-1] == i + 1
        time.sleep(0.05)
        assert made.empty()
    batches.close()
    next(iter(Batches(cache, range(30), 4)))
    assert made.get(timeout=60)[1] == threading.get_ident() and made.empty()  # on the CPU: no thread, nothing ahead


def test_ahead_stops_and_fails_as_usual(cache, monkeypatch):
    "An iteration that stops in the middle leaves no thread; an error comes where the batch would have."
    threads = threading.active_count()
    for _ in ahead(Batches(cache, range(30), 4)):
        break
    assert threading.active_count() == threads
    monkeypatch.setattr(data, "_stage", lambda *args, stage=data._stage: 1 / 0 if args[-1] == 2 else stage(*args))
    got = []
    with pytest.raises(ZeroDivisionError):
        got.extend(x for x, _ in ahead(Batches(cache, range(30), 4)))
    assert len(got) == 2 and threading.active_count() == threads


def test_images_that_fit_are_kept_on_the_card(cache, monkeypatch):
    "The card is the CPU here: what is chosen, and that a cut there gives the same bytes."
    assert keep_on_card(cache, "cpu") is cache
    monkeypatch.setattr(data, "DeviceImages", lambda cache, device: DeviceImages(cache, "cpu"))
    for free, kept in ((2 * len(cache) * 3 * 16**2, True), (2 * len(cache) * 3 * 16**2 - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert isinstance(keep_on_card(cache, "cuda:1"), DeviceImages) is kept
    rows = [49, 0, 7, 7]
    assert torch.equal(DeviceImages(cache, "cpu", chunk=7)[rows], cache[rows])
    for wrong in (50, -1):
        assert "not among the 50" in refused(DeviceImages(cache, "cpu").__getitem__, [wrong])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
def test_on_a_card(cache):
    kept = keep_on_card(cache, "cuda")
    assert kept.images.is_cuda
    there = [(x.cpu(), y.cpu()) for x, y in Batches(cache, range(30), 4, random_flip, generator(), device="cuda")]
    assert equal(there, Batches(cache, range(30), 4, random_flip, generator()))
    there = [(x.cpu(), y.cpu()) for x, y in Batches(kept, range(30), 4, random_flip, generator(), device="cuda")]
    assert equal(there, Batches(cache, range(30), 4, random_flip, generator()))


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


def test_cached_things_are_listed_and_removed(labels, tmp_path, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(tmp_path / "cache"))
    assert list_cache() == [] and clear_cache() == 0
    drawn = make_sketch(tmp_path / "cache" / "sketch-012", train=3, valid=1, test=1, progress=False)
    for size in (16, 32):
        ImageCache(labels, size, range(size), progress=False)
    (tmp_path / "cache" / "images" / "old.uint8").write_bytes(bytes(1000))
    rows = {row["path"]: row for row in list_cache()}
    assert [(row["kind"], row["size"], row["images"]) for row in rows.values()] == [
        ("drawn faces", None, 5), ("decoded images", 16, 16), ("decoded images", 32, 32),
        ("decoded images, of an older version", None, None)]
    assert len({tuple(row) for row in rows.values()}) == 1  # the same columns
    assert [row["fingerprint"] for row in rows.values()] == [None, labels.fingerprint, labels.fingerprint, None]
    assert rows[drawn]["bytes"] == sum(path.stat().st_size for path in drawn.rglob("*") if path.is_file())
    small_one = next(path for path, row in rows.items() if row["size"] == 16)
    assert clear_cache(small_one) == rows[small_one]["bytes"] and not small_one.exists() and len(list_cache()) == 3
    assert "nothing of that name" in refused(clear_cache, tmp_path)
    assert clear_cache() == sum(row["bytes"] for path, row in rows.items() if path != small_one) and list_cache() == []
    assert len(ImageCache(labels, 16, range(16), progress=False)) == 16


def test_what_another_process_works_on_is_not_removed(labels, tmp_path, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(tmp_path))
    ImageCache(labels, 16, range(3), progress=False)
    (row,) = list_cache()
    with FileLock(f"{row['path']}.lock"):
        assert "another process is at work on it" in refused(clear_cache)
    assert list_cache() == [row]


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
            body = (Path(self.directory) / split).read_bytes()
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
    assert "Download it by hand, either" in message and str(tmp_path / "new") in message and "img_align_celeba.zip" in message
    assert not list((tmp_path / "new").glob("test*.parquet"))
    monkeypatch.setattr(Hub, "cut", ())
    fetched = (tmp_path / "new" / "train-00000-of-00002.parquet").stat().st_mtime_ns
    assert read_celeba(download_celeba(tmp_path / "new", "huggingface", hub, False)).fingerprint == labels.fingerprint
    assert (tmp_path / "new" / "train-00000-of-00002.parquet").stat().st_mtime_ns == fetched
    download_celeba(tmp_path / "shown", "huggingface", hub)
    assert capsys.readouterr().err.count("(100%)") == 4  # a bar for each file, which knows how much is to come


def test_the_command_that_errors_advise(hub, labels, tmp_path, monkeypatch):
    "What a folder without CelebA advises fetches it; a second time it fetches nothing."
    (tmp_path / "new").mkdir()
    assert "`celeba-nb download FOLDER`" in refused(read_celeba, tmp_path / "new")
    real = data._fetch_hub
    monkeypatch.setattr(data, "_fetch_hub", lambda root, base, progress: real(root, hub, progress))
    for _ in range(2):
        done = CliRunner().invoke(app, ["download", str(tmp_path / "new"), "--source", "huggingface"])
        assert done.exit_code == 0 and f"Data: {len(labels):,} images in {tmp_path / 'new'}" in done.stdout, done.output
    other = CliRunner().invoke(app, ["download", str(tmp_path / "new"), "--source", "elsewhere"])
    assert other.exit_code == 1 and "There is no source 'elsewhere'" in other.stderr


def test_a_seed_that_is_none(labels):
    assert refused(draw_rows, labels, "train", 3, -1) == "There is no seed -1: seeds begin at 0."


def test_download_by_torchvision(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("torchvision.datasets.CelebA", lambda root, download: asked.append((root, download)))
    root = tmp_path / "not" / "made yet"
    assert download_celeba(root) == root and root.is_dir() and asked == [(str(root), True)]


def test_download_refused(tmp_path, monkeypatch):
    def quota(*args, **kwargs):
        raise RuntimeError("quota exceeded")
    monkeypatch.setattr("torchvision.datasets.CelebA", quota)
    assert "quota exceeded" in refused(download_celeba, tmp_path)
    assert "Download it by hand, either" in refused(download_celeba, tmp_path, "huggingface", "http://127.0.0.1:9")
    assert "torchvision, huggingface" in refused(download_celeba, tmp_path, "elsewhere")
