"""One run on several processes, a study on a cluster, long runs in a log file, and memory that does not grow."""
import json
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config

from celeba_nb.augment import random_flip
from celeba_nb.batches import WithUnlabeled
from celeba_nb.cli import find_processes
from celeba_nb.core import DataError, TrainingError
from celeba_nb.data import Batches
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.run import load
from celeba_nb.scale import Distributed, Shard, shard_slice
from celeba_nb.sketch import make_sketch
from celeba_nb.state import SINGLE_PROCESS
from celeba_nb.study import Study, study_recipes
from celeba_nb.workers import SentLabels

ROOT = Path(__file__).resolve().parent.parent
CLI = Path(sys.executable).with_name("celeba-nb")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
SMALL = ["--size", "32", "--epochs", "2", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_sketch(tmp_path_factory.mktemp("scale") / "faces", 300, 41, 41, progress=False)


def process(rank):
    "One of two processes, without the other."
    return Distributed(SimpleNamespace(process_index=rank, num_processes=2, is_main_process=rank == 0))


def call(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)


def test_two_processes_make_the_run_of_one(faces, tmp_path):
    # 33 images a batch, 290 in all: shards of 16 and 17, then of 13 and 13.
    options = ["train", "--root", faces, *SMALL, "--precision", "float32", "--train-images", 290, "--batch-size", 33,
               "--ema-decay", 0.9, "--augment", "celeba_nb.augment.random_flip"]
    shared = call(*TORCHRUN, CLI, *options, "--out", tmp_path / "two")
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("Written:") == shared.stdout.count("Data:") == 1  # one of the two speaks and writes
    assert call(CLI, *options, "--out", tmp_path / "one").returncode == 0
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    assert one.id == two.id and two.machine["processes"] == "2"
    for key in ("valid", "test", "test_mirrored"):
        assert np.abs(one.predictions[key] - two.predictions[key]).max() < 1e-3
    assert np.allclose(one.history, two.history, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_batch_smaller_than_the_processes_is_refused(faces, tmp_path):
    done = call(*TORCHRUN, CLI, "train", "--root", faces, *SMALL, "--train-images", 65, "--batch-size", 64,
                "--out", tmp_path / "run")
    assert done.returncode != 0 and "choose another batch_size" in done.stderr
    assert not (tmp_path / "run").exists()


def test_each_shard_counts_by_its_size():
    "Nine images for two processes: the mean over both must give four and five ninths."
    pair = process(0), process(1)
    batch = SimpleNamespace(iterate=lambda start: iter([(torch.zeros(9, 3), torch.zeros(9))]))
    assert [len(x) for one in pair for x, _ in Shard(batch, one).iterate()] == [4, 5]
    assert [one.weight / 2 for one in pair] == [4 / 9, 5 / 9]
    assert [one.writes for one in pair] == [True, False]


def test_shards_differ_by_one_at_most_and_are_everything():
    for n, size in ((32, 2), (9, 2), (7, 3), (2, 4), (0, 2)):
        shards = [list(range(n))[shard_slice(n, rank, size)] for rank in range(size)]
        assert sum(shards, []) == list(range(n)) and max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_shards_together_are_the_batches_of_one_process(faces):
    "With the same flips: each process makes the whole batch, and keeps its part."
    labels = read_celeba(faces)
    cache = ImageCache(labels, 32, labels.rows("train")[:64], progress=False)
    pair = process(0), process(1)

    def batches():
        return Batches(cache, cache.rows, 25, random_flip, torch.Generator().manual_seed(3))

    alone, halves = [x for x, _ in batches()], [[x for x, _ in Shard(batches(), one).iterate()] for one in pair]
    assert all(torch.equal(torch.cat(parts), x) for *parts, x in zip(*halves, alone))
    assert [[len(x) for x in half] for half in halves] == [[12, 12, 7], [13, 13, 7]]


def test_a_batch_without_labels_is_not_shared():
    assert isinstance(process(0).shard(Batches), Shard)
    with pytest.raises(TrainingError, match="in one process"):
        process(0).shard(WithUnlabeled(Batches, Batches))


def test_one_process_needs_no_group():
    with find_processes() as found:
        assert found is SINGLE_PROCESS


def test_two_processes_on_one_card_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"2 processes share 1 graphics card\(s\)"), find_processes():
        pass


def finished(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*/recipe.json")}


def kill_one(pids, folder, kept):
    "Kill a worker once two runs are finished."
    while len(finished(folder)) < 2:
        time.sleep(0.02)
    kept.update(finished(folder))
    os.kill(pids[0], signal.SIGKILL)


def test_a_killed_worker_costs_its_run_only(faces, tmp_path):
    distributed = pytest.importorskip("distributed")
    labels = read_celeba(faces)
    recipes = study_recipes(train_images=128, size=32, epochs=3, threads=1)
    here = Study(recipes, 2, tmp_path / "here").run(labels, progress=False)
    kept = {}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
        killer = threading.Thread(target=kill_one, args=(pids, tmp_path / "there", kept), daemon=True)
        killer.start()
        with parallel_config(backend="dask"):
            there = Study(recipes, 2, tmp_path / "there").run(labels, progress=False)
        killer.join(10)
        assert set(client.run(os.getpid).values()) != set(pids)  # it was killed, and a new one has started
    assert here.table().equals(there.table()) and here.effects().equals(there.effects())
    assert kept and kept.items() <= finished(tmp_path / "there").items()  # what was finished was not made again


def test_machines_without_a_shared_disk(tmp_path):
    "What benchmarks/cluster.py proves, with eight runs: it compares the tables, and looks for what a worker opens of the client."
    pytest.importorskip("distributed")
    done = call(sys.executable, ROOT / "benchmarks" / "cluster.py", "--runs", 8, "--images", 30, "--csv", tmp_path / "parts.csv")
    assert done.returncode == 0, done.stderr
    parts = pd.read_csv(tmp_path / "parts.csv", index_col=0)["measured"]
    assert "equal to the last bit" in done.stdout and 0 < parts["finished before the kill"] < parts["runs"] == 8
    labels, run, wire = (parts[name] for name in ("bytes of the labels as sent", "bytes of a finished run",
                                                  "bytes over the wire a run"))
    assert labels < 1000 < run < wire < 100_000


def arrive(labels, root):
    "What a worker gets that has no folder of the client's name, with its own CELEBA_ROOT."
    sent = pickle.loads(pickle.dumps(SentLabels(labels)))
    sent.root = root
    return sent


def test_a_worker_reads_its_own_copy(faces, tmp_path, monkeypatch):
    labels, copy = read_celeba(faces), shutil.copytree(faces, tmp_path / "copy")
    monkeypatch.setenv("CELEBA_ROOT", str(copy))
    here = arrive(labels, Path("nowhere")).read()
    assert here.root == copy and here.fingerprint == labels.fingerprint and here.attributes.equals(labels.attributes)
    monkeypatch.delenv("CELEBA_ROOT")
    assert arrive(labels, copy).read().root == copy  # without CELEBA_ROOT: the folder of the client's name


@pytest.mark.parametrize("change, said", [
    (lambda first, second: first.unlink(), "381 images, another number"),
    (lambda first, second: shutil.copy(second, first), "382 images, as many, but other names, splits, answers or pixels")])
def test_a_wrong_copy_is_told_by_machine_and_folder(change, said, faces, tmp_path, monkeypatch):
    other = shutil.copytree(faces, tmp_path / "other")
    change(*sorted(other.glob("img_align_celeba/*"))[:2])
    monkeypatch.setenv("CELEBA_ROOT", str(other))
    with pytest.raises(DataError) as caught:
        arrive(read_celeba(faces), Path("nowhere")).read()
    for part in (f"machine {platform.node()}: no copy of the study's data, 382 images", f"{other}: {said}",
                 "nowhere: there is no such folder", "start its workers with CELEBA_ROOT set to it"):
        assert part in str(caught.value)


def test_labels_that_no_folder_has_travel_with_the_run(faces):
    some = read_celeba(faces).take(np.arange(50))
    there = arrive(some, Path("nowhere")).read()
    assert there.fingerprint == some.fingerprint and there.attributes.equals(some.attributes)


def test_a_log_file_gets_lines(faces, tmp_path):
    with open(tmp_path / "log.txt", "w") as log:
        command = [str(CLI), "study", "--root", str(faces), "--train-images", "64", "--size", "16", "--epochs", "1",
                   "--seeds", "2"]
        assert subprocess.run([*command, "--out", str(tmp_path / "study")], stdout=log, stderr=log, timeout=300).returncode == 0
    text = (tmp_path / "log.txt").read_text()
    assert "\r" not in text and "8 runs" in text and "8/8 (100%)" in text
    assert sum("%)" in line for line in text.splitlines()) <= 4 + 2  # a bar has a first and a last line


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="private memory is read from /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "memory.py", "--images", 20_000, "--size", 16, "--json", tmp_path / "m.json"]
    done = call(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["more_mb"] < 100 and found["many"]["images"] == 20_100


def test_fastai_is_timed_like_the_others(faces, tmp_path):
    pytest.importorskip("fastai", reason="needs the extra `bench`")
    options = ["--root", faces, "--train-images", 32, "--valid-images", 16, "--test-images", 16, "--size", 32, "--epochs", 2]
    done = call(sys.executable, "-W", "ignore", ROOT / "benchmarks" / "with_fastai.py", *options, "--json", tmp_path / "f.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text())
    assert len(found["valid_accuracy"]) == 2 and found["seconds"] > 0 and 0 < found["test_accuracy"] < 1
