"""Anybody's runs: `celeba_nb.verdict` and `celeba-nb verdict`, on tables whose truth is known."""
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from celeba_nb import verdict
from celeba_nb.cli import app
from celeba_nb.compare import long_runs
from celeba_nb.core import DataError
from celeba_nb.stats import effect_rows

COLUMNS = ["effect", "base", "outcome", "mean", "low", "high", "p", "p_holm", "wins", "n", "p_better", "verdict"]


def imagined(rng, effects=(0.0, 0.01, 0.0), noise=0.002, seeds=10):
    "Runs of a base and of methods with these effects, whose seeds differ ten times as much as the methods."
    luck = rng.normal(0.8, 0.02, seeds)
    return pd.DataFrame([(f"m{i}", seed, luck[seed] + effect + noise * rng.normal())
                         for i, effect in enumerate(effects) for seed in range(seeds)], columns=["method", "seed", "accuracy"])


RUNS = imagined(np.random.default_rng(0))
APART = RUNS.assign(seed=RUNS["seed"].where(RUNS["method"] != "m1", RUNS["seed"] + 50))  # m1 shares no seed with the others


def items_of(runs, rng, items=60):
    "Items in pairs of one group, whose mean is the outcome of the run."
    rows = []
    for method, seed, outcome in runs.itertuples(index=False):
        each = rng.normal(size=items)
        rows += [(method, seed, f"i{k}", value, k // 2) for k, value in enumerate(outcome + each - each.mean())]
    return pd.DataFrame(rows, columns=["method", "seed", "item", "outcome", "group"])


def test_the_verdicts_are_true():
    found = verdict(RUNS, margin=0.005)
    assert [*found.effects.columns] == COLUMNS and found.effects["verdict"].tolist() == ["helps", "the same within 0.005"]
    assert found.effects["base"].eq("m0").all() and found.effects["n"].eq(10).all() and found.effects["wins"][0] == 10
    assert "m1 against m0: helps." in found.text and "0.005" in found.text
    down = verdict(RUNS, base="m1", direction="lower").effects.set_index("effect")
    assert down["verdict"].eq("helps").all() and (down["mean"] < 0).all() and (down["p_better"] > 0.5).all()


def test_false_verdicts_are_rare():
    "Of 200 families of three effects that are all nothing, or as large as the margin."
    rng = np.random.default_rng(1)
    nothing = [verdict(imagined(rng, (0, 0, 0, 0), seeds=8), margin=0.002).effects for _ in range(200)]
    assert np.mean([effects["verdict"].isin(["helps", "hurts"]).any() for effects in nothing]) <= 0.08
    at_margin = [verdict(imagined(rng, (0, 0.002), seeds=8), margin=0.002).effects for _ in range(200)]
    assert np.mean([effects["verdict"].str.startswith("the same").any() for effects in at_margin]) <= 0.09


def test_it_is_what_stats_says():
    items = items_of(RUNS, np.random.default_rng(2))
    values = items.sort_values(["method", "seed", "item"])["outcome"].to_numpy().reshape(3, 10, 60)
    groups = items[:60].sort_values("item")["group"].to_numpy()
    theirs = effect_rows(values, groups, {"m1": (-1, 1, 0), "m2": (-1, 0, 1)}, "higher", 0.002)
    ours = verdict(RUNS, margin=0.002, items=items.sample(frac=1, random_state=0)).effects
    pd.testing.assert_frame_equal(ours[theirs.columns], theirs, check_dtype=False)
    assert (ours["high"] - ours["low"] > verdict(RUNS).effects["high"] - verdict(RUNS).effects["low"]).all()


@pytest.mark.parametrize("wide", [
    RUNS.pivot(index="seed", columns="method", values="accuracy").reset_index(),
    RUNS.pivot(index="method", columns="seed", values="accuracy").reset_index(),
    RUNS.astype({"seed": float}), RUNS.assign(note="x")], ids=["by seed", "by method", "seeds as floats", "another column"])
def test_long_and_wide_tables_say_the_same(wide):
    assert verdict(wide, "accuracy").text == verdict(RUNS, "accuracy").text


def test_runs_without_a_partner_are_named():
    found = verdict(RUNS.drop(index=[3, 15, 16]), base="m0")  # seed 3 of m0, seeds 5 and 6 of m1
    assert found.effects["n"].tolist() == [7, 9] and found.text.endswith(
        "m1 or m0 that have no partner, and are left out: 3. Runs of m2 or m0 that have no partner, and are left out: 1.")
    gap = RUNS.assign(accuracy=RUNS["accuracy"].where(RUNS.index != 12))
    assert verdict(gap).effects["n"].tolist() == [9, 10]


def test_runs_that_share_no_seed_are_independent():
    "Pairs see an effect of half a standard deviation of the seeds; independent runs don't. A large one, both see."
    found = verdict(APART, margin=0.005)
    assert found.effects["verdict"].tolist() == ["no difference seen", "the same within 0.005"]
    assert np.isnan(found.effects["wins"][0]) and found.effects["wins"][1] >= 0 and found.effects["n"].tolist() == [10, 10]
    assert "at least 10 unpaired runs each" in found.text and "m1 and m0 share no seed" in found.text
    assert "m2 and m0 share no seed" not in found.text and len(found.plot().axes[0].lines[0].get_xdata()) == 0  # no dots
    large = APART.assign(accuracy=APART["accuracy"] + 0.1 * (APART["method"] == "m1"))
    assert verdict(large).effects["verdict"][0] == "helps" and verdict(large, direction="lower").effects["verdict"][0] == "hurts"
    few = verdict(large[large["seed"] % 50 < 3]).effects
    assert few["verdict"][0] == "too few seeds to tell" and few["p"][0] == 0.1  # one of 20 ways, on two sides


def test_false_verdicts_of_independent_runs_are_rare():
    "Of 200 families of two effects that are nothing."
    rng = np.random.default_rng(4)
    worlds = [imagined(rng, (0, 0, 0), seeds=18) for _ in range(200)]
    thirds = [runs[runs["seed"] % 3 == runs["method"].str[1].astype(int)] for runs in worlds]
    assert np.mean([verdict(runs).effects["verdict"].isin(["helps", "hurts"]).any() for runs in thirds]) <= 0.08


def test_few_seeds_ties_and_constants():
    assert verdict(RUNS[RUNS["seed"] < 3]).effects["verdict"].eq("too few seeds to tell").all()
    one = verdict(RUNS[RUNS["seed"] == 0]).effects
    assert one["low"].isna().all() and one["p"].eq(1).all() and one["n"].eq(1).all()
    still = RUNS.assign(accuracy=0.5)
    assert verdict(still).effects["verdict"].eq("no difference seen").all() and verdict(still).effects["p_better"].eq(0.5).all()
    assert verdict(still, margin=0.1).effects["verdict"].eq("the same within 0.1").all()


@pytest.mark.parametrize(("runs", "options", "message"), [
    (RUNS[RUNS["method"] == "m0"], {}, "all runs are of one method, 'm0'"),
    (RUNS, {"base": "m9"}, "no run of 'm9': the methods are m0, m1, m2"),
    (RUNS, {"family": ["m9"]}, "no run of 'm9'"),
    (RUNS, {"outcome": "loss"}, "there is no outcome 'loss', only accuracy"),
    (RUNS.assign(loss=1.0), {}, "which outcome[?] Choose one of accuracy, loss"),
    (RUNS.assign(accuracy="good"), {"outcome": "accuracy"}, "accuracy: 'good' .row 1. isn't a number"),
    (pd.concat([RUNS, RUNS[:1]]), {}, "'m0' with seed 0 is there twice"),
    (APART, {"items": items_of(APART, np.random.default_rng(0))}, "'m1' and 'm0' have no seed in common: for items"),
    (RUNS.assign(seed=RUNS["seed"].where(RUNS.index != 4)), {}, "seed: row 5 is empty"),
    (RUNS[["accuracy"]], {}, "needs a column method or seed"),
    (RUNS, {"margin": 0.0}, "margin must be above 0"),
    (RUNS, {"direction": "up"}, "'higher' or 'lower', not 'up'"),
    (RUNS, {"items": items_of(RUNS[:29], np.random.default_rng(0))}, "lacks some items of 'm2' with seed 9"),
    (RUNS, {"items": items_of(RUNS.assign(accuracy=80), np.random.default_rng(0))}, "its items have a mean of 80"),
    (RUNS, {"items": RUNS}, "has no column item"),
    (RUNS, {"items": RUNS.assign(item=0, outcome="good")}, "something that isn't a number in its column outcome"),
    (RUNS.assign(accuracy=np.nan), {}, "no run has a number as its accuracy"),
])
def test_what_can_t_be_compared_is_said(runs, options, message):
    with pytest.raises(DataError, match=message):
        verdict(runs, **options)


def test_a_family_is_corrected_by_its_size():
    both, alone = verdict(RUNS).effects, verdict(RUNS, family=["m1"]).effects
    assert alone["effect"].tolist() == ["m1"] and alone["p_holm"][0] == alone["p"][0] == both["p_holm"][0] / 2


def test_seeds_as_text_and_a_table_of_text_come_back():
    table = long_runs(pd.DataFrame({"method": ["a", "a"], "seed": ["x", "y"], "loss": ["1", "2.5"]}), "loss")
    assert table["loss"].tolist() == [1, 2.5] and table["seed"].tolist() == ["x", "y"]


def test_the_command(tmp_path):
    "The contract that other tools rely on."
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    items_of(RUNS, np.random.default_rng(2)).to_csv(tmp_path / "items.csv", index=False)
    out, picture = tmp_path / "out.json", tmp_path / "effects.svg"
    options = {"--outcome": "accuracy", "--base": "m0", "--margin": 0.002, "--direction": "higher",
               "--items": tmp_path / "items.csv", "--json": out, "--picture": picture}
    words = [tmp_path / "runs.csv", *(word for option in options.items() for word in option)]
    done = CliRunner().invoke(app, ["verdict", *map(str, words)])
    assert done.exit_code == 0, done.output
    said = json.loads(out.read_text())
    assert [[*effect] for effect in said["effects"]] == [COLUMNS] * 2 and said["text"] in done.output
    assert picture.read_text().count("<svg") == 1


@pytest.mark.parametrize(("file", "message"), [("missing.csv", "no such file"), ("broken.csv", "not a table in CSV"),
                                               ("empty.csv", "not a table in CSV")])
def test_the_command_names_the_file(tmp_path, file, message):
    (tmp_path / "broken.csv").write_bytes(b"\x89PNG\x00\xff")
    (tmp_path / "empty.csv").touch()
    done = CliRunner().invoke(app, ["verdict", str(tmp_path / file), "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 1 and file in done.stderr and message in done.stderr and not (tmp_path / "out.json").exists()


def test_two_equal_runs_are_not_yet_the_same():
    "Two seeds without a difference: no variance can be estimated from them."
    still = RUNS[RUNS["seed"] < 2].assign(accuracy=0.5)
    assert verdict(still, margin=0.1).effects["verdict"].eq("too few seeds to tell").all()


def test_the_base_in_its_family_changes_nothing():
    assert verdict(RUNS, family=["m0", "m1"]).text == verdict(RUNS, family=["m1"]).text


def test_a_picture_of_another_kind_is_refused_before_anything_is_written(tmp_path):
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    done = CliRunner().invoke(app, ["verdict", str(tmp_path / "runs.csv"), "--picture", str(tmp_path / "effects.txt"),
                                    "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 1 and "effects.txt: a picture is a .png or a .svg file" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_the_published_runs_of_other_projects(tmp_path):
    "Stand-ins for their clones, with the folders and columns of the real ones."
    from benchmarks import published

    def commit(name, files):
        for path, text in files.items():
            (file := tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for words in (["init", "-q"], ["add", "."], ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "a"]):
            published.git(tmp_path / name, *words)

    seeds = range(8)
    rows = [f"{method},TSC,{data},{seed}.0,0,{0.8 + 0.1 * (method == 'resnet') + 0.001 * seed},0,0"
            for method in ("fcn", "resnet") for data in "ab" for seed in seeds]
    names = "classifier_name,archive_name,dataset_name,iteration,precision,accuracy,recall,duration"
    commit("dl-4-tsc", {"results/results-uea.csv": "\n".join([names, *rows])})
    commit("tabular-dl-tabr", {f"exp/{folder}-evaluation/{seed}/report.json": json.dumps(
        {"metrics": {"test": {"rmse": 0.4 + 0.1 * (method == "MLP") + 0.001 * seed}}})
        for method, folder in published.HOUSES.items() for seed in seeds})
    commit("tdmpc2", {f"results/{method}/{task}.csv": "step,reward,seed\n" + "\n".join(
        f"{step},{step * place},{seed}" for step in (0, 100) for seed in (1, 2, 3))
        for place, method in enumerate(("sac", "dreamerv3", "tdmpc", "tdmpc2")) for task in "ab"})
    series, houses, control = (published.ask(tmp_path, name) for name in published.SOURCES)
    assert series["verdict"].tolist() == ["helps"] and series["items"].tolist() == [2] and len(series["commit"][0]) == 12
    assert dict(zip(houses["effect"], houses["verdict"]))["MLP"] == "hurts" and houses["n"].eq(8).all()
    assert control["verdict"].eq("too few seeds to tell").all() and control.set_index("effect")["mean"]["tdmpc2"] == 100
