"""Photos of every kind through the whole command; folders that were altered; a network without dlib beside it."""
import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from forked import CONTEXT, run_apart, run_notebook
from PIL import Image, ImageOps
from signed import sign
from typer.testing import CliRunner

from celeba_nb import cli, detection
from celeba_nb.answers import calibrated_net
from celeba_nb.core import ATTRIBUTES, DataError, TrainingError
from celeba_nb.data import find_root
from celeba_nb.detection import (
    FoundFace,
    Similarity,
    _rotation,
    centre_crop,
    detect,
    find_points,
    load_dlib,
    nms,
    put_face,
    random_place,
    search,
    warp_crop,
)
from celeba_nb.export import FromPixels, export_onnx
from celeba_nb.few_labels import FlipTTA
from celeba_nb.files import read_celeba
from celeba_nb.formats import FORMATS, LARGEST_IMAGE, LARGEST_SIDE
from celeba_nb.images import open_photo
from celeba_nb.photo import FRAME_POINTS, align, find_faces, fit_similarity, predict_images, predict_photo
from celeba_nb.recipe import Recipe
from celeba_nb.run import Run, load
from celeba_nb.sources import find_photos
from celeba_nb.training import train
from tools.notebooks import ROOT, code_cell, read, solved, write

needs_dlib = pytest.mark.skipif(load_dlib() is None, reason="dlib is not installed (extra photo)")
PLACE = Similarity(1.5 * np.exp(0.1j), 200 + 150j)  # of the face in the photo
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
    return put_face(face, PLACE, np.array([90, 120, 150]), 700)


@pytest.fixture
def celeba_nb(tmp_path):
    "The command in a process of its own."
    return lambda *arguments, without=(): run_apart(arguments, tmp_path, without=without)


def save_as(image, path, **options):
    image.save(path, **options)
    return path


def odd_photos(photo, folder):
    "The same photo as files of many kinds."
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
    there = PLACE(np.array([0, 178, 178 + 218j, 218j]))
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
    assert f"\nError: {tmp_path / 'broken.jpg'}: " in broken.stderr and "Traceback" not in broken.stderr


@needs_dlib
@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_bad_photo_costs_its_own_line(photo, model, tmp_path, celeba_nb):
    "Among many, in a folder, whatever the names; the JSON has all the others, and the reason."
    folder, odd = tmp_path / "many", os.fsdecode(b"2\xff\x1b[2J\n.JPG")
    folder.mkdir()
    for name in ("1.png", odd):
        save_as(Image.fromarray(photo), folder / name)
    (folder / "1b.avif").write_bytes(b"\0\0\0\x20ftypavif" + bytes(99))
    (folder / "notes.txt").write_text("no picture")
    done = celeba_nb("predict", folder, f"{folder}/1*", f"{folder}/*.tif", "--model", model, "--json", tmp_path / "a.json")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "\x1b" not in done.stdout + done.stderr
    assert r"2\udcff\x1b[2J\n.JPG, face 1 of 1" in done.stdout and "1.png, face 1 of 1" in done.stdout
    assert f"Error: {folder}/1b.avif: an AVIF picture, damaged or cut off" in done.stderr
    answers = json.loads((tmp_path / "a.json").read_text())["photos"]
    assert [os.path.basename(answer["photo"]) for answer in answers] == ["1.png", "1b.avif", odd, "*.tif"]
    assert [len(answer["faces"]) for answer in answers] == [1, 0, 1, 0]
    assert "cut off" in answers[1]["error"] and "none of this pattern" in answers[3]["error"]


def test_photos_of_folders_and_patterns(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "film.mov", "sub/c.webp", "[1]/d.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    there = [f"{tmp_path}/{name}" for name in ("a.png", "b.JPG", "sub/c.webp", "[1]/d.heic")]
    assert find_photos([str(tmp_path), there[0], f"{tmp_path}/s*/*", f"{tmp_path}/[1]"]) == there
    assert find_photos([f"{tmp_path}/**/*.webp"]) == there[2:3]
    for name in (f"{tmp_path}/*.tif", "nothing.jpg", "https://example.org/a.jpg"):
        assert find_photos([name]) == [name]


def ask(model, *photos):
    return CliRunner().invoke(cli.app, ["predict", *map(str, photos), "--model", str(model)])


def test_a_bar_for_several_photos(model, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(cli, "progress_bar", lambda paths, show, real=cli.progress_bar, **options:
                        shown.append(show) or real(paths, show, **options))
    monkeypatch.setattr("celeba_nb.photo.find_faces", lambda photo: [centre_crop(photo)])
    files = [save_as(Image.new("RGB", (300, 200), "teal"), tmp_path / name) for name in ("a.png", "b.png")]
    for some in (files[:1], files):
        assert ask(model, *some).exit_code == 0
    assert shown == [False, True]


def test_out_of_memory_costs_one_photo(model, tmp_path, monkeypatch):
    "So does an error of dlib or PyTorch; the next photo is still read."
    outcomes = [MemoryError(), RuntimeError("bad allocation"), None]

    def fail_twice(photo):
        if error := outcomes.pop(0):
            raise error
        return [centre_crop(photo)]

    monkeypatch.setattr("celeba_nb.photo.find_faces", fail_twice)
    files = [save_as(Image.new("RGB", (300, 200), "teal"), tmp_path / f"{number}.png") for number in range(3)]
    done = ask(model, *files)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "0.png: can't be asked about (out of memory)" in done.output
    assert "1.png: can't be asked about (bad allocation)" in done.output and "2.png, face 1 of 1" in done.output


def test_an_answer_has_the_attributes_of_the_run(monkeypatch):
    "Its own ones, whatever they are called."
    table = pd.DataFrame([[1, 2, 3, 4, "HOG", 0.25, 0.75]], columns=["left", "top", "right", "bottom", "way", "left", "Tall"])
    monkeypatch.setattr("celeba_nb.photo.predict_photo", lambda path, run, net: table)
    (face,) = cli.photo_answer("a.jpg", SimpleNamespace(attributes=("left", "Tall"), thresholds=None), None)["faces"]
    assert face["probabilities"] == {"left": 0.25, "Tall": 0.75} and face["box"] == [1, 2, 3, 4] and face["yes"] == ["Tall"]


def test_one_network_answers_about_all_photos(model, tmp_path, monkeypatch):
    "It takes half a second to build."
    built = []
    monkeypatch.setattr("celeba_nb.photo.find_faces", lambda photo: [centre_crop(photo)])
    monkeypatch.setattr(Run, "net", lambda run, device="cpu", net=Run.net: built.append(device) or net(run, device))
    files = [save_as(Image.new("RGB", (300, 200), "teal"), tmp_path / f"{number}.png") for number in range(3)]
    assert ask(model, *files).exit_code == 0 and built == ["cpu"]


def crowd(face, number, columns):
    "Copies of a face, 128 by 150 pixels, side by side."
    small = np.asarray(Image.fromarray(face).resize((128, 150)))
    return np.tile(small, (number // columns, columns, 1))


@needs_dlib
@pytest.mark.parametrize("number, columns", [(40, 8), (300, 20), (300, 300)])
def test_a_crowd_is_found(face, number, columns):
    "Also in a row as long as no picture of 4 million pixels shows."
    assert len(search(crowd(face, number, columns))[1]) >= 0.97 * number


@needs_dlib
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_photo_that_lies_on_its_side(degrees, photo):
    "Without Exif data: found in the direction in which faces are upright, and where it is."
    turn, _ = _rotation(degrees, (700, 700))
    (found,) = find_faces(np.ascontiguousarray(np.rot90(photo, -degrees // 90)))
    truth = turn(PLACE(FRAME_POINTS))
    assert found.way == "HOG, quarter turns" and np.abs(found.to_frame.inverse()(FRAME_POINTS) - truth).max() < 60


@needs_dlib
def test_a_large_photo_without_faces_takes_seconds(monkeypatch):
    "The network, which needs 5 seconds for a million pixels, sees few of them."
    seen = []
    monkeypatch.setattr(detection, "_by_cnn", lambda pixels: seen.append(pixels.shape[0] * pixels.shape[1]) or [])
    noise = np.random.default_rng(0).normal(128, 50, (94, 125, 3)).clip(0, 255).astype(np.uint8)
    search(np.asarray(Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)))
    assert 0 < sum(seen) < 300_000


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
    "Found in a small copy, cut out of the large photo: the face is as sharp as in the photo."
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
            "from celeba_nb.images import open_photo\nopen_photo(sys.stdin.buffer.read())")
    done = subprocess.run([sys.executable, "-c", code], input=file.getvalue(), cwd=ROOT, capture_output=True)
    assert b"the limit is 89,478,485: make it smaller" in done.stderr


def png_line(width, height):
    "A PNG of one bit a pixel, all black."
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def refuse_all(folder):
    "In a process of its own: what no photo is, refused before it is read."
    import resource

    used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    for name, said in [("pipe", "not a regular file"), ("/dev/zero", "not a regular file"), ("holes.jpg", "2,147,483,648 bytes"),
                       ("long.png", "a side has at most"), ("longer.png", "pixels, and"), ("sub", "a folder without pictures"),
                       ("http://example.org/a.jpg", "an address on the web"), ("link.jpg", "no such file")]:
        name = name if name.startswith("http") else str(folder / name)
        with pytest.raises(DataError, match=said) as error:
            open_photo(name)
        assert str(error.value).startswith(f"{name}: ")


@pytest.mark.skipif(sys.platform != "linux", reason="devices, pipes and limits of memory are Linux's here")
def test_what_is_no_photo_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    (tmp_path / "long.png").write_bytes(png_line(1, 1_000_000))
    (tmp_path / "longer.png").write_bytes(png_line(1, 90_000_000))
    (tmp_path / "holes.jpg").touch()
    with contextlib.suppress(OSError):
        os.truncate(tmp_path / "holes.jpg", 2**31)
    process = CONTEXT.Process(target=refuse_all, args=(tmp_path,))
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0


@needs_dlib
def test_the_longest_picture_is_searched_within_seconds():
    assert search(open_photo(png_line(LARGEST_SIDE, 20))) == ("", [])


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


def test_a_photo_is_a_file_or_its_content(photo, tmp_path):
    path = save_as(Image.fromarray(photo), tmp_path / "photo.jpg", quality=95)
    opened = open_photo(path)
    assert opened.shape == photo.shape and opened.dtype == np.uint8
    assert np.abs(opened.astype(int) - photo).mean() < 3 and (open_photo(path.read_bytes()) == opened).all()


def test_what_cannot_be_opened_is_told_in_a_sentence(photo, tmp_path):
    jpeg = save_as(Image.fromarray(photo), tmp_path / "photo.jpg").read_bytes()
    for source, said in [(jpeg[:2000], "photo: damaged, or cut off"), (b"Dear reader", "not a picture that can be read"),
                         (b"", "photo: it is empty"), (tmp_path / "nothing.jpg", "nothing.jpg: there is no such file"),
                         (tmp_path, "a folder without pictures"), ("a\0b", "can't be read")]:
        with pytest.raises(DataError, match=said):
            open_photo(source)
    assert "EPS" not in FORMATS  # PostScript is a programming language


def test_similarity_transforms_compose():
    quarter, z = Similarity(2j, 10), np.array([0, 1, 1 + 1j])
    assert (quarter(z) == [10, 10 + 2j, 8 + 2j]).all() and np.allclose(quarter.inverse()(quarter(z)), z)
    assert np.allclose(quarter.after(quarter)(z), quarter(quarter(z)))


def test_warp_crop_at_the_edges_and_half_the_size(face):
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None], (50, 100))[..., None].repeat(3, 2)  # black and white rows
    assert (warp_crop(face, Similarity(1, 0)) == face).all()
    assert np.abs(warp_crop(stripes, Similarity(0.5, 0), (50, 50)).astype(int) - 128).max() <= 1  # grey
    assert (warp_crop(face, Similarity(1, 500), (50, 50)) == face[:50, :1]).all()  # far beyond: the border repeated
    assert warp_crop(face, Similarity(1, 5j)).shape == face.shape


def test_a_face_is_put_where_it_should_be(face):
    far = put_face(face, Similarity(1, 300 + 300j), np.array([10, 20, 30]))
    assert (far[0, 0] == [10, 20, 30]).all() and (far[320:500, 320:460] == face[20:200, 20:160]).all()
    places = [random_place(np.random.default_rng(seed)) for seed in range(12)]
    assert all(0.6 <= abs(place.turn) <= 2 for place in places)
    for place in places:
        corners = place(np.array([0, 178, 178 + 218j, 218j]))
        assert min(corners.real.min(), corners.imag.min()) >= -1e-9 and max(corners.real.max(), corners.imag.max()) <= 900 + 1e-9


@needs_dlib
@pytest.mark.parametrize("rounds", [1, 2])
def test_a_found_face_is_aligned(rounds, photo):
    "To CelebA's frame, within a few pixels, by one look and by two."
    (found,), grid = find_faces(photo), np.array([x + 1j * y for x in (40, 89, 138) for y in (60, 109, 158)])
    assert np.abs(align(photo, found.points, rounds)(PLACE(grid)) - grid).mean() < 8


def test_fit_similarity():
    corners, quarter = np.array([0, 100, 40j, 100 + 60j]), Similarity(2j, 10)
    noisy = quarter(corners) + np.array([1, -2j, 2, 1j])
    assert np.allclose(fit_similarity(quarter(corners), corners), quarter.inverse())
    assert np.allclose(fit_similarity(corners, 3 * corners + 5j), (3, 5j))
    weighted = fit_similarity(noisy, corners, np.array([0.35, 0.35, 0.15, 0.15]))
    assert not np.allclose(fit_similarity(noisy, corners), weighted)
    assert np.allclose(fit_similarity(noisy, corners, np.full(4, 7)), fit_similarity(noisy, corners))
    for weights in (np.ones(4), np.array([0.35, 0.35, 0.15, 0.15])):  # NumPy's least squares, where weights enter as roots
        root = np.sqrt(weights)
        theirs = np.linalg.lstsq(root[:, None] * np.stack([noisy, np.ones(4)], axis=1), root * corners)[0]
        assert np.allclose(fit_similarity(noisy, corners, weights), theirs)


def test_a_turned_picture_has_room_for_its_corners():
    turned, size = _rotation(90, (300, 200))
    assert size == (200, 300) and np.allclose(turned(np.array([0])), 200) and _rotation(20, (100, 100))[1] == (129, 129)


@needs_dlib
def test_the_points_of_an_aligned_face(face, photo):
    points = find_points(face)
    assert points.shape == (4,) and np.abs(points - FRAME_POINTS).max() < 25

    def whole_picture(pixels):
        return [((0, 0, pixels.shape[1], pixels.shape[0]), 1.0)]

    plain, tilted = (detect(face, whole_picture, 90_000, degrees)[0][0] for degrees in (0, 10))
    assert np.abs(plain - tilted).max() < 60  # the same points, found in another picture: nearly in the same place
    assert detect(photo, lambda pixels: [], 90_000) == []


@needs_dlib
@pytest.mark.parametrize("shape", [(300, 300), (3, 5000)])
def test_a_grey_wall_and_a_line_hold_no_face(shape):
    assert search(np.full((*shape, 3), 128, np.uint8)) == ("", [])


def test_one_face_is_found_once():
    here, there = FRAME_POINTS, FRAME_POINTS + 200
    assert len(nms([(here, 0.5), (here + 3, 0.9), (there, 0.2)])) == 2
    assert nms([(here, 0.5), (here + 3, 0.9)])[0][1] == 0.9 and nms([]) == []


def test_where_a_found_face_is(face):
    whole = FoundFace(face, Similarity(1, 0), "centre")
    assert whole.box == (0, 0, 178, 218) and (whole.corners == [0, 178, 178 + 218j, 218j]).all()
    assert FoundFace(face, Similarity(0.5, 0), "centre").box == (0, 0, 356, 436)
    assert (centre_crop(face).picture == face).all()
    assert centre_crop(np.zeros((218, 378, 3), np.uint8)).box == (100, 0, 278, 218)
    assert centre_crop(np.zeros((436, 356, 3), np.uint8)).box == (0, 0, 356, 436)


def test_a_picture_is_predicted_alone_as_in_company(model):
    labels, run = read_celeba(find_root()), load(model)
    faces, net = [open_photo(labels.read(row)) for row in run.predictions["test_rows"]], run.net()
    every = predict_images(net, faces, 32)
    assert every.shape == (16, 40) and every.min() >= 0 and every.max() <= 1
    assert not net.training and next(net.parameters()).device.type == "cpu"
    assert np.allclose(predict_images(net, faces[3:4], 32)[0], every[3], atol=1e-3)
    assert np.abs(every - run.predictions["test"]).max() < 0.05  # what the run said, up to its precision


@needs_dlib
def test_predict_photo(photo, model, tmp_path):
    path = save_as(Image.fromarray(photo), tmp_path / "photo.png")
    table = predict_photo(path, load(model))
    assert list(table.columns) == ["left", "top", "right", "bottom", "way", *ATTRIBUTES]
    assert table[list(ATTRIBUTES)].to_numpy().min() >= 0 and table[list(ATTRIBUTES)].to_numpy().max() <= 1
    assert len(table) == 1 and predict_photo(path.read_bytes(), load(model)).equals(table)
    assert len(predict_photo(as_png(np.full((200, 200, 3), 128, np.uint8)), load(model))) == 0  # no face there


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


def test_a_folder_says_what_its_network_answers(model):
    about = json.loads((model / "recipe.json").read_text())
    assert about["attributes"] == list(ATTRIBUTES) and about["recipe"]["size"] == 32
    assert set(about["prepared"]) == {"channels", "resize", "values"}


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
    monkeypatch.setattr("celeba_nb.export._compare_onnx", lambda *_: 0.01)
    with pytest.raises(TrainingError, match="differ by up to 0.01"):
        export_onnx(load(model), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_another_network_than_the_exported_one_is_noticed(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run, pixels = load(model), torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    assert export_onnx(run, tmp_path / "model.onnx") < 1e-4 and [*tmp_path.iterdir()] == [tmp_path / "model.onnx"]
    (answers,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"pixels": pixels.numpy()})
    other = replace(run, weights={name: 1.1 * weight for name, weight in run.weights.items()})
    same, different = (FromPixels(calibrated_net(one)).eval()(pixels).detach().numpy() for one in (run, other))
    assert np.abs(answers - same).max() < 1e-4 < np.abs(answers - different).max()


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
