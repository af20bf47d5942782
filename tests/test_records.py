"""Records: what a run's folder holds, which are read, which are damaged, and which come from elsewhere."""
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

from celeba_nb import core, record, run, training, workers
from celeba_nb.architectures import torchvision_net
from celeba_nb.core import ATTRIBUTES, DamagedError, TrainingError, WriteError
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe, run_id
from celeba_nb.record import FORMAT, array_shapes, record_digest
from celeba_nb.run import Run, data_kind, is_free, load, load_wanted, save
from celeba_nb.runs import find_runs
from celeba_nb.sketch import make_sketch
from celeba_nb.state import build_net
from celeba_nb.study import Study
from celeba_nb.training import checkpoint_path, evaluate, reproduce, train
from celeba_nb.workers import find_folder

OLD = Path(__file__).parent / "old_records"  # written by the version before format 3, on sketch faces, with their logits
FLIP, TEACHER, SMALL_RESNET = "601dfdbb69f765a3", "4851e88fdb3fcae0", "e399e198e74a72cb"
SMALL = {"train_images": 12, "valid_images": 4, "test_images": 4, "size": 16, "epochs": 1, "threads": 1, "device": "cpu",
         "precision": "float32", "memory_format": "channels_last", "model_args": {"hidden": 4, "channels": [2, 2]}}


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return read_celeba(make_sketch(tmp_path_factory.mktemp("records") / "faces", 24, 4, 4, progress=False))


@pytest.fixture(scope="module")
def made(labels, tmp_path_factory):
    "A finished run, and the folder that holds it."
    folder = tmp_path_factory.mktemp("records") / "run"
    return SimpleNamespace(run=train(Recipe(**SMALL), labels, folder, progress=False), folder=folder)


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made.folder, tmp_path / "copy")


def change(folder, **entries):
    "Other entries in a record's recipe.json, with a fitting digest, as a forger would write them."
    about = json.loads((folder / "recipe.json").read_text()) | entries
    about["digest"] = record_digest(folder, about)
    (folder / "recipe.json").write_text(json.dumps(about))


def made_up(recipe, k=40, weights=None, **more):
    "A run of that recipe whose predictions are noise about k attributes."
    rng, arrays = np.random.default_rng(0), {}
    for key, (kind, shape) in array_shapes(recipe, k).items():
        arrays[key] = {"f": rng.random(shape, np.float32), "b": rng.random(shape) > 0.5, "i": np.zeros(shape, int)}[kind]
    history = pd.DataFrame([{"epoch": 1, "train_loss": 0.5, "valid_loss": 0.5, "valid_accuracy": 0.5}])
    return Run(recipe, "data", history, arrays, {"seconds": 1.0}, weights, **more)


# ---- the format


def test_a_record_says_what_it_is_about(made):
    about = json.loads((made.folder / "recipe.json").read_text())
    assert about["format"] == FORMAT == 3 and about["kind"] == "drawn" and about["attributes"] == list(ATTRIBUTES)
    assert about["modules"] == [] and 0 < about["temperature"] <= 20.01 and about["thresholds"] is None
    assert sorted(path.name for path in made.folder.iterdir()) == sorted(["recipe.json", *about["files"]])
    assert load(made.folder).kind == made.run.kind == "drawn"


def test_the_kinds_of_data(labels, tmp_path):
    assert data_kind(labels) == "drawn"
    elsewhere = replace(labels, root=tmp_path)
    assert data_kind(elsewhere) == "CelebA"
    assert data_kind(replace(elsewhere, attributes=labels.attributes[["Smiling", "Young"]])) == "own"


def test_any_number_of_attributes(tmp_path):
    recipe = Recipe(**SMALL | {"model_args": {"hidden": 4, "channels": [2, 2], "attributes": 3}})
    three = made_up(recipe, 3, build_net(recipe).state_dict(), attributes=("A", "B", "C"), kind="own", temperature=1.5,
                    thresholds=[0.1, 0.5, 0.9])
    save(three, tmp_path / "run")
    again = load(tmp_path / "run")
    assert (again.attributes, again.kind, again.temperature) == (("A", "B", "C"), "own", 1.5)
    assert again.thresholds == [0.1, 0.5, 0.9] and again.net()(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    change(tmp_path / "run", attributes=["A", "B"])  # now its predictions are about a different number
    with pytest.raises(DamagedError, match=r"expected floats of the shape \(4, 2\)"):
        load(tmp_path / "run")


@pytest.mark.parametrize("change_of", [{"temperature": -1.0}, {"temperature": "hot"}, {"thresholds": [2.0]}, {"thresholds": 7},
                                       {"files": ["../x"]}, {"files": "metrics.json"}, {"attributes": [1]}, {"data": 7},
                                       {"machine": []}, {"format": "3"}, {"format": 0}])
def test_entries_that_cannot_be(change_of, copy):
    about = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps(about | change_of))
    with pytest.raises(DamagedError):
        load(copy)


def test_evaluate_refuses_other_attributes(made, labels):
    with pytest.raises(TrainingError, match="predicts 40 attributes"):
        evaluate(made.run, replace(labels, attributes=labels.attributes[["Smiling", "Young"]]))


# ---- older formats, older names


@pytest.mark.parametrize("name", [FLIP, TEACHER, SMALL_RESNET])
def test_an_old_record_answers_as_it_did(name):
    "Old field names, old import paths, the old SmallResNet: today's network gives the logits that the old one gave."
    torch.set_num_threads(1)
    x = torch.sin(torch.arange(4 * 3 * 16 * 16, dtype=torch.float32)).reshape(4, 3, 16, 16)
    with torch.inference_mode():
        logits = load(OLD / name).net()(x).numpy()
    assert np.allclose(logits, np.load(OLD / f"{name}.npy"), atol=1e-5)


@pytest.mark.parametrize("sums", [True, False])
def test_the_first_format(sums, tmp_path):
    folder = shutil.copytree(OLD / FLIP, tmp_path / "run")
    about = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps({key: about[key] for key in ("recipe", "data", "machine")} | {"format": 1}))
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    (folder / "SHA256SUMS").unlink()
    if sums:
        (folder / "SHA256SUMS").write_text("\n".join(line for line in lines if "recipe.json" not in line))
    assert load(folder).id == load(OLD / FLIP).id


@pytest.mark.parametrize("file", ["recipe.json", "metrics.json", "history.csv", "predictions.npz", "weights.safetensors"])
def test_the_checksums_of_old_formats_still_count(file, tmp_path):
    folder = shutil.copytree(OLD / FLIP, tmp_path / "run")
    data = bytearray((folder / file).read_bytes())
    data[-3] ^= 4
    (folder / file).write_bytes(data)
    with pytest.raises(DamagedError, match=file):
        load(folder)


@pytest.mark.parametrize("name", [FLIP, TEACHER])
def test_a_run_is_found_under_its_old_id(name, tmp_path):
    old = load(OLD / name)
    assert old.id != name
    assert find_folder(OLD, old.recipe, old.data) == OLD / name
    assert find_folder(tmp_path, old.recipe, old.data) == tmp_path / old.id  # where it would be made
    labels = SimpleNamespace(fingerprint=old.data)
    assert find_runs(OLD, {("a", 0): old.recipe}, labels)["a", 0].metrics == old.metrics


# ---- damaged, or only not to be read


@pytest.mark.parametrize("file", ["recipe.json", "metrics.json", "history.csv", "predictions.npz", "weights.safetensors"])
def test_one_bit_is_enough(file, copy):
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 4
    (copy / file).write_bytes(data)
    with pytest.raises(DamagedError):
        load(copy)
    (copy / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError):
        load(copy, whole=False)
    (copy / file).unlink()
    with pytest.raises(DamagedError, match=f"{file} is missing"):
        load(copy)


def refuse(error):
    def raises(*args, **options):
        raise error
    return raises


UNREADABLE = {
    "rights": lambda monkeypatch: monkeypatch.setattr(Path, "read_text", refuse(PermissionError(errno.EACCES, "no rights"))),
    "stale handle": lambda patched: patched.setattr(record, "record_digest", refuse(OSError(errno.ESTALE, "stale handle"))),
    "memory": lambda monkeypatch: monkeypatch.setattr(pd, "read_csv", refuse(MemoryError())),
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_what_cannot_be_read_is_not_damaged(why, made, labels, tmp_path, monkeypatch):
    "A study stops and says why; the folder stays, under its name, and no run is made."
    folder = shutil.copytree(made.folder, tmp_path / made.run.id)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(workers, "train", refuse(AssertionError("made again")))
    with monkeypatch.context() as broken:
        UNREADABLE[why](broken)
        with pytest.raises(TrainingError, match="can't be read") as caught, warnings.catch_warnings():
            warnings.simplefilter("error")
            Study({"a": Recipe(**SMALL)}, [0], tmp_path).run(labels, progress=False)
    assert not isinstance(caught.value, DamagedError) and "damaged" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert Study({"a": Recipe(**SMALL)}, [0], tmp_path).run(labels, progress=False).runs["a", 0].metrics == made.run.metrics


@pytest.mark.parametrize("entries, said", [
    ({"format": 99}, "format 99"), ({"prepared": {"resize": "nearest"}}, "images prepared as"),
    ({"recipe": {"lrr": 0.1}}, "did you mean 'lr'"), ({"recipe": {"model": "os.system"}}, "os"),
    ({"data": "others"}, "another run")])
def test_another_version_or_another_run_is_left_alone(entries, said, made, labels, tmp_path, monkeypatch):
    folder = shutil.copytree(made.folder, tmp_path / made.run.id)
    change(folder, **entries)
    monkeypatch.setattr(workers, "train", refuse(AssertionError("made again")))
    with pytest.raises(TrainingError, match=said) as caught:
        Study({"a": Recipe(**SMALL)}, [0], tmp_path).run(labels, progress=False)
    assert not isinstance(caught.value, DamagedError) and folder.exists()


def test_a_damaged_run_is_put_aside_and_made_again(made, labels, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / made.run.id)
    (folder / "history.csv").write_bytes(b"")
    with pytest.warns(UserWarning, match="put aside"):
        again = Study({"a": Recipe(**SMALL)}, [0], tmp_path).run(labels, progress=False).runs["a", 0]
    assert np.array_equal(again.predictions["test"], made.run.predictions["test"])
    assert len(list(tmp_path.glob(f"{made.run.id}.damaged-*"))) == 1


def test_the_whole_recipe_must_be_the_one_that_is_wanted(made, labels, tmp_path):
    "An id is 16 digits; a folder may have been renamed by hand."
    other = Recipe(**SMALL | {"lr": 0.5})
    recipe = run.resolve(other, labels)
    folder = shutil.copytree(made.folder, tmp_path / run_id(recipe, labels.fingerprint))
    with pytest.raises(TrainingError, match="another run.*lr differ"):
        Study({"a": other}, [0], tmp_path).run(labels, progress=False)
    with pytest.raises(TrainingError, match="another run.*lr differ"):
        train(other, labels, folder, progress=False)
    assert load_wanted(folder, made.run.recipe, made.run.data).id == made.run.id


# ---- code of one's own

MYLAB = '''
import torch
from torch import nn

class Tiny(nn.Module):
    "Its two layers share one weight: safetensors wants them apart."
    def __init__(self, size, attributes=40):
        super().__init__()
        self.scale = [x.item() for x in torch.linspace(0, 1, 2)]  # impossible without real memory
        self.small = nn.AdaptiveAvgPool2d(4)
        self.first, self.second, self.last = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, attributes)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(self.first(self.small(x).flatten(1)).relu()))

def loss(net, x, y, weight=1.0):
    return weight * nn.functional.binary_cross_entropy_with_logits(net(x).float(), y)

def mirror(x, generator):
    return x.flip(-1)
'''
OWN = {"model": "mylab.Tiny", "model_args": {}, "loss": "mylab.loss", "loss_args": {"weight": 2.0}, "augment": "mylab.mirror"}


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    "A module of one's own, beside the project."
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mylab.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield tmp_path / "code"
    sys.modules.pop("mylab", None)


def test_own_code_from_training_to_report(mylab, labels, tmp_path):
    from celeba_nb.export import export_onnx
    from celeba_nb.photo import predict_photo
    from celeba_nb.report import write_report

    folder = tmp_path / "model"
    first = train(Recipe(**SMALL | OWN), labels, folder, progress=False, every=1)
    assert json.loads((folder / "recipe.json").read_text())["modules"] == ["mylab"]
    assert train(Recipe(**SMALL | OWN), labels, folder, progress=False).metrics == first.metrics  # read, not refused
    again = load(folder, allow=("mylab",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images, no dlib
        assert evaluate(again, labels)["accuracy"] == pytest.approx(first.metrics["test_accuracy"])
        photo = next((labels.root / "img_align_celeba").iterdir())
        assert set(ATTRIBUTES) <= set(predict_photo(photo, again).columns)
    assert reproduce(again, labels, progress=False) == {}
    write_report(folder, tmp_path / "report.html", allow=("mylab",))
    assert "mylab.Tiny" in (tmp_path / "report.html").read_text()
    pytest.importorskip("onnxruntime")
    assert export_onnx(again, tmp_path / "model.onnx") < 1e-4


def test_own_code_in_a_study(mylab, labels, tmp_path):
    "It used to come out empty, with its runs put aside as damaged, each time anew."
    recipes = {"a": Recipe(**SMALL | OWN)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first = Study(recipes, [0], tmp_path / "study").run(labels, progress=False, weights=True)
        assert len(first.metrics()) == 1
        again = Study(recipes, [0], tmp_path / "study").run(labels, progress=False)
    assert again.metrics().equals(first.metrics())
    assert load(tmp_path / "study" / first.runs["a", 0].id, allow=("mylab",)).net()(torch.zeros(1, 3, 16, 16)).shape == (1, 40)


def test_code_of_somebody_else_is_not_imported(mylab, labels, tmp_path):
    "And the error says so, and what to do."
    train(Recipe(**SMALL | OWN), labels, tmp_path / "model", progress=False)
    program = f"""
import sys
from celeba_nb.core import DamagedError, TrainingError
from celeba_nb.run import load
try:
    load({str(tmp_path / "model")!r})
except DamagedError:
    raise AssertionError("it isn't damaged")
except TrainingError as error:
    print(error)
assert "mylab" not in sys.modules
assert load({str(tmp_path / "model")!r}, allow=("mylab",)).net().last.out_features == 40
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {
        "PYTHONPATH": os.pathsep.join([str(mylab), str(Path(__file__).parent.parent)])})
    assert told.returncode == 0, told.stderr
    assert "mylab" in told.stdout and "allow" in told.stdout


# ---- networks from a record


def test_a_network_from_a_record_leaves_the_random_numbers_alone(made):
    before = torch.get_rng_state()
    made.run.net()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_from_a_record_is_whole_and_its_own(made):
    net = made.run.net()
    assert {tensor.device.type for tensor in [*net.parameters(), *net.buffers()]} == {"cpu"}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert not any(torch.equal(net.state_dict()[name], weight) for name, weight in made.run.weights.items())


def test_weights_of_a_different_network_are_refused(made):
    wider = replace(made.run, recipe=replace(made.run.recipe, model_args=made.run.recipe.model_args | {"hidden": 9}))
    with pytest.raises(TrainingError, match="its weights don't fit celeba_nb.model.AttributeCNN"):
        wider.net()


def test_a_record_with_pretrained_weights_needs_no_download(tmp_path, monkeypatch):
    torch.manual_seed(0)
    arguments = {"name": "mobilenet_v3_small", "weights": "DEFAULT"}
    some = mobilenet_v3_small(weights=None).state_dict()
    monkeypatch.setattr(MobileNet_V3_Small_Weights, "get_state_dict", lambda *_, **__: some)
    net = torchvision_net(32, **arguments).eval()
    recipe = Recipe(**SMALL | {"size": 32, "model": "celeba_nb.architectures.torchvision_net", "model_args": arguments})
    save(made_up(recipe, weights=net.state_dict()), tmp_path / "run")
    monkeypatch.setattr(MobileNet_V3_Small_Weights, "get_state_dict", refuse(OSError("no network")))
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(load(tmp_path / "run").net()(x), net(x), atol=1e-5)
    with pytest.raises(TrainingError, match="can't be downloaded"):
        torchvision_net(32, **arguments)


# ---- before an image is decoded


@pytest.mark.parametrize("choices, said", [
    ({"model": "celeba_nb.model.AttributeCCN"}, "AttributeCCN"), ({"loss": "celeba_nb.loop.bec"}, "bec"),
    ({"augment": "celeba_nb.augment.random_flop"}, "random_flop"), ({"model_args": {"hiden": 3}}, "hiden"),
    ({"model_args": {"attributes": 5}}, "40 attributes")])
def test_a_mistake_is_found_before_images_are_decoded(choices, said, labels, monkeypatch):
    monkeypatch.setattr(training, "ImageCache", refuse(AssertionError("decoded")))
    with pytest.raises(TrainingError, match=said):
        train(Recipe(**SMALL | choices), labels, progress=False)


def test_an_empty_folder_is_used(made, labels, tmp_path):
    (tmp_path / "out").mkdir()
    assert is_free(tmp_path / "out") and is_free(tmp_path / "nowhere")
    train(Recipe(**SMALL), labels, tmp_path / "out", progress=False)
    assert load(tmp_path / "out").metrics["test_accuracy"] == made.run.metrics["test_accuracy"]
    assert not is_free(tmp_path / "out") and not checkpoint_path(tmp_path / "out").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(TrainingError, match="holds no run"):
        train(Recipe(**SMALL), labels, tmp_path / "other", progress=False)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]


def test_training_leaves_the_process_as_it_is(labels, tmp_path, monkeypatch):
    "The owner of the process chooses the allocator; a study's worker is our own process."
    asked = []
    monkeypatch.setattr(core, "_call_libc", lambda function, *_: asked.append(function))
    train(Recipe(**SMALL), labels, progress=False)
    assert asked == []
    monkeypatch.setattr(workers, "_end_with", lambda parent: True)
    workers.work_on(run.resolve(Recipe(**SMALL), labels), workers.SentLabels(labels), tmp_path / "no mark", weights=False)
    assert "mallopt" in asked


def test_a_study_reads_predictions_when_they_are_asked_for(made, tmp_path):
    folder = shutil.copytree(made.folder, tmp_path / "run")
    part = load(folder, whole=False)
    assert part.weights is None and set(part.predictions) == set(made.run.predictions)
    assert np.array_equal(part.predictions["test"], made.run.predictions["test"])
    (folder / "predictions.npz").unlink()
    with pytest.raises(DamagedError, match="predictions.npz is missing"):
        part.predictions["valid"]


# ---- the folder of `train`, before the work begins


@pytest.fixture
def untrained(monkeypatch):
    "Fails if the work begins."
    monkeypatch.setattr(training, "new_state", refuse(AssertionError("the work has begun")))


def test_folders_that_are_refused_at_once(labels, tmp_path, monkeypatch, untrained):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "train.log").write_text("mine")
    for folder, error, said in [
            (".", TrainingError, "is the current folder"), ("../here", TrainingError, "is the current folder"),
            ("../dangling", WriteError, "this link leads to"), ("../file", WriteError, "is not a folder"),
            ("../file/model", WriteError, "Not a directory"), ("n" * 241, WriteError, "File name too long"),
            ("../foreign", TrainingError, "has files in it, such as train.log, but holds no run")]:
        with pytest.raises(error, match=said):
            train(Recipe(**SMALL), labels, Path(folder), progress=False)
    assert os.listdir() == []


def test_a_link_to_an_empty_folder_is_followed(made, labels, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    train(Recipe(**SMALL), labels, tmp_path / "link", progress=False)
    assert (tmp_path / "link").is_symlink() and load(tmp_path / "disk").metrics["test_loss"] == made.run.metrics["test_loss"]
    assert train(Recipe(**SMALL), labels, tmp_path / "link", progress=False).id == made.run.id


def test_a_folder_that_cannot_be_replaced_is_filled(made, tmp_path, monkeypatch):
    "Such as a disk that is mounted there; and its rights are those of a new folder."
    def replace_file(source, target, replace=os.replace):
        if Path(source).is_dir():
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(source, target)

    (tmp_path / "beside").mkdir()
    save(made.run, tmp_path / "replaced")
    assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "beside").stat().st_mode
    (tmp_path / "mounted").mkdir()
    inode = (tmp_path / "mounted").stat().st_ino
    monkeypatch.setattr(Path, "rmdir", refuse(OSError(errno.EBUSY, "Device or resource busy")))
    monkeypatch.setattr(os, "replace", replace_file)
    save(made.run, tmp_path / "mounted")
    assert load(tmp_path / "mounted").id == made.run.id and (tmp_path / "mounted").stat().st_ino == inode
    assert sorted(os.listdir(tmp_path)) == ["beside", "mounted", "replaced"]


# ---- a different command for a run that was begun


def stop(state):
    raise KeyboardInterrupt


def begin(labels, folder, monkeypatch, **choices):
    "A run that is stopped after its first epoch."
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(training, "finish", lambda state, batches, labels: stop(state))
        train(Recipe(**SMALL | choices), labels, folder, progress=False)
    assert checkpoint_path(folder).exists() and not folder.exists()


def test_it_says_which_choice_differs(made, labels, tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match=r"another run: lr differs \(0.001 there, 0.5 here\); seed differs \(0 there, 1 here"):
        train(Recipe(**SMALL | {"lr": 0.5, "seed": 1}), labels, made.folder, progress=False)
    folder = tmp_path / "begun"
    begin(labels, folder, monkeypatch)
    with pytest.raises(TrainingError, match=r"another run, which was not finished: epochs differs \(1 there, 2 here\)"):
        train(Recipe(**SMALL | {"epochs": 2}), labels, folder, progress=False)
    others = read_celeba(make_sketch(tmp_path / "others", 24, 4, 4, seed=1, progress=False))
    with pytest.raises(TrainingError, match="not finished: its data differ"):
        train(Recipe(**SMALL), others, folder, progress=False)
    with pytest.raises(TrainingError, match="holds another run: its data differ. Choose"):
        train(Recipe(**SMALL), others, made.folder, progress=False)
    with pytest.raises(TrainingError, match="holds another run: its data differ; seed differs"):
        train(Recipe(**SMALL | {"seed": 1}), others, made.folder, progress=False)


@pytest.mark.parametrize("finished", [True, False])
def test_auto_is_what_the_run_was_begun_with(finished, made, labels, tmp_path, monkeypatch):
    "The same command on a different node goes on, whatever that node would choose."
    folder = tmp_path / "run"
    if finished:
        shutil.copytree(made.folder, folder)
    else:
        begin(labels, folder, monkeypatch)
    monkeypatch.setattr(run, "best_precision", lambda device: "bfloat16")
    monkeypatch.setattr(run, "best_memory_format", lambda device: "contiguous")
    here = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", lambda number, do=torch.set_num_threads: do(here if number == 7 else number))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    auto = Recipe(**SMALL | dict.fromkeys(("device", "precision", "memory_format", "threads"), "auto"))
    again = train(auto, labels, folder, progress=False)
    assert again.id == made.run.id and np.array_equal(again.predictions["test"], made.run.predictions["test"])


def test_a_study_keeps_what_the_first_machine_chose(labels, tmp_path, monkeypatch):
    "Its runs are not made again on a node that would choose otherwise, and new ones are made like them."
    auto = {"a": Recipe(**SMALL | dict.fromkeys(("precision", "memory_format", "threads"), "auto"))}
    monkeypatch.setattr(run, "best_memory_format", lambda device: "contiguous")
    monkeypatch.setattr(run, "best_precision", lambda device: "float32")
    first = Study(auto, 1, tmp_path).run(labels, progress=False)
    monkeypatch.setattr(run, "best_memory_format", lambda device: "channels_last")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "recipe.json").write_text("{}")  # not of this study
    again = Study(auto, 2, tmp_path).run(labels, progress=False)
    assert again.runs["a", 0].id == first.runs["a", 0].id and len(list(tmp_path.iterdir())) == 3
    assert again.runs["a", 1].recipe.memory_format == "contiguous"
    other = Study({"a": replace(auto["a"], lr=0.5)}, 1, tmp_path).run(labels, progress=False)
    assert other.runs["a", 0].recipe.memory_format == "channels_last"  # another study in the same folder


def test_more_threads_than_cores(made, labels, tmp_path, monkeypatch):
    "A record from a larger machine keeps its number; here it runs with what is here."
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    larger = replace(made.run, recipe=replace(made.run.recipe, threads=1000))
    with pytest.warns(UserWarning) as said:
        evaluate(larger, labels)
    assert any("1000 threads are more than this machine's" in str(warning.message) for warning in said)
    assert used[0] == training.count_cores() and larger.recipe.threads == 1000


@pytest.mark.parametrize("choices", [{"threads": 99_999}, {"size": 20_000}, {"seed": 2**64}, {"batch_size": 10**9},
                                     {"epochs": 10**12}, {"unlabeled_batch_size": 10**9}])
def test_numbers_have_bounds(choices, copy):
    with pytest.raises(TrainingError, match=f"{next(iter(choices))} must be less than or equal to"):
        Recipe(**choices)
    about = json.loads((copy / "recipe.json").read_text())
    change(copy, recipe=about["recipe"] | choices)
    with pytest.raises(TrainingError, match="recipe.json: recipe: .* must be less than or equal to"):
        load(copy)


# ---- files from outside


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices of Unix")
@pytest.mark.parametrize("kind", ["pipe", "device", "holes"])
@pytest.mark.parametrize("file", ["recipe.json", "metrics.json", "history.csv", "predictions.npz", "weights.safetensors"])
def test_what_should_not_be_read_is_not(file, kind, copy):
    "It would wait for ever, never end, or fill the memory."
    (copy / file).unlink()
    if kind == "pipe":
        os.mkfifo(copy / file)
    elif kind == "device":
        (copy / file).symlink_to("/dev/zero")
    else:
        with open(copy / file, "wb") as hole:
            hole.truncate(4_000_000_001)
    with pytest.raises(DamagedError, match=f"{file}: (this is not a regular file|4,000,000,001 bytes, more than)"):
        load(copy)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
def test_a_checkpoint_that_is_a_pipe(labels, tmp_path):
    os.mkfifo(checkpoint_path(tmp_path / "run"))
    with pytest.raises(DamagedError, match="not a regular file, so it isn't read"):
        train(Recipe(**SMALL), labels, tmp_path / "run", progress=False)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e38])
def test_weights_that_are_no_numbers(number, made, labels, tmp_path):
    "1e38 is a number; but what the network makes of it isn't."
    from celeba_nb.export import export_onnx
    from celeba_nb.photo import predict_photo

    folder = tmp_path / "run"
    spoilt = {key: torch.full_like(value, number) for key, value in made.run.weights.items()}
    save(replace(made.run, weights=spoilt), folder)
    photo = next((labels.root / "img_align_celeba").iterdir())
    for use in (lambda: evaluate(load(folder), labels), lambda: export_onnx(load(folder), tmp_path / "a.onnx"),
                lambda: predict_photo(photo, load(folder))):
        with pytest.raises(TrainingError, match="are not finite numbers: train it again|pip install"):
            use()
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize("file, old, new", [
    ("history.csv", r"(\n\d+),[^,]+", r"\1,1e308"), ("history.csv", r"(\n\d+),[^,]+", r"\1,-inf"),
    ("metrics.json", r'"seconds": [^,}]+', '"seconds": NaN'), ("metrics.json", r'"test_loss": [^,}]+', '"test_loss": 1e308'),
    ("recipe.json", '"Young"', r'"\\ud800"'), ("recipe.json", '"system": "[^"]*"', r'"system": "\\udfff"'),
    ("recipe.json", '"Young"', '"Male"'), ("recipe.json", '"kind": "drawn"', '"kind": "stolen"')])
def test_numbers_and_texts_that_cannot_be(file, old, new, copy):
    from celeba_nb.report import write_report

    text = (copy / file).read_text()
    assert (changed := re.sub(old, new, text)) != text
    (copy / file).write_text(changed)
    change(copy)
    for use in (load, lambda folder: write_report(folder, copy / "page.html")):
        with pytest.raises(DamagedError, match=file):
            use(copy)


def test_losses_that_are_no_numbers(made, tmp_path):
    predictions = dict(made.run.predictions) | {"test_losses": np.full(4, np.nan, np.float32)}
    save(replace(made.run, predictions=predictions), tmp_path / "run")
    with pytest.raises(DamagedError, match="test_losses has numbers that are negative or not finite"):
        load(tmp_path / "run")


def test_a_study_is_not_a_run(made, tmp_path):
    save(made.run, tmp_path / made.run.id, weights=False)
    (tmp_path / "runs.csv").write_text("")
    with pytest.raises(TrainingError, match=f"holds no run, but a study: .*such as .*{made.run.id}"):
        load(tmp_path)
    with pytest.raises(TrainingError, match="its weights were not kept, as in a study"):
        load(tmp_path / made.run.id).net()


# ---- a machine that starts no processes


@pytest.mark.parametrize("variables", [{"JOBLIB_MULTIPROCESSING": "0"}])
def test_a_study_without_processes(variables, labels, tmp_path):
    program = f"""
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.study import Study
labels = read_celeba({str(labels.root)!r})
done = Study({{"a": Recipe(**{SMALL})}}, [0, 1], {str(tmp_path / "study")!r}).run(labels, progress=False)
assert len(done.runs) == 2
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
