"""Killed, interrupted, out of space, without permission, or damaged: a study goes on from there, to the same bits.

The short version is part of `make test`; `make faults` (CELEBA_NB_FAULTS=full) kills and damages far more often, and prints
the figures of docs/faults.md.
"""
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Command, draw, kind_of, run, start_traced, strace_problem, traced_calls
from joblib import Parallel, delayed

from celeba_nb import runs, training, workers
from celeba_nb.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from celeba_nb.core import TrainingError, WriteError
from celeba_nb.fileio import run_lock
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache
from celeba_nb.loop import Callback
from celeba_nb.recipe import Recipe, run_id
from celeba_nb.run import load, resolve
from celeba_nb.sketch import make_sketch
from celeba_nb.state import new_state
from celeba_nb.study import Study, study_recipes
from celeba_nb.training import differences, train

FULL = os.environ.get("CELEBA_NB_FAULTS") == "full"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks are Unix's")


def times(short, full):
    return full if FULL else short


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "Faces, and the folders of this file's attempts."
    folder = tmp_path_factory.mktemp("faults")
    make_sketch(folder / "faces", 32, 8, 8, progress=False)
    return folder


def new_folder(place, name):
    "A folder with an empty cache."
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place))
    (folder / "cache").mkdir()
    return folder


def study_command(place, folder):
    sizes = ["--train-images", 16, "--size", 16, "--epochs", 2, "--seeds", 1, "--threads", 1]
    return ["study", "--root", place / "faces", *sizes, "--out", folder / "out", "--json", folder / "result.json"]


def train_command(place, folder):
    sizes = ["--train-images", 32, "--size", 16, "--epochs", 3, "--threads", 1, "--batch-size", 8, "--ema-decay", 0.9]
    return ["train", "--root", place / "faces", *sizes, "--out", folder / "out" / "model", "--json", folder / "result.json"]


COMMANDS = {"study": study_command, "train": train_command}


def records(folder):
    "The finished runs: name -> when its recipe was written."
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "out").glob("[!.]*/recipe.json")}


def result(folder):
    "All that must be equal, bit for bit: the tables, and each run's history, predictions and weights."
    told = json.loads((folder / "result.json").read_text())
    told.pop("seconds")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "out").glob("[!.]*/*")
             if path.name in ("history.csv", "predictions.npz", "weights.safetensors")}
    return told, files


def check_what_is_there(folder):
    "Nothing incomplete has a final name."
    for name in records(folder):
        load(folder / "out" / name)
    for path in (folder / "cache" / "images").glob("*/*.images"):
        header = path.read_bytes().split(b"\n")[0]
        assert path.stat().st_size == len(header) + 1 + json.loads(header)["images"] * (16 * 16 * 3 + 4)
    for path in (folder / "out").glob("*.csv"):
        assert path.read_text().endswith("\n")


def phase(folder):
    "What a command was doing, as its files tell."
    out, done = folder / "out", len(records(folder))
    if not list((folder / "cache" / "images").glob("*/*.images")):
        return "before the images were decoded"
    if list(out.glob(".*.checkpoint.safetensors.*")):
        return "while a checkpoint was written"
    if (out / "runs.csv").exists() or list(out.glob(".*csv*")):
        return "while the tables were written"
    if [path for path in out.glob(".*") if path.is_dir()]:
        return "while a record was written"
    if list(out.glob("*.checkpoint.safetensors")):
        return "between checkpoints"
    return f"after {done} runs" if done else "in the first run"


@pytest.fixture(scope="module")
def undisturbed(place):
    "Command -> (its result, seconds that it took)."
    found = {}
    run(["--help"], new_folder(place, "first"))  # the process that forks has now imported everything
    for name, command in COMMANDS.items():
        folder = new_folder(place, "whole")
        began = time.monotonic()
        code, printed = run(command(place, folder), folder)
        assert code == 0, printed
        found[name] = result(folder), time.monotonic() - began
    return found


class Attempts:
    "Starts a command again and again in one folder until it is finished, and looks at what is there each time."

    def __init__(self, place, name, undisturbed):
        self.place, self.name, self.whole, self.seconds = place, name, *undisturbed[name]
        self.begin()

    def begin(self):
        self.folder, self.kept, self.stops = new_folder(self.place, self.name), {}, 0
        self.arguments = COMMANDS[self.name](self.place, self.folder)

    def options(self):
        return {"counted": self.folder / "trainings"}

    def stopped(self):
        "After a stop: what was finished before is unchanged, and nothing incomplete is there."
        self.stops += 1
        assert self.kept.items() <= records(self.folder).items()
        check_what_is_there(self.folder)
        self.kept = records(self.folder)

    def finish(self):
        "To the end, and the result is the undisturbed one."
        code, printed = run(self.arguments, self.folder, **self.options())
        assert code == 0, printed
        self.finished()

    def finished(self):
        assert self.kept.items() <= records(self.folder).items()
        assert result(self.folder) == self.whole
        left = {path.name for path in (self.folder / "out").iterdir() if path.name.startswith(".")}
        small = [name for name in left if name.startswith((".runs", ".table", ".effects", ".study")) or name.endswith(".lock")]
        assert left == set(small)
        counted = self.folder / "trainings"
        if self.name == "study":
            often = Counter(counted.read_text().split())
            assert len(often) == len(records(self.folder)) and sum(often.values()) <= len(often) + self.stops
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_any_moment(name, stop, place, undisturbed, figure):
    "At moments drawn at random, from the beginning to the end of the command."
    chance, todo, phases = draw(f"{name} {stop}"), times(2, 50 if stop == signal.SIGKILL else 20), Counter()
    attempts, total = Attempts(place, name, undisturbed), todo
    while todo:
        command = Command(attempts.arguments, attempts.folder, **attempts.options())
        command.begin(said=stop == signal.SIGINT)  # while Python still loads, Ctrl-C is answered by Python
        time.sleep(chance.uniform(0, attempts.seconds * chance.choice([0.3, 1])))  # tables and picture take most of the time
        command.send(stop)
        code = command.wait(60)
        if code == 0 or stop == signal.SIGINT and (attempts.folder / "result.json").exists():  # it was quicker
            attempts.finished()
            attempts.begin()
            continue
        todo -= 1
        phases[phase(attempts.folder)] += 1
        if stop == signal.SIGINT:
            printed = command.printed
            assert code == 130 and "run the same command to continue" in printed and "Traceback" not in printed, printed
        else:
            assert code == -stop
        attempts.stopped()
    attempts.finish()
    figure(f"`{name}` stopped by {stop.name} at a random moment, and started again to the same bits", total, dict(phases))


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_a_write(name, place, undisturbed, figure):
    "At calls that write, drawn at random among those that an undisturbed command makes."
    if problem := strace_problem():
        pytest.skip(problem)
    folder = new_folder(place, "traced")
    command, tracer = start_traced(COMMANDS[name](place, folder), folder, folder / "log")
    assert command.wait(300) == 0, command.printed
    tracer.wait(30)
    calls = traced_calls(folder / "log", folder)
    main = Counter(thread for thread, *_ in calls).most_common(1)[0][0]
    kinds = {}
    for thread, number, call, path in calls:
        if thread == main and path and path.startswith(("cache/", "out/", "result", ".result")):
            kinds.setdefault(f"{call} {kind_of(path)}", []).append((call, number))
    chance, hit = draw(f"{name} writes"), Counter()
    points = [chance.choice(kinds[kind]) for _ in range(2) for kind in chance.sample(sorted(kinds), len(kinds))]
    points = points[: times(3, len(points))]  # of each kind two
    attempts = Attempts(place, name, undisturbed)
    for point in points:
        log = attempts.folder / "log"
        command, tracer = start_traced(attempts.arguments, attempts.folder, log, point, **attempts.options())
        code = command.wait(300)
        tracer.wait(30)
        if code == 0:  # fewer calls than that are left to be made
            attempts.finished()
            attempts.begin()
            continue
        assert code == -signal.SIGKILL, command.printed
        last = traced_calls(log, attempts.folder)[-1]
        hit[f"{last[2]} {kind_of(last[3] or 'elsewhere')}"] += 1
        attempts.stopped()
        if chance.random() < 0.8:
            attempts.finish()
            attempts.begin()
    attempts.finish()
    figure(f"`{name}` killed at a call that writes, and started again to the same bits", sum(hit.values()), dict(hit))


def test_two_at_once(place, undisturbed, figure):
    "Two studies in one folder: no run is lost, none is made twice, and one may be killed."
    whole, seconds = undisturbed["study"]
    chance, rounds = draw("two"), times(1, 10)
    for turn in range(rounds):
        folder = new_folder(place, "two")
        arguments, counted = study_command(place, folder), folder / "trainings"
        both = [Command([*arguments[:-1], folder / f"result{i}.json"], folder, counted=counted) for i in range(2)]
        killed = turn % 2 == 1
        if killed:
            time.sleep(chance.uniform(0, seconds))
            both[0].send(signal.SIGKILL)
        codes = [command.wait(300) for command in both]
        assert codes[1] == 0 and codes[0] in ((-signal.SIGKILL, 0) if killed else (0,)), [c.printed for c in both]
        (folder / "result1.json").rename(folder / "result.json")
        assert result(folder) == whole
        often = Counter(counted.read_text().split())
        assert len(often) == 4 and sum(often.values()) <= 4 + killed
        shutil.rmtree(folder)
    figure("two studies at once in one folder, one of them killed in every second turn: the same bits, no run made twice", rounds)


def test_a_killed_worker_is_told_in_one_line(tmp_path):
    with pytest.raises(TrainingError, match="was killed, perhaps because memory ran out") as caught:
        with runs._broken_workers(tmp_path):
            Parallel(2)(delayed(os._exit)(1) for _ in range(2))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    for error, seen in ((type("KilledWorker", (Exception,), {}), TrainingError), (KeyError, KeyError)):  # the first is Dask's
        with pytest.raises(seen), runs._broken_workers(tmp_path):
            raise error


def test_a_second_training_into_the_same_folder_is_refused(place):
    folder = new_folder(place, "second")
    (folder / "out").mkdir()
    with run_lock(folder / "out" / "model"):
        code, printed = run(train_command(place, folder), folder)
    assert code == 1 and "another process is at work on" in printed and "Traceback" not in printed


# ---- no room, no right


def one_clear_error(code, printed, path):
    lines = [line for line in printed.strip().splitlines() if line.startswith("Error: ")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in printed, printed
    assert str(path) in lines[0] and "can't be written" in lines[0], printed
    return lines[0]


def nothing_half_made(folder):
    hidden = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".part", ".unfinished")) or
              path.name.startswith(".") and not path.name.endswith(".lock")]
    assert not hidden
    check_what_is_there(folder)


STEPS = {  # what is written -> command, what was made before, the largest file that may be written, what the error names
    "decoded images": ("study", [], 10_000, "cache/images"),
    "record": ("study", ["cache"], 1_500, "out/"),
    "tables": ("study", ["cache", "out"], 300, "out/runs.csv"),
    "picture": ("study", ["cache", "out"], 20_000, "out/study.png"),
    "checkpoint": ("train", ["cache"], 1_000_000, "out/model.checkpoint.safetensors"),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_space(step, place, undisturbed, figure):
    "The limit for a file's size stands for a full disk: the system refuses to write on."
    name, before, limit, named = STEPS[step]
    folder = new_folder(place, "full")
    arguments = COMMANDS[name](place, folder)
    if before:
        assert run(arguments, folder)[0] == 0
        (folder / "result.json").unlink()
        if "out" not in before:
            shutil.rmtree(folder / "out")
    for path in [*(folder / "out").glob("*.csv"), *(folder / "out").glob("*.png")]:
        path.unlink()
    kept = records(folder)
    code, printed = run(arguments, folder, file_limit=limit)
    one_clear_error(code, printed, folder / named)
    nothing_half_made(folder)
    assert kept.items() <= records(folder).items()
    assert run(arguments, folder)[0] == 0
    assert result(folder) == undisturbed[name][0]
    figure("writing steps at which the disk was full: one error that names the file, then the same bits", 1)


def test_no_space_for_sketch_faces_and_json(place, figure):
    folder = new_folder(place, "full")
    few = ["sketch", folder / "faces", "--train-images", 4, "--valid-images", 1, "--test-images", 1]
    one_clear_error(*run(few, folder, file_limit=2_000), folder / "faces")
    assert not [path for path in folder.iterdir() if "faces" in path.name]
    assert run(few, folder)[0] == 0 and len(read_celeba(folder / "faces")) == 6
    code, printed = run(train_command(place, folder), folder)
    assert code == 0, printed
    asked = ["evaluate", folder / "out" / "model", "--root", place / "faces", "--json", folder / "small" / "test.json"]
    shutil.rmtree(folder / "cache" / "images")  # so that the test images are decoded again
    one_clear_error(*run(asked, folder, file_limit=3_000), folder / "cache")
    assert run([*asked[:-1], folder / "first.json"], folder)[0] == 0
    one_clear_error(*run(asked, folder, file_limit=500), folder / "small" / "test.json")
    assert not list((folder / "small").iterdir())
    figure("writing steps at which the disk was full: one error that names the file, then the same bits", 3)


@pytest.mark.parametrize("closed", ["cache", "out", "json"])
def test_not_allowed_to_write(closed, place, undisturbed, figure):
    "In a folder that is read-only: root may write there all the same, so it gives up that right."
    folder = new_folder(place, "closed")
    for name in ("out", "json"):
        (folder / name).mkdir()
    arguments = study_command(place, folder)
    arguments[-1] = folder / "json" / "result.json"
    (folder / closed).chmod(0o555)
    code, printed = run(arguments, folder, ordinary=True)
    if "capset" in printed or "capget" in printed:
        pytest.skip(f"root can't give up its privileges here ({printed.splitlines()[-1]})")
    one_clear_error(code, printed, folder / closed)
    (folder / closed).chmod(0o755)
    assert run(arguments, folder, ordinary=True)[0] == 0
    shutil.copy(folder / "json" / "result.json", folder)
    assert result(folder) == undisturbed["study"][0]
    figure("writing steps at which the folder was read-only: one error that names the file, then the same bits", 1)


def test_no_right_to_make_sketch_faces(place, figure):
    folder = new_folder(place, "closed")
    few = ["sketch", folder / "json" / "faces", "--train-images", 1, "--valid-images", 1, "--test-images", 1]
    (folder / "json").mkdir(mode=0o555)
    code, printed = run(few, folder, ordinary=True)
    if "capset" in printed or "capget" in printed:
        pytest.skip(f"root can't give up its privileges here ({printed.splitlines()[-1]})")
    one_clear_error(code, printed, folder / "json" / "faces")
    (folder / "json").chmod(0o755)
    assert run(few, folder, ordinary=True)[0] == 0
    figure("writing steps at which the folder was read-only: one error that names the file, then the same bits", 1)


# ---- damaged files


def spoil(path, chance):
    "Flip a bit, or cut the file off; says which."
    data = bytearray(path.read_bytes())
    if chance.random() < 0.25:
        path.write_bytes(data[: chance.randrange(len(data))])
        return "cut off"
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return "a bit flipped"


def warned(action, *arguments, **options):
    "(what it gives, what it warned of)"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return action(*arguments, **options), [str(warning.message) for warning in said if warning.category is UserWarning]


def test_damaged_images_are_made_anew(place, tmp_path, figure):
    labels = read_celeba(place / "faces")
    cache = ImageCache(labels, 16, folder=tmp_path, progress=False)
    (path,) = tmp_path.rglob("*.images")
    pixels, file, chance = cache[cache.rows], path.read_bytes(), draw("images")
    for _ in range(times(20, 500)):
        path.write_bytes(file[: chance.randrange(len(file))])
        got, said = warned(lambda: ImageCache(labels, 16, folder=tmp_path, progress=False)[cache.rows])
        assert (got == pixels).all() and path.read_bytes() == file
        assert len(said) == 1 and path.name in said[0] and "decoded again" in said[0], said
    figure("files of decoded images that were cut off, each named and made anew", times(20, 500))


def test_damaged_records_are_made_again(place, tmp_path, monkeypatch, figure):
    labels = read_celeba(place / "faces")
    recipes = {"a": Recipe(train_images=8, size=16, epochs=1, threads=1, precision="float32", memory_format="channels_last")}
    runs = Study(recipes, 1, tmp_path / "runs").run(labels, progress=False, weights=True)
    (name,) = [path.name for path in (tmp_path / "runs").iterdir()]
    record, whole, chance, kinds = tmp_path / "runs" / name, runs.runs["a", 0], draw("records"), Counter()
    weights = (record / "weights.safetensors").read_bytes()
    shutil.copytree(record, tmp_path / "kept")
    monkeypatch.setattr(workers, "train", lambda *args, **options: load(tmp_path / "kept"))  # the same bits, sooner
    for turn in range(times(20, 500)):
        file = sorted(record.iterdir())[turn % len(list(record.iterdir()))]
        kinds[f"{file.name}: {spoil(file, chance)}"] += 1
        again, said = warned(Study(recipes, 1, tmp_path / "runs").run, labels, progress=False, weights=True)
        assert len(said) == 1 and str(record) in said[0] and "made again" in said[0], (file.name, said)
        assert differences(whole, again.runs["a", 0]) == {}
        assert (record / "weights.safetensors").read_bytes() == weights
        for aside in (tmp_path / "runs").glob("*.damaged-*"):
            shutil.rmtree(aside)
    figure("damaged records, each named, put aside and made again", sum(kinds.values()), dict(kinds))


def test_damaged_checkpoints_are_not_used(place, tmp_path, figure):
    labels = read_celeba(place / "faces")
    recipe = resolve(Recipe(train_images=8, size=8, epochs=2, threads=1, precision="float32", memory_format="contiguous",
                                        model_args={"hidden": 8}), labels)
    state = new_state(recipe, 1)
    path = tmp_path / "model.checkpoint.safetensors"
    save_checkpoint(state, path, "a name")
    whole, chance, kinds = path.read_bytes(), draw("checkpoints"), Counter()
    load_checkpoint(new_state(recipe, 1), path, "a name")
    for _ in range(times(50, 1000)):
        path.write_bytes(whole)
        kinds[spoil(path, chance)] += 1
        begun = new_state(recipe, 1)
        _, said = warned(training._resume, begun, Checkpoint(path, "a name"))
        assert begun.epoch == 0 and len(said) == 1 and str(path) in said[0] and "starts from the beginning" in said[0], said
    figure("damaged checkpoints, each named and not used", sum(kinds.values()), dict(kinds))


# ---- numbers that go wrong


@pytest.fixture(scope="module")
def labels(place):
    return read_celeba(place / "faces")


def tiny(**choices):
    return Recipe(**{"train_images": 16, "size": 16, "epochs": 1, "threads": 1, "precision": "float32",
                           "memory_format": "channels_last"} | choices)


def refused(call, *arguments, **options):
    with pytest.raises(TrainingError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("lr", [0, -0.0, float("nan"), float("inf"), -1, True, "0.1", None])
def test_a_rate_that_is_none_is_refused(lr):
    assert refused(Recipe, lr=lr).startswith("recipe: lr must be ")


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("lr", [1e6, 1e30, 1e-300])
def test_an_absurd_rate_gives_numbers_or_a_clear_error(lr, optimizer, labels):
    "No record holds a loss that is not a number."
    try:
        run = train(tiny(lr=lr, optimizer=optimizer, epochs=3), labels, progress=False)
    except TrainingError as error:
        assert "not a finite number any more" in str(error) and f"below {lr}" in str(error)
    else:
        assert np.isfinite(run.history.to_numpy()).all() and np.isfinite(list(run.metrics.values())).all()
        assert all(np.isfinite(value).all() for value in run.predictions.values())


def test_weights_spoilt_by_the_last_step_are_noticed(labels, monkeypatch):
    "The loss of a step is worked out before the step spoils the weights: the look at the validation images tells."
    class Spoil(Callback):
        def on_step(self, state):
            if state.batch == state.steps:
                for weight in state.net.parameters():
                    weight.data.fill_(float("nan"))

    assert "validation loss is not a finite number" in refused(train, tiny(), labels, callbacks=(Spoil(),), progress=False)


def with_labels(labels, change):
    "The same images with different answers."
    attributes = labels.attributes.copy()
    change(attributes)
    return replace(labels, attributes=attributes)


def set_rows(labels, split, value):
    def change(attributes):
        attributes.iloc[labels.rows(split)] = value
    return with_labels(labels, change)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("value", [True, False])
def test_attributes_that_are_constant_in_a_split(split, value, labels):
    "Classes that are absent: the run has its numbers; what needs both classes is not a number, and JSON says null."
    from celeba_nb.metrics import metrics_table

    constant = set_rows(labels, split, value)
    run = train(tiny(), constant, progress=False)
    assert np.isfinite(list(run.metrics.values())).all()
    truth, base = run.predictions["test_truth"], constant.attributes.to_numpy()[constant.rows("train")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = metrics_table(run.predictions["test"], truth, base, list(constant.attributes))
    assert 0 <= found["accuracy"] <= 1 and np.isnan(found["balanced_accuracy"]) == (split == "test")


def test_one_image_in_each_split(tmp_path):
    one = read_celeba(make_sketch(tmp_path / "one", 1, 1, 1, progress=False))
    run = train(tiny(train_images=1), one, progress=False)
    assert run.predictions["test"].shape == (1, 40) and np.isfinite(list(run.metrics.values())).all()
    recipes = study_recipes(train_images=1, size=16, epochs=1, threads=1)
    studied = Study(recipes, 2, tmp_path / "runs").run(one, progress=False)
    assert set(studied.effects()["verdict"]) == {"too few seeds to tell"}


def test_a_batch_larger_than_the_data(labels):
    run = train(tiny(batch_size=1000), labels, progress=False)
    assert len(run.history) == 1 and np.isfinite(list(run.metrics.values())).all()


def test_more_images_than_there_are(labels):
    with pytest.raises(Exception, match="33 train images .* there are 32. Ask for 1 to 32 images") as caught:
        train(tiny(train_images=33), labels, progress=False)
    assert type(caught.value).__name__ == "DataError"


def test_a_device_that_is_not_there(labels):
    if not torch.cuda.is_available():
        assert "no cuda" in refused(train, tiny(device="cuda"), labels, progress=False)


# ---- made again


def test_reproduce_in_another_process(place, undisturbed, figure):
    "A record of one process is made again by another, bit for bit; a record that was changed is detected."
    folder = new_folder(place, "again")
    assert run(study_command(place, folder), folder)[0] == 0
    names = sorted(records(folder))[: times(1, 4)]
    for name in names:
        asked = ["reproduce", folder / "out" / name, "--root", place / "faces"]
        code, printed = run(asked, folder)
        assert code == 0 and "The same, bit for bit" in printed and "celeba-nb study" in printed, printed
    figure("records that another process made again, bit for bit", len(names))


OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}


def test_another_processor(place, figure):
    "The same recipe with the instructions of a processor of 2008, instead of on a different machine: how far apart are they?"
    folder = new_folder(place, "other")
    assert run([*train_command(place, folder), "--precision", "float32"], folder)[0] == 0  # bfloat16 rounds more
    asked = ["reproduce", folder / "out" / "model", "--root", place / "faces", "--json", folder / "told.json"]
    told = subprocess.run([sys.executable, "-c", "from celeba_nb.cli import app; app()", *asked], capture_output=True, text=True,
                          env={**os.environ, **OLDER, "CELEBA_NB_CACHE": str(folder / "cache")}, timeout=300)
    assert told.returncode in (0, 3), told.stderr
    found = json.loads((folder / "told.json").read_text())
    apart = max(found["differences"].get(f"predictions {key}", 0) for key in ("valid", "test", "test_mirrored"))
    assert found["same"] == (told.returncode == 0) and apart < 1e-3
    figure("largest difference of a probability, in millionths, with a processor's instructions of 2008", math.ceil(1e6 * apart))


def test_another_number_of_threads(labels, figure):
    "It is a different run; the sums are done in a different order, so the last digits differ, and no more than that."
    one, two = (train(tiny(threads=threads, epochs=3), labels, progress=False) for threads in (1, 2))
    found = differences(one, two)
    apart = max(found.get(f"predictions {key}", 0) for key in ("valid", "test", "test_mirrored"))
    assert apart < 1e-3
    figure("largest difference of a probability, in millionths, with two threads in place of one", math.ceil(1e6 * apart))


def test_threads_are_part_of_the_recipe(labels):
    "A different number of threads is a different run, with its own name: it never takes the place of this one."
    one, two = (resolve(tiny(threads=threads), labels) for threads in (1, 2))
    assert run_id(one, labels.fingerprint) != run_id(two, labels.fingerprint)


def test_write_error_is_the_packages_own():
    assert issubclass(WriteError, OSError)
