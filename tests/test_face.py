"""The names that the package hands out, and what its modules import when they are imported."""
import importlib
import subprocess
import sys

import pytest
from setuptools.config.expand import read_attr

import celeba_nb
from tools.notebooks import ROOT


@pytest.mark.parametrize("name", celeba_nb.__all__)
def test_each_name_is_there_and_is_no_module(name):
    thing = getattr(celeba_nb, name)
    assert importlib.util.find_spec(f"celeba_nb.{name}") is None
    assert not isinstance(thing, type(sys)) and name in dir(celeba_nb)


def test_the_names_that_a_user_needs():
    assert {"Recipe", "train", "Study", "load", "read_celeba", "find_root", "evaluate", "predict_photo"} <= set(celeba_nb.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        celeba_nb.no_such_name  # noqa: B018


def test_the_version_is_read_without_importing_anything():
    "setuptools does so when it builds a wheel, where nothing else is installed."
    code = ("import sys; sys.modules['lazy_loader'] = None; from setuptools.config.expand import read_attr; "
            f"print(read_attr('celeba_nb.__version__', root_dir={str(ROOT)!r}))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.stdout.strip() == celeba_nb.__version__ == read_attr("celeba_nb.__version__", root_dir=str(ROOT)), done.stderr


@pytest.mark.parametrize("module", ["celeba_nb", "celeba_nb.fileio", "celeba_nb.recipe", "celeba_nb.stats", "celeba_nb.cli"])
def test_light_modules_import_no_torch(module):
    code = f"import sys, {module}; print(*{{'torch', 'torchvision', 'sklearn', 'accelerate'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
