"""Timing other programs: turns, their order, and what is left behind when something stops us."""
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from scipy.stats import t

import celeba_nb
from celeba_nb import benchmark
from celeba_nb.benchmark import backend_script, bench, judge_race, memory_mb, run_backend, summarize
from celeba_nb.core import TrainingError


def test_bench_takes_turns(monkeypatch, capsys):
    "Each turn has all ways, and a seed of its own; the bar says which is running."
    calls = []
    monkeypatch.setattr(benchmark, "run_backend", lambda way, options: calls.append((way, options)) or {"seconds": 1.5})
    found = bench(["naive", "celeba_nb"], ["--size", "32"], 2)
    assert [way for way, _ in calls] == ["naive", "celeba_nb"] * 2
    assert [options for _, options in calls] == [["--size", "32", "--seed", seed] for seed in "0011"]
    assert found[["way", "turn", "seconds"]].to_numpy().tolist() == [
        [way, turn, 1.5] for turn in (0, 1) for way in ("naive", "celeba_nb")]
    said = capsys.readouterr().err
    assert "turn 1 of 2: naive" in said and "turn 2 of 2: celeba_nb" in said


def test_bench_refuses_a_wrong_name_before_anything_has_run(monkeypatch):
    monkeypatch.setattr(benchmark, "run_backend", lambda way, options: pytest.fail(f"{way} was run"))
    with pytest.raises(TrainingError, match="no backend 'nobody'"):
        bench(["celeba_nb", "nobody"], [], 1, progress=False)


def test_summary_keeps_the_order_of_the_ways():
    ways = ["naive", "fastai", "celeba_nb"]
    found = pd.DataFrame({"way": ways, "turn": 0, "seconds": [8.0, 6.0, 2.0], "train_images_s": 1.0, "peak_mb": 1.0,
                          "test_accuracy": 0.8})
    summary = summarize(found)
    assert list(summary["ways"]) == ways and summary["ratio_vs_fastai"] == 3 and summary["turns"] == 1


def test_bench_needs_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(celeba_nb, "__file__", str(tmp_path / "celeba_nb" / "__init__.py"))
    with pytest.raises(TrainingError, match="needs the repository"):
        backend_script("naive")


def test_a_failing_program_is_named_with_the_last_line_that_it_printed(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise SystemExit('nowhere: there is no such folder')")
    monkeypatch.setattr(benchmark, "backend_script", lambda backend: tmp_path / "broken.py")
    with pytest.raises(TrainingError, match="^celeba_nb failed: nowhere: there is no such folder"):
        run_backend("celeba_nb", ["--root", "nowhere"])


def family(megabytes, *children):
    "A process with helpers that have helpers."
    def all_of(recursive=False):
        return [*children, *(each for child in children for each in child.children(recursive) if recursive)]
    return SimpleNamespace(memory_full_info=lambda: SimpleNamespace(rss=megabytes * 1e6), children=all_of)


def test_memory_of_a_family():
    "Helpers of helpers count, too; a process that has ended holds nothing."
    assert memory_mb(family(100, family(10, family(1)), family(2))) == 113
    ended = psutil.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert memory_mb(ended) == 0


def test_stopped_watch_leaves_no_process(monkeypatch):
    def stop(process):
        raise KeyboardInterrupt
    monkeypatch.setattr(benchmark, "memory_mb", stop)
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
    with pytest.raises(KeyboardInterrupt):
        benchmark._watch(process)
    assert process.wait(10) != 0  # it was killed, and didn't sleep on


def race_of(difference, ratio=10.0, draws=16):
    "A race in which the recipe is right so much more often, in points, with some spread, and so many times as fast."
    turns, spread = np.arange(draws), np.where(np.arange(draws) % 2, 0.002, -0.002)
    return pd.concat([pd.DataFrame({"way": way, "turn": turns, "seconds": seconds, "test_accuracy": 0.85 + shift})
                      for way, seconds, shift in (("naive", 20.0 + turns, 0), ("race", (20.0 + turns) / ratio,
                                                                              difference / 100 + spread))])


@pytest.mark.parametrize(("race", "verdict"), [
    (race_of(1.0), "as accurate and faster"), (race_of(0.1), "as accurate and faster"),
    (race_of(0.0), "not shown to be as accurate"), (race_of(-1.0), "not shown to be as accurate"),
    (race_of(1.0, ratio=0.9), "not shown to be faster"), (race_of(1.0, draws=15), "too few draws to tell"),
    (race_of(1.0, draws=1), "too few draws to tell"),
])
def test_the_verdict_of_a_race(race, verdict):
    judged = judge_race(race, "naive")
    assert judged["verdict"] == verdict
    assert judged["p"] < 0.01 or verdict not in ("as accurate and faster", "not shown to be faster")


def test_ratio_and_p_of_a_race_by_hand():
    "Twice as fast and half as fast cancel; the p-value is that of the t test against a loss of 0.1 points."
    race = pd.DataFrame({"way": ["naive", "race"] * 2, "turn": [0, 0, 1, 1], "seconds": [4.0, 2.0, 2.0, 4.0],
                         "test_accuracy": [0.8, 0.801, 0.8, 0.803]})
    judged = judge_race(race, "naive")
    assert round(judged["ratio"], 9) == 1 and judged["ratio_low"] < 1 < judged["ratio_high"]
    assert judged["difference"] == pytest.approx(0.002)
    assert judged["p"] == pytest.approx(t.sf((0.002 + 0.001) / (np.std([0.001, 0.003], ddof=1) / 2**0.5), 1))
