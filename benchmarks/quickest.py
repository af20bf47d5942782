"""The shortest way that we know to the study's best accuracy, from 1,000 training images.

    python benchmarks/quickest.py --root "$CELEBA_ROOT" --json quickest.json

Network, size and epochs are the recipe's own: --size, --epochs, --batch-size and --lr are not used.
"""
import time

from common import arguments, chosen_images, report, train_from_jpegs

from celeba_nb.loop import Callback
from celeba_nb.recipe import QUICKEST, THRESHOLD, Recipe


class Passing(Callback):
    "When did the validation accuracy pass the threshold?"

    seconds = None

    def on_epoch(self, state):
        if self.seconds is None and state.history[-1]["valid_accuracy"] >= THRESHOLD:
            self.seconds = time.perf_counter() - self.began


def main():
    args = arguments(__doc__)
    labels, _ = chosen_images(args)
    recipe = Recipe(args.train_images, args.valid_images, args.test_images, seed=args.seed, **QUICKEST)
    passing = Passing()
    run, seconds = train_from_jpegs(recipe, labels, passing)
    report(args, train_images_s=recipe.epochs * args.train_images / run.metrics["seconds"], seconds=seconds,
           passed_s=passing.seconds, test_accuracy=run.metrics["test_accuracy"],
           valid_accuracy=run.history["valid_accuracy"].tolist())


if __name__ == "__main__":
    main()
