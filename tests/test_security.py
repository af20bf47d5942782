"""Nothing that is loaded can run code, and nothing here calls the network."""
import ast
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import urllib.request
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from layouts import as_csv, as_parquet, as_text, as_zip
from safetensors.torch import save_file
from signed import sign

from celeba_nb.checkpoint import read_checkpoint
from celeba_nb.core import DamagedError, DataError, TrainingError, import_object
from celeba_nb.data import download_celeba
from celeba_nb.files import read_celeba
from celeba_nb.images import ImageCache, decode
from celeba_nb.recipe import Recipe, _is_part, recipe_from_dict
from celeba_nb.run import load
from celeba_nb.sketch import make_sketch
from celeba_nb.training import train
from tools.notebooks import ROOT

SOURCES = sorted((ROOT / "celeba_nb").glob("*.py"))
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib.load", "torch.load", "pandas.read_pickle",
             "yaml"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}


# ---- what is in the sources


def loads_code(tree):
    "Each place in a module that could run what it reads."
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node).replace("pd.", "pandas.")]
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in BUILT_IN:
                yield f"line {node.lineno}: {node.func.id}()"
            called = ast.unparse(node.func)
            told = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if told.get("allow_pickle", "False") != "False":  # NumPy's own default is to refuse
                yield f"line {node.lineno}: {called} with allow_pickle"
            if told.get("shell") == "True" or called in ("os.system", "os.popen"):
                yield f"line {node.lineno}: {called} with a shell"
            if told.get("weights_only") == "False":
                yield f"line {node.lineno}: {called} with weights_only=False"
        yield from (f"line {node.lineno}: {name}" for name in names if name in RUNS_CODE or name.split(".")[0] in RUNS_CODE)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_loads_code(path):
    assert list(loads_code(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("text", [
    "import pickle", "from pickle import loads", "import torch\ntorch.load(x)", "from torch import load",
    "np.load(x, allow_pickle=True)", "pd.read_pickle(x)", "eval(x)", "exec(x)", "__import__(x)", "import joblib\njoblib.load(x)",
    "subprocess.run(x, shell=True)", "os.system(x)", "torch.hub.load_state_dict_from_url(x, weights_only=False)", "import yaml"])
def test_the_search_finds(text):
    assert list(loads_code(ast.parse(text)))


def test_bandits_rules():
    "Ruff's S rules are bandit's; what is allowed is here, with the reason."
    allowed = {("S310", "data.py"),  # urlopen: only of addresses that begin with https://, or with what the user gave
               ("S704", "report.py")}  # Markup: of what a template has escaped, and of a line without a value
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "S", "--output-format", "json"]
    found = json.loads(subprocess.run([*command, *SOURCES], capture_output=True, text=True, cwd=ROOT).stdout)
    new = [f"{Path(one['filename']).name}:{one['location']['row']} {one['code']} {one['message']}" for one in found
           if (one["code"], Path(one["filename"]).name) not in allowed]
    assert new == []


# ---- a malicious file at each door


class Bomb:
    "Unpickled, it makes a file."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    "A file that must never be made."
    yield tmp_path / "it ran"
    assert not (tmp_path / "it ran").exists()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_sketch(tmp_path_factory.mktemp("doors") / "faces", 12, 4, 4, progress=False)


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    "A folder that train has written, of the smallest kind."
    folder = tmp_path_factory.mktemp("doors") / "model"
    small = Recipe(train_images=8, size=8, epochs=1, threads=1, precision="float32", memory_format="contiguous",
                   model_args={"hidden": 4})
    train(small, read_celeba(faces), folder, progress=False)
    return folder


def copy(trained, tmp_path, **files):
    "The folder with some files replaced, and a fitting digest."
    import shutil

    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return sign(folder)


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "it ran")))
    assert (tmp_path / "it ran").exists()


@pytest.mark.parametrize("name", ["weights_safetensors", "predictions_npz", "recipe_json", "metrics_json", "history_csv"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_in_a_model_folder(name, kind, trained, mark, tmp_path):
    path = tmp_path / "bomb"
    with open(path, "wb") as file:
        pickle.dump(Bomb(mark), file) if kind == "pickle" else torch.save({"weights": Bomb(mark)}, file)
    folder = copy(trained, tmp_path, **{name: path.read_bytes()})
    with pytest.raises(TrainingError):
        run = load(folder)
        assert run.history.shape == load(trained).history.shape, "a table that is none"
        raise TrainingError("refused in the end")


def test_objects_in_predictions(trained, mark, tmp_path):
    np.savez(tmp_path / "bomb.npz", test=np.array([Bomb(mark)], dtype=object))
    with pytest.raises(TrainingError):
        load(copy(trained, tmp_path, predictions_npz=(tmp_path / "bomb.npz").read_bytes()))


def test_a_pickle_in_place_of_a_checkpoint(trained, mark, tmp_path):
    (tmp_path / "model.checkpoint.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DamagedError):
        read_checkpoint(tmp_path / "model.checkpoint.safetensors")


def test_a_pickle_in_place_of_decoded_images(faces, mark, tmp_path):
    labels = read_celeba(faces)
    ImageCache(labels, 8, folder=tmp_path / "cache", progress=False)
    (path,) = tmp_path.rglob("*.images")
    whole = path.read_bytes()
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.warns(UserWarning, match="decoded again"):
        ImageCache(labels, 8, folder=tmp_path / "cache", progress=False)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("layout", [as_text, as_csv, as_zip, as_parquet])
def test_a_pickle_in_place_of_data(layout, faces, mark, tmp_path):
    root = layout(faces, tmp_path / "set")
    for path in [path for path in root.rglob("*") if path.suffix in (".txt", ".csv", ".zip", ".parquet")]:
        path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DataError):
        read_celeba(root)


def test_pandas_metadata_in_parquet(faces, mark, tmp_path):
    "A parquet file may carry notes for pandas; none of them runs."
    root = as_parquet(faces, tmp_path / "set")
    file = next(root.glob("*/test-*.parquet"))
    table = pq.read_table(file)
    note = {b"pandas": pickle.dumps(Bomb(mark)), b"ARROW:schema": pickle.dumps(Bomb(mark))}
    pq.write_table(table.replace_schema_metadata(note), file)
    try:
        assert len(read_celeba(root)) == 20
    except DataError:
        pass


def test_an_extension_type_in_parquet(faces, mark, tmp_path):
    "pyarrow's old extension type was unpickled when it was read."
    root = as_parquet(faces, tmp_path / "set")
    file = next(root.glob("*/test-*.parquet"))
    table = pq.read_table(file)
    field = pa.field("celeb_id", pa.int64(), metadata={b"ARROW:extension:name": b"arrow.py_extension_type",
                                                       b"ARROW:extension:metadata": pickle.dumps(Bomb(mark))})
    at = table.schema.get_field_index("celeb_id")
    pq.write_table(table.set_column(at, field, table["celeb_id"].cast(pa.int64())), file)
    try:
        read_celeba(root)
    except DataError:
        pass


@pytest.mark.parametrize("change", [
    {"model": "os.system"}, {"model": "subprocess.run"}, {"loss": "builtins.exec"}, {"augment": "os.system"},
    {"model": "celeba_nb.run.os.system"}, {"model": "celeba_nb.benchmark.subprocess"}, {"model": "celeba_nb.data.shutil.rmtree"},
    {"model": "celeba_nb.experiments.study_command", "model_args": {"out": "elsewhere"}},
    {"model": "celeba_nb.sketch.make_sketch"},
    {"model": "celeba_nb"}, {"model": "celeba_nb..os"}, {"model": "celeba_nb.../os.system"},
    {"loss": "celeba_nb.runs.make_runs"},
    {"model": "celeba_nb.few_labels.FlipTTA", "model_args": {"model": "os.system"}},
    {"model": "celeba_nb.few_labels.Ensemble", "model_args": {"model": "celeba_nb.few_labels.Ensemble",
                                                              "model_args": {"model": "subprocess.Popen"}}},
    {"augment": "celeba_nb.augment.compose", "augment_args": {"steps": [["os.system", {}]]}},
    {"augment": "celeba_nb.augment.compose", "augment_args": {"steps": [{"antigravity.fly": 1}]}},
    {"loss": "celeba_nb.few_labels.SelfTraining", "loss_args": {"steps": [["this.s", {}]]}},
])
def test_a_recipe_that_names_what_it_should_not(change, trained, mark, tmp_path):
    before = set(sys.modules)
    with pytest.raises(TrainingError):
        recipe_from_dict(change)
    about = json.loads((trained / "recipe.json").read_text())
    about["recipe"] |= change
    with pytest.raises(TrainingError):
        load(copy(trained, tmp_path, recipe_json=json.dumps(about).encode()))
    assert not {"antigravity", "this"} & (set(sys.modules) - before)


def test_what_recipes_do_name_is_let_in():
    from celeba_nb.recipe import RECIPES

    for recipe in [Recipe(), *RECIPES.values()]:
        assert recipe_from_dict(asdict(recipe)) == recipe
    for name in ("celeba_nb.architectures.torchvision_net", "celeba_nb.model.ResNet",
                 "celeba_nb.augment.mixup_bce", "celeba_nb.few_labels.each_bce", "celeba_nb.augment.trivial_augment"):
        assert _is_part(import_object(name)), name


def test_postscript_is_not_opened(mark):
    "Pillow would start Ghostscript for it."
    with pytest.raises(DataError):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(it ran) (w) file closefile\n", 8)


@pytest.mark.parametrize("name", ["../out.jpg", "/out.jpg", "a/../../out.jpg", "..\\out.jpg", "C:\\out.jpg", "a\0.jpg"])
def test_members_that_lead_out_of_an_archive(name, faces, tmp_path):
    root = as_zip(faces, tmp_path / "set")
    with zipfile.ZipFile(root / "img_align_celeba.zip", "a") as archive:
        archive.writestr(zipfile.ZipInfo("x"), b"\xff\xd8")
        archive.filelist[-1].filename = archive.filelist[-1].orig_filename = name
    try:
        assert set(read_celeba(root).attributes.index) <= {path.name for path in (faces / "img_align_celeba").iterdir()}
    except DataError as error:
        assert "plain file name" in str(error)
    assert not list(tmp_path.rglob("out.jpg")) and not Path("/out.jpg").exists()


def test_a_link_out_of_the_folder_gives_nothing_away(faces, tmp_path):
    "A link is followed, as people link their images; what it leads to must be an image."
    root = as_text(faces, tmp_path / "set")
    (tmp_path / "secret").write_text("a secret")
    image = root / "img_align_celeba" / "000001.jpg"
    image.unlink()
    image.symlink_to(tmp_path / "secret")
    with pytest.raises(DataError) as caught:
        ImageCache(read_celeba(root), 8, folder=tmp_path / "cache", progress=False)
    assert "000001.jpg" in str(caught.value) and "a secret" not in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero here")
@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/000001.jpg"])
def test_a_link_to_what_never_ends(name, faces, tmp_path):
    root = as_text(faces, tmp_path / "set")
    (root / name).unlink()
    (root / name).symlink_to("/dev/zero")
    if name.endswith(".jpg"):
        with pytest.warns(UserWarning, match="1 of 20 labelled images are missing"):
            assert len(read_celeba(root)) == 19
    else:
        with pytest.raises(DataError, match=re.escape(name)):
            read_celeba(root)


# ---- downloads, and the network


def test_a_list_of_files_can_not_name_a_file_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("a secret")

    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self):
            return json.dumps([(tmp_path / "secret").as_uri()]).encode()

    monkeypatch.setattr(urllib.request, "urlopen", lambda address: Answer())
    with pytest.raises(DataError, match="the list of files names 'file:"):
        download_celeba(tmp_path / "set", "huggingface", progress=False)
    assert not list((tmp_path / "set").iterdir())


def test_a_download_that_is_no_parquet_is_not_kept(tmp_path, monkeypatch):
    class Answer:
        headers = {"Content-Length": "12"}

        def __init__(self, address):
            self.text = b"<html>no</html>"[:12] if "parquet/img" not in address else b'["https://hub.test/x"]'

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, size=-1):
            text, self.text = self.text, b""
            return text

    monkeypatch.setattr(urllib.request, "urlopen", Answer)
    with pytest.raises(DataError, match="a web page"):
        download_celeba(tmp_path / "set", "huggingface", progress=False)
    assert not list((tmp_path / "set").glob("*.parquet"))


def test_the_tests_can_not_reach_the_network():
    "conftest.py refuses every address but this machine's own, here and in processes that tests start."
    with pytest.raises(OSError, match="no network in tests"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="no network in tests"):
        socket.getaddrinfo("example.org", 80)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == 1 and "no network in tests" in told.stderr


def test_an_import_calls_nobody():
    "Not even this machine: in a process in which no connection can be opened at all, each module can be imported."
    modules = [f"celeba_nb.{path.stem}".removesuffix(".__init__") for path in SOURCES]
    program = f"""
import socket
def refuse(*args, **kwargs):
    raise AssertionError("an import opened a connection")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import {", ".join(modules)}
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr


def test_safetensors_hold_no_code(mark, tmp_path):
    "What is written for weights is numbers and text: the first bytes are the length of a JSON header."
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={"run": str(mark)})
    data = (tmp_path / "a.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == {"__metadata__", "a"} and data[-8:] == bytes(8)
