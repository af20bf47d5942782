"""Drawn faces: what must hold for every face."""
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from celeba_nb import sketch
from celeba_nb.core import ATTRIBUTES
from celeba_nb.drawing import Appearance, Face, _lid, _tall, draw
from celeba_nb.sketch import encode, flip_coins, plan_faces

FACES = [Face(frozenset({"Young"}), person=(0, i), picture=(0, i)) for i in range(50)]


@pytest.mark.parametrize("name, row", [("Male", 5), ("Chubby", 5)])
def test_who_has_the_broader_jaw(name, row):
    for face in FACES:
        jaws = [Appearance(face.change(name, to=to)).head[row, 0] for to in (True, False)]
        assert jaws[0] > jaws[1]


def test_numbers_keep_their_range():
    traits = [Appearance(face) for face in FACES]
    assert all(-1 <= number < 1 for each in traits for number in [*each.p, *each.q])
    assert min(min(each.p + each.q) for each in traits) < -0.99 and max(max(each.p + each.q) for each in traits) > 0.99


def test_lids_go_outwards():
    "Each point of a lid lies further from the nose than the one before."
    for look in map(Appearance, FACES):
        assert (np.diff(np.array(_lid(look, 19, 1, _tall(look)))[:, 0]) > 0).all()


def test_narrow_eyes_are_open():
    "Narrower than the same person's would be; closed ones are an exception."
    wide = np.array([_tall(Appearance(face)) for face in FACES])
    narrow = np.array([_tall(Appearance(face.change("Narrow_Eyes", to=True))) for face in FACES])
    assert (narrow < wide).all() and np.median(narrow) > 1


def test_a_jpeg_is_near_the_drawing():
    for face in FACES[:5]:
        pixels = np.asarray(Image.open(io.BytesIO(encode(face))), float)
        assert np.abs(pixels - np.asarray(draw(face), float)).mean() < 3  # of 255


@pytest.mark.parametrize("share", [0, 0.2])
def test_label_noise(share):
    clean, noisy = (sketch._labels(DRAWN, 4, noise) for noise in (0, share))
    assert clean.shape == (150, 40) and clean[0].tolist() == [name in DRAWN[0] for name in ATTRIBUTES]
    assert abs((clean ^ noisy).mean() - share) < 0.02


def test_flip_coins():
    "Each attribute by a coin of its own; all else stays."
    names = list(ATTRIBUTES[:4])
    flipped = flip_coins(DRAWN, names)
    assert flipped == flip_coins(DRAWN, names) != flip_coins(DRAWN, names, seed=1)
    has = np.array([[name in face for name in names] for face in flipped])
    assert (abs(has.mean(0) - 0.5) < 0.15).all() and abs(np.corrcoef(has.T) - np.eye(4)).max() < 0.25
    for before, after in zip(DRAWN, flipped):
        assert before.attributes - set(names) == after.attributes - set(names)
        assert (before.person, before.picture, before.skin) == (after.person, after.picture, after.skin)


# Numbers all over the course were measured on these faces: a change of the drawing has to be meant, not to slip in.

DRAWN = plan_faces((150, 1, 1), seed=1)[:150]  # each attribute is among them
KEPT = Path(__file__).with_name("sketch_faces.png")  # made by `python tests/test_sketch.py`, after looking at the new faces


def thumbnails():
    "(150, 22, 18, 3): the faces as coarse pictures."
    return np.stack([np.asarray(draw(face).resize((18, 22), Image.Resampling.BOX)) for face in DRAWN])


def test_the_faces_are_those_of_the_course():
    kept, now = np.asarray(Image.open(KEPT), int).reshape(-1, 22, 18, 3), thumbnails().astype(int)
    changed = np.abs(kept - now).max((1, 2, 3))
    assert all(any(name in face for face in DRAWN) for name in ATTRIBUTES)
    assert (changed <= 4).all(), f"{(changed > 4).sum()} of {len(now)} faces changed, by up to {changed.max()} of 255"


if __name__ == "__main__":
    Image.fromarray(thumbnails().reshape(-1, 18, 3)).save(KEPT)
