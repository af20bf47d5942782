"""Our way: the package's own `train`, with an empty cache, so that decoding is in the time.

    python benchmarks/with_celeba_nb.py --root "$CELEBA_ROOT" --json ours.json

`celeba-nb bench` runs this file beside the others.
"""
import time

from common import arguments, chosen_images, report, train_from_jpegs

from celeba_nb.loop import Callback
from celeba_nb.recipe import Recipe


class TrainingTime(Callback):
    "Seconds of the steps, without the validation between them."

    seconds = 0.0

    def on_start(self, state):
        self.last = time.perf_counter()

    def on_step(self, state):
        now = time.perf_counter()
        self.seconds, self.last = self.seconds + now - self.last, now

    def on_epoch(self, state):
        self.last = time.perf_counter()


def main():
    args = arguments(__doc__)
    labels, rows = chosen_images(args)
    recipe = Recipe(args.train_images, args.valid_images, args.test_images, size=args.size, epochs=args.epochs,
                    batch_size=args.batch_size, lr=args.lr, seed=args.seed, augment="celeba_nb.augment.random_flip")
    clock = TrainingTime()
    run, seconds = train_from_jpegs(recipe, labels, clock)
    report(args, train_images_s=args.epochs * len(rows["train"]) / clock.seconds, seconds=seconds,
           test_accuracy=run.metrics["test_accuracy"], valid_accuracy=run.history["valid_accuracy"].tolist())


if __name__ == "__main__":
    main()
