"""Run the lessons from top to bottom on real faces: seconds, and points over never looking (make lessons-real).

The data are those of CELEBA_ROOT. Every assertion of the lessons must hold on them, too. Nothing is kept of the outputs,
which show real faces.
"""
import os
import sys
import time

from tools.figures import points_above
from tools.notebooks import ROOT, is_internal, name_of, notebooks
from tools.outputs import execute


def main():
    if not os.environ.get("CELEBA_ROOT"):
        raise SystemExit("Set CELEBA_ROOT to the folder of CelebA: these are the lessons on real faces.")
    os.chdir(ROOT)
    print(f"{'lesson':20}{'seconds':>10}{'points over never looking':>28}")
    total = 0.0
    for path in notebooks():
        if is_internal(path) or not name_of(path).startswith(tuple(sys.argv[1:]) or ""):
            continue
        began = time.perf_counter()
        above = points_above(execute(path))
        seconds = time.perf_counter() - began
        total += seconds
        print(f"{name_of(path):20}{seconds:>10.0f}{'–' if above is None else f'{above:+.1f}':>28}", flush=True)
    print(f"{'all':20}{total:>10.0f}")


if __name__ == "__main__":
    main()
