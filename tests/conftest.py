"""Caches of the test run go to a folder of their own: it proves the code as it is, not what an earlier one left."""
import os
import sys

import pytest
from no_network.sitecustomize import close_the_network

from tools.notebooks import ROOT, run

NO_NETWORK = str(ROOT / "tests" / "no_network")


@pytest.fixture(scope="session", autouse=True)
def no_network():
    "No connection to another machine, here and in the processes that tests start."
    close_the_network()
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([NO_NETWORK, *filter(None, paths)])


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    "The cache folder of this test run ($CELEBA_NB_CACHE if that is set)."
    folder = os.environ.setdefault("CELEBA_NB_CACHE", str(tmp_path_factory.mktemp("cache")))
    return folder


@pytest.fixture(scope="session")
def sketch_faces(cache_folder):
    "Draws the sketch faces that a notebook finds where CELEBA_ROOT is unset: once, before the notebooks ask for them."
    drawn, printed = run([sys.executable, "-c", "from celeba_nb.data import find_root; find_root()"], ROOT,
                         {"CELEBA_ROOT": None, "CELEBA_NB_CACHE": cache_folder}, timeout=900)
    assert drawn, printed


@pytest.fixture
def figure(record_property):
    "Notes what was tried, how often, and where: `make faults` prints it."
    return lambda what, number, parts=None: record_property("figure", (what, number, parts or {}))


def _show_figures(terminalreporter):
    "What the tests of faults tried, added up: the rows of docs/faults.md."
    totals, parts = {}, {}
    for report in terminalreporter.stats.get("passed", []):
        for what, number, some in [value for name, value in report.user_properties if name == "figure"]:
            totals[what] = totals.get(what, 0) + number
            for part, count in some.items():
                parts.setdefault(what, {})[part] = parts.get(what, {}).get(part, 0) + count
    if totals:
        terminalreporter.section("faults that were tried")
    for what, number in totals.items():
        terminalreporter.write_line(f"| {what} | {number:,} |")
        for part, count in sorted(parts.get(what, {}).items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"      {count:6,}  {part}")


def pytest_terminal_summary(terminalreporter):
    "How long each notebook took, and what the tests of faults tried."
    _show_figures(terminalreporter)
    reports = [r for r in terminalreporter.stats.get("passed", []) if dict(r.user_properties).get("seconds")]
    if reports:
        terminalreporter.section("seconds per notebook")
    for report in reports:
        terminalreporter.write_line(f"{dict(report.user_properties)['seconds']:7.1f}  {report.nodeid}")
