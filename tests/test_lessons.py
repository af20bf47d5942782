"How much a lesson asks of its reader's evening, and what it gives: the limits of `make figures`."
import re

import pytest

from tools.browser import MISSING
from tools.figures import first_success, lessons, over
from tools.notebooks import ROOT, name_of, notebooks, read, source


@pytest.mark.skipif(bool(MISSING), reason=MISSING)  # screens are measured in a browser
def test_limits():
    assert {name: missed for name, row, limits in lessons() if (missed := over(row, limits))} == {}


def test_the_lessons_up_to_the_ablation_fit_into_an_evening():
    first = [row for name, row, _ in lessons() if name < "06"]
    assert sum(row["cells"] for row in first) <= 700 and sum(row["words"] for row in first) <= 16_000


def test_the_tour_succeeds_within_ten_minutes():
    assert first_success(read(ROOT / "nbs" / "00_tour.ipynb")) < 10


def test_tables_are_shown_and_not_printed():
    "As tables of pandas, which the page draws."
    printed = re.compile(r"^ *print\((?:format_\w+\(.*|[^\"]*\.(?:round|to_string)\([^\"]*\))\)$", re.M)
    assert [(name_of(path), found[0]) for path in notebooks() for cell in read(path)["cells"]
            for found in printed.finditer(source(cell)) if cell["cell_type"] == "code"] == []
