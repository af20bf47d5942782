"""Photos of every kind through the whole command; folders that were altered; a network without dlib beside it."""
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from forked import run_apart, run_notebook
from PIL import Image, ImageOps
from signed import sign

from celeba_nb.core import ATTRIBUTES, DataError, TrainingError
from celeba_nb.data import find_root
from celeba_nb.few_labels import FlipTTA
from celeba_nb.files import read_celeba
from celeba_nb.images import LARGEST_IMAGE
from celeba_nb.photo import (
    Similarity,
    export_onnx,
    find_faces,
    load_dlib,
    open_photo,
    predict_photo,
    put_face,
    warp_crop,
)
from celeba_nb.recipe import Recipe
from celeba_nb.run import load
from celeba_nb.training import train
from tools.notebooks import ROOT, code_cell, read, solved, write

needs_dlib = pytest.mark.skipif(load_dlib() is None, reason="dlib is not installed (extra photo)")
TINY = Recipe(train_images=32, valid_images=16, test_images=16, size=32, epochs=1, device="cpu", threads=1,
              model_args={"channels": [4, 4], "hidden": 8})


@pytest.fixture(scope="module")
def model(tmp_path_factory, sketch_faces):
    "A network that knows little, as `celeba-nb train` would leave it."
    folder = tmp_path_factory.mktemp("photo") / "model"
    train(TINY, read_celeba(find_root()), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def face(sketch_faces):
    "A sketch face, (218, 178, 3)."
    labels = read_celeba(find_root())
    return np.array(Image.open(io.BytesIO(labels.read(labels.rows("test")[0]))).convert("RGB"))


@pytest.fixture(scope="module")
def photo(face):
    "A photo with one face."
    return put_face(face, Similarity(1.5 * np.exp(0.1j), 200 + 150j), np.array([90, 120, 150]), 700)


@pytest.fixture
def celeba_nb(tmp_path):
    "The command in a process of its own."
    return lambda *arguments, without=(): run_apart(arguments, tmp_path, without=without)


def save_as(image, path, **options):
    image.save(path, **options)
    return path


def odd_photos(photo, folder):
    "The same photo in many guises."
    image = Image.fromarray(photo)
    exif = Image.Exif()
    exif[0x0112] = 8
    lying = image.transpose(Image.Transpose.ROTATE_270)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray((np.arange(700) < 690).astype(np.uint8)[None].repeat(700, 0) * 255))
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return {
        "turned by EXIF": save_as(lying, folder / "lying.jpg", exif=exif, quality=95),
        "webp": save_as(image, folder / "photo.webp", quality=90),
        "grey": save_as(image.convert("L"), folder / "grey.png"),
        "grey with alpha": save_as(alpha.convert("LA"), folder / "la.png"),
        "alpha": save_as(alpha, folder / "alpha.png"),
        "palette": save_as(image.quantize(256), folder / "palette.gif"),
        "16 bits": save_as(deep, folder / "deep.png"),
        "CMYK": save_as(image.convert("CMYK"), folder / "cmyk.jpg", quality=95),
        "a name with spaces and no ending": save_as(image, folder / "my photo", format="JPEG"),
    }


@needs_dlib
def test_predict_reads_odd_photos(photo, model, tmp_path, celeba_nb):
    odd = odd_photos(photo, tmp_path)
    done = celeba_nb("predict", *odd.values(), "--model", model, "--json", tmp_path / "answers.json")
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())["photos"]
    boxes = {}
    for name, answer in zip(odd, answers):
        assert len(answer["faces"]) == 1, name
        boxes[name] = answer["faces"][0]["box"]
        assert set(answer["faces"][0]["probabilities"]) == set(ATTRIBUTES)
        assert f"{answer['photo']}, face 1 of 1" in done.stdout
    there = Similarity(1.5 * np.exp(0.1j), 200 + 150j)(np.array([0, 178, 178 + 218j, 218j]))
    truth = [there.real.min(), there.imag.min(), there.real.max(), there.imag.max()]
    for name, box in boxes.items():
        assert np.abs(np.array(box) - truth).max() < 60, name


@needs_dlib
def test_several_faces_no_face_and_a_broken_file(photo, face, model, tmp_path, celeba_nb):
    group = np.hstack([photo, put_face(face, Similarity(1.2, 250 + 200j), np.array([200, 180, 90]), 700)])
    files = [save_as(Image.fromarray(group), tmp_path / "group.png"),
             save_as(Image.new("RGB", (300, 200), "teal"), tmp_path / "sea.png")]
    both = celeba_nb("predict", *files, "--model", model, "--json", tmp_path / "both.json")
    assert both.returncode == 0, both.stderr  # a face in one of them
    assert "face 2 of 2" in both.stdout and f"{files[1]}: no face found" in both.stdout
    first, second = (answer["faces"] for answer in json.loads((tmp_path / "both.json").read_text())["photos"])
    assert len(first) == 2 and first[0]["box"][0] < 700 <= first[1]["box"][2] and second == []
    nobody = celeba_nb("predict", files[1], "--model", model)
    assert nobody.returncode == 1 and "no face found" in nobody.stdout and "Traceback" not in nobody.stderr
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    broken = celeba_nb("predict", tmp_path / "broken.jpg", files[0], "--model", model)
    assert broken.returncode == 1 and "face 1 of 2" in broken.stdout
    assert broken.stderr.startswith(f"Error: {tmp_path / 'broken.jpg'}: ") and "Traceback" not in broken.stderr


def test_every_exif_orientation(photo):
    "Whichever way the camera was held, the photo comes out the same."
    image = Image.fromarray(photo[:400])
    undo = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # Pillow's transpositions that lay it so
    for orientation, steps in undo.items():
        lying, exif, file = image, Image.Exif(), io.BytesIO()
        for step in steps:
            lying = lying.transpose(step)
        exif[0x0112] = orientation
        lying.save(file, "PNG", exif=exif)
        assert (open_photo(file.getvalue()) == photo[:400]).all(), orientation
        assert ImageOps.exif_transpose(image).size == image.size


def test_heic_where_the_plugin_is(photo, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(photo)).save(tmp_path / "photo.heic", quality=90)
    assert np.abs(open_photo(tmp_path / "photo.heic").astype(int) - photo).mean() < 4


def test_heic_without_the_plugin_says_what_to_install(photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(Image.OPEN, "HEIF", (None, lambda prefix: False))
    with pytest.raises(DataError, match="pip install pillow-heif"):
        open_photo(b"\0\0\0\x18ftypheic" + bytes(100))


@needs_dlib
def test_fifty_megapixels(face):
    "Found in a small copy, cut out of the large photo: the face is as sharp as the photo has it."
    large = np.full((5774, 8660, 3), 120, np.uint8)  # 50 million pixels
    side = 2600
    large[1500 : 1500 + side, 3000 : 3000 + side] = put_face(face, Similarity(10, 400 + 200j), np.array([120] * 3), side)
    (found,) = find_faces(open_photo(as_png(large)))
    assert found.picture.shape == (218, 178, 3)
    assert np.abs(found.to_frame.inverse()(np.array([89 + 113j])) - (3400 + 1700j + 10 * (89 + 113j))).max() < 100


@needs_dlib
@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (3, 5000), (5000, 3), (20, 40_000)])
def test_odd_shapes_hold_no_face_and_do_no_harm(shape):
    "As turned pictures they would be far larger than they are."
    assert find_faces(np.full((*shape, 3), 120, np.uint8)) == []


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked():
    file = io.BytesIO()
    Image.new("1", (LARGEST_IMAGE // 5000 + 1, 5000)).save(file, "PNG")
    code = ("import sys, resource\nresource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))\n"
            "from celeba_nb.photo import open_photo\nopen_photo(sys.stdin.buffer.read())")
    done = subprocess.run([sys.executable, "-c", code], input=file.getvalue(), cwd=ROOT, capture_output=True)
    assert b"the limit is 89,478,485: make it smaller" in done.stderr


def test_without_dlib_the_centre_and_a_warning(photo, model, tmp_path, celeba_nb):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    done = celeba_nb("predict", tmp_path / "photo.png", "--model", model, "--json", tmp_path / "a.json",
                     without=("dlib",))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning: dlib is not installed") == 1 and "celeba_nb[photo]" in done.stderr
    (found,) = json.loads((tmp_path / "a.json").read_text())["photos"][0]["faces"]
    assert found["way"] == "centre" and found["box"] == [64, 0, 636, 700]


def test_the_notebook_runs_without_dlib(tmp_path, sketch_faces):
    shutil.copytree(ROOT / "nbs" / "results", tmp_path / "nbs" / "results")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    nb = solved(read(ROOT / "nbs" / "12_photo.ipynb"), prove=False)
    nb["cells"] = [code_cell("import sys\n\nsys.modules['dlib'] = None  # not installed"), *nb["cells"], code_cell(
        "assert not aligns and {face.way for faces in found for face in faces} == {'centre'}")]
    write(nb, tmp_path / "nbs" / "12_photo.ipynb")
    passed, printed = run_notebook(tmp_path / "nbs" / "12_photo.ipynb", {"MPLBACKEND": "Agg", "CELEBA_ROOT": None}, 600)
    assert passed, printed[-5000:]


def copy_of(model, folder):
    return shutil.copytree(model, folder / "copy")


@pytest.mark.parametrize("name", ["recipe.json", "metrics.json", "history.csv", "predictions.npz", "weights.safetensors"])
def test_an_altered_file_is_refused(name, model, tmp_path):
    "One bit is enough."
    folder = copy_of(model, tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(TrainingError, match=name):
        load(folder)
    shutil.rmtree(folder)
    (copy_of(model, tmp_path) / name).unlink()
    with pytest.raises(TrainingError, match=f"{name} is missing"):
        load(folder)


def test_a_folder_of_the_first_format_is_still_read(model, tmp_path):
    folder = copy_of(model, tmp_path)
    about = json.loads((folder / "recipe.json").read_text())
    old = {key: about[key] for key in ("recipe", "data", "machine")} | {"format": 1}
    (folder / "recipe.json").write_text(json.dumps(old))
    assert load(folder).id == load(model).id


@pytest.mark.parametrize("key, value, said", [("format", 9, "format 9"), ("attributes", ["Tall"], "of the shape"),
                                              ("prepared", {"resize": "nearest"}, "images prepared as")])
def test_a_folder_of_another_version_is_refused(key, value, said, model, tmp_path):
    "Also with fitting checksums: it would give answers, and wrong ones."
    folder = copy_of(model, tmp_path)
    sign(folder, **{key: value})
    with pytest.raises(TrainingError, match=said):
        load(folder)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_a_pickle_is_refused_unopened(how, model, tmp_path, celeba_nb):
    "Also with fitting checksums, and on the command line in one line."
    folder, weights = copy_of(model, tmp_path), load(model).weights
    data = io.BytesIO()
    torch.save(weights, data) if how == "torch.save" else pickle.dump({"os": os.getcwd}, data)
    (folder / "weights.safetensors").write_bytes(data.getvalue())
    sign(folder)
    done = celeba_nb("predict", "nothing.jpg", "--model", folder)
    assert done.returncode == 1 and "isn't opened" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "model.pt").write_bytes(data.getvalue())
    done = celeba_nb("predict", "nothing.jpg", "--model", tmp_path / "model.pt")
    assert done.returncode == 1 and "A pickle" in done.stderr and "Traceback" not in done.stderr


def test_export_without_the_extra_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TrainingError, match=r"celeba_nb\[export\]"):
        export_onnx(load(model), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_differs_is_not_kept(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("celeba_nb.photo._compare_onnx", lambda *_: 0.01)
    with pytest.raises(TrainingError, match="differ by up to 0.01"):
        export_onnx(load(model), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_ten_crops_is_exported(model, tmp_path):
    "For batches of any size: `export_onnx` compares several."
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run, crops = load(model), {"shift": 0.1}
    recipe = replace(run.recipe, model="celeba_nb.few_labels.FlipTTA", model_args=crops)
    ten = replace(run, recipe=recipe, weights=FlipTTA(32, **crops).state_dict())
    assert export_onnx(ten, tmp_path / "model.onnx") < 1e-5


def test_a_model_trained_elsewhere_answers_here(face, model, tmp_path):
    "A run says on which device it was made; a photo is asked on the CPU, whatever that was."
    folder = copy_of(model, tmp_path)
    about = json.loads((folder / "recipe.json").read_text())
    sign(folder, recipe=about["recipe"] | {"device": "cuda", "precision": "bfloat16"})
    there, here = (predict_photo(as_png(face), load(one)) for one in (folder, model))
    assert np.allclose(there[list(ATTRIBUTES)], here[list(ATTRIBUTES)])


def test_shrinking_averages():
    "A pattern finer than the new pixels becomes its mean, in whatever direction it runs."
    for stripes in (np.indices((90, 90))[0] % 2, np.indices((90, 90))[1] % 2, np.indices((90, 90)).sum(0) % 2):
        picture = (255 * stripes).astype(np.uint8)[..., None].repeat(3, 2)
        small = warp_crop(picture, Similarity(1 / 3, 0), (30, 30))
        assert np.abs(small[2:-2, 2:-2].astype(int) - 127.5).max() < 60
