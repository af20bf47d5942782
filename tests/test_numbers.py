"Each published number is what nbs/results gives, or what the lesson's own output shows."
import pytest

from benchmarks.placebo import CHANGES, PLAIN
from celeba_nb.few_labels import ADDED, LATER, LEFT_OUT
from celeba_nb.study import EFFECTS
from tools import numbers


def test_every_published_number():
    assert list(numbers.differences()) == []


@pytest.mark.parametrize(("text", "values", "wrong"), [
    ("0.29 points, 85% and 16,891,496.0", [0.2871, 85.2, 16891496.0], []), ("+0.30", [0.287], ["+0.30"]),
    ("−0.08 to 0.17", [0.08, 0.174], []), ("in 7.7 of 100", [0.077], []), ("90%", [0.894], ["90%"]), ("3 points", [2.4], ["3"])])
def test_a_number_needs_an_output_that_shows_it(text, values, wrong):
    assert [number for number in numbers.NUMBER.findall(text) if not numbers.is_shown(number, values)] == wrong


def test_a_changed_page_is_seen(monkeypatch):
    "A number that nothing gives, and one that a claim gives differently."
    pages = [("README", "| flip | +0.31 |", []), ("07", "It is 0.25.", [0.25])]
    monkeypatch.setattr(numbers, "pages", lambda: pages)
    monkeypatch.setattr(numbers, "stale_effects", lambda: [])
    monkeypatch.setattr(numbers, "CLAIMS", [lambda: [("README", "| flip | +0.29 |"), ("07", "It is 0.25")]])
    assert list(numbers.differences()) == ["README doesn't say: | flip | +0.29 |", "README: nothing gives +0.31"]


def test_changed_results_are_seen(monkeypatch):
    "An effect that its runs don't give."
    before = numbers.table

    def changed(name):
        return before(name).replace({"test_accuracy": {before(name)["test_accuracy"][0]: 0.5}}) if name == "augment_runs_1000" \
            else before(name)

    monkeypatch.setattr(numbers, "table", changed)
    assert any("augment_effects_1000" in said for said in numbers.stale_effects())


def test_families_are_those_of_the_code():
    "What is declared in a file, and what the lessons and the package ask."
    declared = {name: family["effects"] for name, family in numbers.FAMILIES.items()}
    assert {effect: tuple(weights) for effect, weights in declared["study_effects"].items()} == EFFECTS
    asked = {method: [method, "base"] for method in LEFT_OUT | ADDED | LATER}
    assert declared["few_labels_ingredients"] == asked | {
        "unlabelled, against as many epochs": ["unlabelled images", "twice as many epochs"]}
    assert declared["placebo_runs"] == {change: [change, PLAIN] for change in CHANGES}
