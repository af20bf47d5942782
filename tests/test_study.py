"""A study that is killed and started again gives the table of an undisturbed one, and repeats no finished run."""
import json
import signal
import subprocess
import sys
import time

import pytest

from celeba_nb.sketch import make_sketch

ANSWERS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # to Ctrl-C, also where its parent doesn't
CLI = [sys.executable, "-c", f"{ANSWERS}; from celeba_nb.cli import app; app()"]
SMALL = ["--train-images", "64", "--size", "32", "--epochs", "1", "--seeds", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_sketch(tmp_path_factory.mktemp("study") / "faces", 200, 30, 40, progress=False)


def start(faces, folder):
    with open(folder.with_suffix(".txt"), "w") as printed:  # no pipe: workers of a killed study would keep it open for a while
        return subprocess.Popen([*CLI, "study", "--root", faces, *SMALL, "--out", folder, "--json", folder.with_suffix(".json")],
                                stdout=printed, stderr=subprocess.STDOUT)


def finish(faces, folder):
    assert start(faces, folder).wait(timeout=300) == 0, folder.with_suffix(".txt").read_text()
    return json.loads(folder.with_suffix(".json").read_text())


def finished_runs(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*/recipe.json")}


def wait_for_runs(process, folder, number):
    for _ in range(2000):
        if len(finished_runs(folder)) >= number or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    "What the undisturbed study prints."
    return finish(faces, tmp_path_factory.mktemp("undisturbed") / "whole")


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_study(faces, whole, tmp_path, stop):
    process = start(faces, tmp_path / "stopped")
    wait_for_runs(process, tmp_path / "stopped", 4)
    process.send_signal(stop)
    process.wait(timeout=60)
    printed = (tmp_path / "stopped.txt").read_text()
    kept = finished_runs(tmp_path / "stopped")
    assert process.returncode != 0 and 4 <= len(kept) < 12, printed
    if stop == signal.SIGINT:
        assert process.returncode == 130 and "run the same command to continue" in printed and "Traceback" not in printed
    resumed = finish(faces, tmp_path / "stopped")
    assert all(resumed[key] == whole[key] for key in ("rows", "effects", "effects_other"))
    after = finished_runs(tmp_path / "stopped")
    assert len(after) == 12 and kept.items() <= after.items()


GROWING = """
import sys
from joblib import parallel_config
from celeba_nb.study import Study
from celeba_nb.files import read_celeba
from celeba_nb.sketch import draw_all, plan_faces
from celeba_nb.recipe import Recipe

list(draw_all(plan_faces((400, 1, 1), seed=0)))  # by processes that have no use for PyTorch
labels = read_celeba(sys.argv[1])
with parallel_config(n_jobs=2):
    for size in (16, 128):  # the second uses some 500 MB more
        sizes = {"a": Recipe(train_images=64, size=size, epochs=1, threads=1, precision="float32", memory_format="channels_last")}
        Study(sizes, 6, sys.argv[2]).run(labels, progress=False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is only kept, and given back, on Linux")
def test_workers_are_kept_from_drawing_and_small_runs_to_large_ones(faces, tmp_path):
    done = subprocess.run([sys.executable, "-c", GROWING, faces, tmp_path / "runs"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "worker stopped" not in done.stderr  # joblib takes a worker that has grown by 300 MB for a leak
