"""A study on a cluster whose machines share no disk, with one of them killed in the middle: is its table that of one process?

    python benchmarks/cluster.py --csv nbs/results/cluster_parts.csv

Each "machine" is a Dask worker in a process of its own, with its own folder, home, cache and copy of the data. It starts in
another folder than the client, whose data and study have relative names, so it can't find them; and it notes each file below
the client's folder that it opens all the same, and the bytes that it sends and receives.
"""
import argparse
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from distributed import Client, LocalCluster
from joblib import Parallel, delayed, parallel_config

from celeba_nb.files import read_celeba
from celeba_nb.run import processor, save
from celeba_nb.sketch import make_sketch
from celeba_nb.study import Study, study_recipes
from celeba_nb.workers import SentLabels, work_on

WORKER = Path(__file__).resolve().with_name("cluster_worker.py")


class Machine:
    "A worker that shares nothing with the client but the network."

    def __init__(self, folder, data, client, address):
        self.folder, self.began = folder, time.perf_counter()
        for part in ("home", "scratch"):
            (folder / part).mkdir(parents=True)
        shutil.copytree(data, folder / "copy of the faces")
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        own = {"HOME": folder / "home", "CELEBA_NB_CACHE": folder / "cache", "CELEBA_ROOT": folder / "copy of the faces",
               "TMPDIR": folder / "scratch", "CLUSTER_CLIENT": client, "OMP_NUM_THREADS": 1}
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--name", folder.name, "--nthreads", "1",
                   "--no-nanny", "--no-dashboard", "--local-directory", folder / "scratch", "--preload", WORKER]
        with open(folder / "log.txt", "w") as log:
            self.process = subprocess.Popen([*map(str, command)], cwd=folder, stdout=log, stderr=log,
                                            env=kept | {name: str(value) for name, value in own.items()})

    def traffic(self):
        "The bytes sent and received so far."
        lines = [line.split() for line in (self.folder / "traffic.txt").read_text().splitlines()]
        return sum(int(count) for _, count in lines)

    def end(self):
        "End the worker; one that was killed has ended."
        self.process.terminate()
        self.process.wait(30)


def nothing():
    "A task without work."
    return os.getpid()


def per_task(tasks):
    "The seconds that Dask and joblib take for a task without work."
    began = time.perf_counter()
    with parallel_config(backend="dask"):
        Parallel(batch_size=1, pre_dispatch="all")(delayed(nothing)() for _ in range(tasks))
    return (time.perf_counter() - began) / tasks


def read_all(root):
    "What a worker does once: read the labels, and compute their fingerprint."
    labels = read_celeba(root)
    return labels, labels.fingerprint


def finished(folder):
    "The finished runs of a study."
    return [path.parent for path in folder.glob("[!.]*/recipe.json")]


@contextmanager
def killing(victim, client, study, after, start):
    "Kill a worker in the middle of a run once some runs are finished, and start another machine; yields what was found."
    found = {}

    def busy():
        names = {address: worker["name"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
        return any(tasks for address, tasks in client.processing().items() if names.get(address) == victim.folder.name)

    def kill():
        while len(finished(study)) < after or not busy():
            time.sleep(0.02)
        os.kill(victim.process.pid, signal.SIGKILL)
        found["finished"], found["killed"] = len(finished(study)), victim.process.wait(30)
        found["new"] = start()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield found
    thread.join(60)


def timed(call, *arguments, **options):
    "What a call returns, and its seconds."
    began = time.perf_counter()
    return call(*arguments, **options), time.perf_counter() - began


def compare(here, there):
    "Stop unless two studies are equal to the last bit, but for their seconds."
    pd.testing.assert_frame_equal(here.table(), there.table(), check_exact=True)
    metrics = [study.metrics().drop(columns="seconds") for study in (here, there)]
    pd.testing.assert_frame_equal(*metrics, check_exact=True)


def prove(base, args):
    "Make the study in one process and on the cluster, and return the parts that were measured."
    client_folder = base / "client"
    client_folder.mkdir()
    os.chdir(client_folder)  # relative names from here on: they lead nowhere in a worker's folder
    os.environ["CELEBA_NB_CACHE"] = str(client_folder / "cache")
    data = make_sketch(Path("faces"), 80, args.images, args.images, progress=False)
    (labels, _), reading = timed(read_all, data)
    recipes = study_recipes(train_images=64, size=16, epochs=1, threads=1)
    seeds, folder = args.runs // len(recipes), Path("study")
    with parallel_config(n_jobs=1):
        here, serial = timed(Study(recipes, seeds, "serial").run, labels, progress=False)
    with LocalCluster(n_workers=0, dashboard_address=None, silence_logs="ERROR") as cluster, Client(cluster) as client:
        machines = []

        def start():
            own, client_files = base / f"machine-{len(machines)}", f"{client_folder}{os.sep}"
            machines.append(Machine(own, data, client_files, cluster.scheduler_address))
            return machines[-1]

        try:
            for _ in range(2):
                start()
            client.wait_for_workers(2, timeout=120)
            client.run(callable, work_on)  # a worker that gets a function of the package imports it
            started = time.perf_counter() - machines[-1].began
            first = next(iter(here.runs.values())).recipe
            client.run(work_on, first, SentLabels(labels), Path("nowhere/mark"), weights=False)  # each reads its own copy
            overhead = per_task(args.runs)
            before = sum(machine.traffic() for machine in machines)
            with killing(machines[0], client, folder, args.runs // 3, start) as found, parallel_config(backend="dask"):
                there, wall = timed(Study(recipes, seeds, folder).run, labels, progress=False)
            client.wait_for_workers(2, timeout=120)  # also if all was done before the new one was there
            wire = sum(machine.traffic() for machine in machines) - before
        finally:
            for machine in machines:
                machine.end()
    compare(here, there)
    opened = [line for machine in machines for line in (machine.folder / "opened.txt").read_text().splitlines()]
    assert not opened, f"a worker has opened files of the client: {opened[:5]}"
    assert found["killed"] == -signal.SIGKILL and 0 < found["finished"] < args.runs
    assert all(any((machine.folder / "cache/images").glob("*/*.images")) for machine in machines[:2])
    assert len(finished(folder)) == args.runs and not [*folder.glob(".*.shared")]
    run, _ = work_on(first, SentLabels(labels), Path("nowhere/mark"), weights=False)
    _, saving = timed(save, run, Path("saved"), weights=False)
    copy = sum(file.stat().st_size for file in data.rglob("*") if file.is_file())
    return {
        "runs": args.runs, "finished before the kill": found["finished"], "seconds in one process": serial,
        "seconds on two workers, one killed": wall, "seconds to start a worker": started,
        "seconds to read the labels": reading, "seconds of Dask a run": overhead, "seconds of the client to save a run": saving,
        "bytes over the wire a run": wire / args.runs, "bytes of the labels as sent": len(pickle.dumps(SentLabels(labels))),
        "bytes of a finished run": len(pickle.dumps(run)), "bytes of the data a machine": copy, "images": len(labels)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64, help="a multiple of the study's four methods")
    parser.add_argument("--images", type=int, default=1000, help="images for validation, and as many for the test")
    parser.add_argument("--csv", type=Path, help="write the measured parts to this file")
    args = parser.parse_args()
    args.csv = args.csv and args.csv.resolve()
    with tempfile.TemporaryDirectory() as base:
        parts = prove(Path(base).resolve(), args)
        os.chdir("/")
    for name, value in parts.items():
        print(f"{name:38} {value:12,.4f}" if isinstance(value, float) else f"{name:38} {value:12,}")
    print(f"The tables are equal to the last bit ({processor()}, {platform.system()}).")
    if args.csv:
        pd.Series(parts, name="measured").rename_axis("part").to_csv(args.csv)


if __name__ == "__main__":
    main()
