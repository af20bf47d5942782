"The browser that the tests look with, and the notebooks that are run in it."
import os

from tools.browser import CHROMIUM, MISSING  # noqa: F401

# Those that a newcomer meets first, those with bars, and the one with the upload widget; others: CELEBA_NB_LAB=06_speed
FIRST = ["00_tour", "01_data", "02_model", "03_loop", "04_metrics", "05_ablation", "12_photo", "internals/core",
         "internals/exercises", "internals/sketch"]
IN_LAB = os.environ.get("CELEBA_NB_LAB", ",".join(FIRST)).split(",")
