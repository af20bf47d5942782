"""Shared by all tests: what is made once for all workers, which tests run at the same time, and the run's own cache folder.

`make test` starts two workers (pytest-xdist), each with one thread. A file's tests stay together on one worker, so that
its fixtures are made once; each notebook is alone. What takes long begins first. A test marked `serial` measures, or
needs both cores: those come last and run alone.
"""
import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # there is one for each core: it has one thread, and makes one run at a time
    os.environ |= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}  # before PyTorch is imported

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that a test starts compiles the package anew

import pytest
from chromium import CHROMIUM, MISSING
from filelock import FileLock
from no_network.sitecustomize import close_the_network

from tools.notebooks import PACKAGE, ROOT, run

NO_NETWORK = str(ROOT / "tests" / "no_network")
LONG = ["test_lab", "test_notebooks", "test_site", "test_faults", "test_data", "test_images", "test_fuzz", "test_scale",
        "test_photo", "test_study", "test_report"]  # these begin first


@pytest.fixture(autouse=True)
def closed_figures():
    "No test leaves its pictures to the next one: matplotlib warns when there are too many."
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def rank(item):
    "What takes long comes first, what runs alone last."
    place = LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)
    return bool(item.get_closest_marker("serial")), place


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    "A file's tests stay on one worker, and so do those that run alone; each notebook goes where there is room."
    items.sort(key=rank)
    for item in items:
        if item.get_closest_marker("serial"):
            item.add_marker(pytest.mark.xdist_group("serial"))
        elif not item.name.startswith("test_notebook["):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    "A folder that all workers of this test run have."
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(shared_folder):
    "Calls a function with a new folder, once for all workers: that folder."
    def make(name, fill):
        folder = shared_folder / name
        with FileLock(f"{folder}.lock"):
            if not (made := Path(f"{folder}.made")).exists():
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder
    return make


@pytest.fixture(autouse=True)
def turn(request, shared_folder):
    "One that runs alone waits until each worker has ended its test; the others run beside each other."
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not worker:
        yield
        return
    for mark in request.node.iter_markers("xdist_group"):
        first = shared_folder / f"{mark.args[0]}.worker"
        if not first.exists():
            first.write_text(worker)
        assert first.read_text() == worker, "pytest-xdist has divided a group: what it shares is made twice"
    workers = [f"gw{i}" for i in range(int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))]
    locks = [FileLock(shared_folder / f"{name}.turn") for name in
             (workers if request.node.get_closest_marker("serial") else [worker])]
    for lock in locks:  # always in this order: two that wait for each other's would wait for ever
        lock.acquire()
    yield
    for lock in locks:
        lock.release()


@pytest.fixture(scope="session", autouse=True)
def no_network():
    "No connection to a different machine, here and in the processes that tests start."
    close_the_network()
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([NO_NETWORK, *filter(None, paths)])
    os.environ["npm_config_offline"] = "true"  # npm is no Python; `make docs` asks it for the demo's runtime


@pytest.fixture(scope="session", autouse=True)
def cache_folder(shared_folder):
    "The cache of this test run ($CELEBA_NB_CACHE if that is set): it proves the code as it is, not what an earlier one left."
    return os.environ.setdefault("CELEBA_NB_CACHE", str(shared_folder / "cache"))


@pytest.fixture(scope="session")
def sketch_faces(cache_folder, once):
    "Draws the sketch faces that a notebook finds where CELEBA_ROOT is unset: once, before the notebooks ask for them."
    def draw(folder):
        drawn, printed = run([sys.executable, "-c", f"from {PACKAGE}.data import find_root; find_root()"], ROOT,
                             {"CELEBA_ROOT": None, "CELEBA_NB_CACHE": cache_folder, "LOKY_MAX_CPU_COUNT": None}, timeout=900)
        assert drawn, printed
    once("sketch_faces", draw)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    "Fifty sketch faces in the text layout; never changed."
    from celeba_nb.sketch import make_sketch

    return make_sketch(tmp_path_factory.mktemp("small") / "celeba", train=30, valid=10, test=10, progress=False)


@pytest.fixture(scope="session")
def labels(small):
    "Their labels."
    from celeba_nb.files import read_celeba

    return read_celeba(small)


@pytest.fixture(scope="module")
def cache(labels, tmp_path_factory):
    "Their pixels, at 16×16."
    from celeba_nb.images import ImageCache

    return ImageCache(labels, 16, folder=tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="module")
def browser():
    "Chromium; where it is missing, the test is skipped."
    if MISSING:
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


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


def _show_files(terminalreporter):
    "Where the time went: seconds per file of tests, and of each notebook."
    spent = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                file, _, test = report.nodeid.partition("::")
                name = test if test.startswith("test_notebook[") else file
                spent[name] = spent.get(name, 0) + report.duration
    if sum(spent.values()) > 60:
        terminalreporter.section("seconds per file, and per notebook")
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:7.1f}  {name}")


def pytest_terminal_summary(terminalreporter):
    _show_figures(terminalreporter)
    _show_files(terminalreporter)
