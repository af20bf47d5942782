"""How often do intervals hold the truth, and verdicts say something false? Imagined studies, whose truth is known.

    python benchmarks/coverage.py --out nbs/results/coverage.csv

A study: some seeds, 1,000 test images of 614 identities, differences in points. In each world (WORLDS) the difference of a
seed and an image is the effect, plus the luck of the seed, plus the difficulty of the image, plus noise that is new in each
run. Columns: `interval`, the share of studies whose 95% interval holds the truth; `width`, the interval's length beside that
of one which knew the true spread; `false_verdict`, the share of families of three effects, all zero, in which one is said
to help or hurt; `false_same`, the share of effects as large as the margin that are called the same; `superiority`, the share
of intervals of "one run of A beats one of B" that hold the truth. All but `width` are in %. A quarter of an hour on one core.
"""
import argparse

import numpy as np
import pandas as pd
from scipy.stats import norm

from celeba_nb.stats import equivalence_p, holm, interval, mean_p, sign_flip_p, superiority

# Standard deviations, in points: the luck of a seed, the difficulty of an image, and noise that is new in each run.
WORLDS = {"seeds only": (0.3, 0.0, 0.0), "as in the study": (0.2, 1.5, 6.0), "few labels": (0.25, 5.0, 6.0),
          "images dominate": (0.02, 6.0, 3.0)}
SEEDS = (2, 3, 4, 5, 8, 16)
MARGIN = 0.2  # points
FAMILY = 3  # effects that are asked about together
IDENTITIES, IMAGES = 614, 1000


def make_groups():
    "Which identity is on which image: each is on at least one."
    rng = np.random.default_rng(0)
    return np.append(np.arange(IDENTITIES), rng.integers(IDENTITIES, size=IMAGES - IDENTITIES))


def draw(rng, world, studies, seeds, heavy=False):
    "Differences without any effect: (studies, FAMILY, seeds, images); with heavy tails, Student's t with 3 degrees of freedom."
    def noise(*shape):
        return rng.standard_t(3, shape) / np.sqrt(3) if heavy else rng.standard_normal(shape)

    seed, image, run = WORLDS[world]
    return (seed * noise(studies, FAMILY, seeds, 1) + image * noise(studies, FAMILY, 1, IMAGES)
            + run * noise(studies, FAMILY, seeds, IMAGES))


def measure(world, seeds, studies, heavy=False, seed=0, block=25):
    "One row of the table."
    rng, groups, found = np.random.default_rng([seed, seeds]), make_groups(), []
    for _ in range(studies // block):
        values = draw(rng, world, block, seeds, heavy)
        (low, high), means = interval(values, groups), values.mean((-2, -1))
        both = sign_flip_p(values.mean(-1), resamples=2**10), mean_p(values, groups)
        said = np.all([np.apply_along_axis(holm, 1, p) < 0.05 for p in both], axis=0).any(1)
        same = equivalence_p(values + MARGIN, groups, MARGIN) < 0.05
        found.append(((low < 0) & (high > 0), high - low, said, same, means))
    held, lengths, said, same, means = (np.concatenate(part) for part in zip(*found))
    return {"world": f"{world}, heavy tails" if heavy else world, "seeds": seeds, "studies": len(said),
            "interval": 100 * held.mean(),
            "width": lengths.mean() / (2 * norm.ppf(0.975) * means.std()), "false_verdict": 100 * said.mean(),
            "false_same": 100 * same.mean(), "superiority": 100 * superiority_coverage(rng, seeds, studies)}


def superiority_coverage(rng, seeds, studies, apart=1.0, shared=0.5):
    "The share of intervals that hold the truth, where A is better by `apart` standard deviations of what isn't shared."
    truth = norm.cdf(apart / np.sqrt(2 + 2 * shared**2))
    luck = shared * rng.standard_normal((studies, 1, seeds))
    a, b = np.moveaxis(luck + rng.standard_normal((studies, 2, seeds)), 1, 0)
    ends = np.array([superiority(one + apart, other)[1:] for one, other in zip(a, b)])
    return ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="imagined studies for each row")
    parser.add_argument("--out", default="coverage.csv")
    options = parser.parse_args()
    rows = [measure(world, seeds, options.studies, heavy) for heavy in (False, True) for world in WORLDS for seeds in SEEDS]
    table = pd.DataFrame(rows).round(2)
    table.to_csv(options.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
