"""What the ways that `celeba-nb bench` compares have in common: their options, their images, their result; and the options of
the programs that make a study."""
import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from celeba_nb.core import keep_memory
from celeba_nb.data import find_root
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.run import choose_rows
from celeba_nb.training import train


def results_parser(about):
    "A parser with the options of a program that makes published tables: of real faces, so it needs a root."
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the real CelebA")
    parser.add_argument("--out", type=Path, default=Path("nbs/results"))
    return parser


def study_parser(about, runs):
    "A parser with the options of a program that makes a study, whose runs are kept in that folder."
    parser = results_parser(about)
    parser.add_argument("--runs", type=Path, default=Path(runs), help="where finished runs are kept")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--options", type=json.loads, default={}, help="changes of every recipe, as JSON")
    return parser


def arguments(about):
    "The options of every way: the same images, batches, epochs and learning rate."
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="the CelebA folder (default: $CELEBA_ROOT, else sketch faces)")
    for name, default in (("train-images", 1000), ("valid-images", 1000), ("test-images", 1000), ("size", 128),
                          ("epochs", 5), ("batch-size", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lr", type=float, default=0.0005)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser.parse_args()


def chosen_images(args):
    "The labels, and the rows of each split: the same for every way."
    labels = read_celeba(args.root or find_root())
    return labels, choose_rows(Recipe(train_images=args.train_images, valid_images=args.valid_images,
                                      test_images=args.test_images, seed=args.seed), labels)


def train_from_jpegs(recipe, labels, hook):
    "A run with an empty cache, so that decoding is in the time (hook.began is its beginning); and its seconds."
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CELEBA_NB_CACHE"] = folder
        keep_memory()  # as the command line does: this process is ours
        hook.began = time.perf_counter()
        run = train(recipe, labels, callbacks=(hook,), progress=False)
        return run, time.perf_counter() - hook.began


def report(args, **result):
    "Print the result, and write it where --json says."
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
