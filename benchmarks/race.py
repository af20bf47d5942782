"""The shortest way that we know to the accuracy of the study's best method, from 1,000 training images: the recipe `race`.

    python benchmarks/race.py --root "$CELEBA_ROOT" --json race.json

Network, size and optimiser are the recipe's own: --size, --epochs, --batch-size and --lr are not used.
"""
from dataclasses import replace

from common import arguments, chosen_images, report, train_from_jpegs

from celeba_nb.loop import Callback
from celeba_nb.recipe import RECIPES


def main():
    args = arguments(__doc__)
    labels, _ = chosen_images(args)
    recipe = replace(RECIPES["race"], train_images=args.train_images, valid_images=args.valid_images,
                     test_images=args.test_images, seed=args.seed)
    run, seconds = train_from_jpegs(recipe, labels, Callback())
    report(args, train_images_s=args.train_images / run.metrics["seconds"], seconds=seconds,
           test_accuracy=run.metrics["test_accuracy"], valid_accuracy=run.history["valid_accuracy"].tolist())


if __name__ == "__main__":
    main()
