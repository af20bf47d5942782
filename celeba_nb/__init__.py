"""Facial attributes on CelebA: a course in notebooks, and a package.

The names below are imported when they are first used, so that `import celeba_nb` is quick.
"""
import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={
    "core": ["DataError", "TrainingError"],
    "compare": ["verdict"],
    "recipe": ["RECIPES", "Recipe"],
    "sketch": ["make_sketch"],
    "files": ["read_celeba", "read_faces"],
    "data": ["find_root"],
    "run": ["Run", "load"],
    "training": ["evaluate", "reproduce", "train"],
    "study": ["Study"],
    "photo": ["predict_photo"],
    "report": ["write_report"],
})
