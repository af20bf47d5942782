"""Which learning rate? The curve of lesson 05: the study's method at seven rates, with six seeds each.

    OMP_NUM_THREADS=1 python benchmarks/rates.py --root "$CELEBA_ROOT"

Half an hour on two cores. Written: rates_runs.csv.
"""
from common import study_parser

from celeba_nb.core import keep_memory
from celeba_nb.files import read_celeba
from celeba_nb.recipe import Recipe
from celeba_nb.study import Study

RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)


def main():
    parser = study_parser(__doc__, "runs/rates")
    parser.set_defaults(seeds=6)
    args = parser.parse_args()
    keep_memory()
    tries = {f"LR {lr:g}": Recipe(lr=lr, threads=1, **args.options) for lr in RATES}
    study = Study(tries, args.seeds, args.runs).run(read_celeba(args.root))
    args.out.mkdir(parents=True, exist_ok=True)
    study.metrics().to_csv(args.out / "rates_runs.csv", index=False)


if __name__ == "__main__":
    main()
