"""Caches of the test run go to a folder of their own: it proves the code as it is, not what an earlier one left."""
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from no_network.sitecustomize import close_the_network

from tools.notebooks import ROOT, run

NO_NETWORK = str(ROOT / "tests" / "no_network")
WORKERS = 2  # notebooks at a time


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


@pytest.fixture(scope="session", autouse=True)
def notebook_runs(request, tmp_path_factory, no_network, cache_folder):
    "The notebooks that were asked for are started first, a few at a time, and run beside the other tests: name, data -> run."
    from tests.test_notebooks import CELEBA, run_notebook

    asked = [item.callspec.params for item in request.session.items if item.name.startswith("test_notebook[")]
    if asked:
        request.getfixturevalue("sketch_faces")
    with ThreadPoolExecutor(WORKERS) as pool:
        threads = max(1, os.cpu_count() // WORKERS)
        yield {(p["name"], p["data"]): pool.submit(run_notebook, p["name"], p["data"], tmp_path_factory.mktemp("run"), threads)
               for p in asked if p["data"] == "sketch" or CELEBA}
        pool.shutdown(cancel_futures=True)


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
