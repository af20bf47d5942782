"""Runs of any project: `celeba_nb.verdict` and `celeba-nb verdict`, on tables whose truth is known."""
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from celeba_nb import verdict
from celeba_nb.cli import app
from celeba_nb.compare import effect_lines
from celeba_nb.core import DataError
from celeba_nb.stats import effect_rows
from tools.notebooks import ROOT

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
    assert "m1 against m0: helps." in found.text and "the same within 0.5 points." in found.text
    down = verdict(RUNS, base="m1", direction="lower").effects.set_index("effect")
    assert down["verdict"].eq("helps").all() and (down["mean"] < 0).all() and (down["p_better"] > 0.5).all()


def test_false_verdicts_are_rare():
    "Of 200 families of three effects that are all zero, or as large as the margin."
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


def test_failed_runs_are_named():
    "They didn't lack a partner: they diverged."
    gap = RUNS.assign(accuracy=RUNS["accuracy"].where(~RUNS.index.isin([2, 12, 13]), np.inf))
    found = verdict(gap)
    assert found.effects["n"].tolist() == [8, 9] and "m0 with seed 2." in found.text
    assert "Left out, since their accuracy is no finite number: m1 with seed 2, 3." in found.text


def test_runs_that_share_no_seed_are_independent():
    "Pairs see an effect of half a standard deviation of the seeds; independent runs don't. A large one, both see."
    found = verdict(APART, margin=0.005)
    assert found.effects["verdict"].tolist() == ["no difference seen", "the same within 0.005"]
    assert np.isnan(found.effects["wins"][0]) and found.effects["wins"][1] >= 0 and found.effects["n"].tolist() == [10, 10]
    assert "m1 against m0: no difference seen." in found.text and "10 and 10 independent runs" in found.text
    assert "for independent runs: a permutation test" in found.text and len(found.plot().axes[0].lines[0].get_xdata()) == 0
    large = APART.assign(accuracy=APART["accuracy"] + 0.1 * (APART["method"] == "m1"))
    assert verdict(large).effects["verdict"][0] == "helps" and verdict(large, direction="lower").effects["verdict"][0] == "hurts"
    few = verdict(large[large["seed"] % 50 < 3]).effects
    assert few["verdict"][0] == "too few seeds to tell" and few["p"][0] == 0.1  # one of 20 ways, on two sides


def test_false_verdicts_of_independent_runs_are_rare():
    "Of 200 families of two effects that are zero."
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
    (RUNS.assign(accuracy="good"), {}, "accuracy: 'good' .row 1 of the data. isn't a number"),
    (pd.concat([RUNS, RUNS[:1]]), {}, "'m0' with seed 0 is there twice"),
    (APART, {"items": items_of(APART, np.random.default_rng(0))}, "'m1' and 'm0' have no seed in common: for items"),
    (RUNS.assign(seed=RUNS["seed"].where(RUNS.index != 4)), {}, "seed: row 5 of the data is empty"),
    (RUNS[["accuracy"]], {}, "needs a column method or seed"),
    (RUNS.rename(columns={"method": "algo"}), {"outcome": "accuracy"}, "there is no column method, only algo, seed, accuracy"),
    (RUNS.rename(columns={"seed": "run"}), {"outcome": "accuracy"}, "there is no column seed, only method, run, accuracy"),
    (RUNS.rename(columns={"seed": "run"})[:1], {}, "there is no column seed, and 'run' is no seed"),
    (RUNS, {"outcome": "seed"}, "there is no outcome 'seed', only accuracy"),
    (RUNS, {"margin": 0.0}, "margin must be above 0"), (RUNS, {"direction": "up"}, "'higher' or 'lower', not 'up'"),
    (RUNS, {"family": ["m0"]}, "only the base, 'm0', is asked about"),
    (RUNS.pivot(index="method", columns="seed", values="accuracy").reset_index().assign(mean=0.8), {}, "'mean' looks like"),
    (RUNS, {"items": items_of(RUNS[:29], np.random.default_rng(0))}, "'m2' with seed 9 lacks item i0"),
    (RUNS, {"items": items_of(RUNS.assign(accuracy=80), np.random.default_rng(0))}, "its items have a mean of 80"),
    (RUNS, {"items": RUNS}, "there is no column item"),
    (RUNS, {"items": RUNS.assign(item=0, outcome="good")}, "outcome: 'good' .row 1 of the data. isn't a number"),
    (RUNS, {"items": items_of(RUNS, np.random.default_rng(0)).assign(group="one")}, "all items are in one group"),
    (RUNS, {"items": items_of(RUNS, np.random.default_rng(0)).assign(group=lambda t: t["method"])}, "item i0 is in two groups"),
    (RUNS, {"items": items_of(RUNS, np.random.default_rng(0)).assign(group=None)}, "group: row 1 of the data is empty"),
    (RUNS, {"items": items_of(RUNS, np.random.default_rng(0), items=1)}, "fewer than two items"),
    (RUNS.assign(accuracy=np.nan), {}, "no run of 'm0' has a number as its accuracy"),
    (RUNS.assign(accuracy=RUNS["accuracy"].where(RUNS["method"] != "m0")), {}, "no run of 'm0' has a number"),
])
def test_what_can_t_be_compared_is_said(runs, options, message):
    with pytest.raises(DataError, match=message):
        verdict(runs, **options)


def test_a_family_is_corrected_by_its_size():
    both, alone = verdict(RUNS).effects, verdict(RUNS, family=["m1"]).effects
    assert alone["effect"].tolist() == ["m1"] and alone["p_holm"][0] == alone["p"][0] == both["p_holm"][0] / 2


def test_a_family_may_be_named_in_one_text():
    named = RUNS.replace({"method": {"m1": "m1, large"}})
    both = verdict(named, family=["m1, large", "m2,m2"])
    assert both.effects["effect"].tolist() == ["m1, large", "m2"]
    assert verdict(RUNS, family="m2").effects["effect"].tolist() == ["m2"]


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e9])
def test_rounding_makes_no_difference(scale):
    "84.9 - 84.8 isn't 0.1 in binary; and a difference that only rounding makes is a tie."
    a = [84.8, 84.6, 84.1, 85.4, 84.3, 85.6, 85.8, 85.6, 85.7]
    b = [84.9, 84.4, 84.5, 85.6, 84.9, 85.4, 86.1, 86.0, 86.4]
    row = verdict(pd.DataFrame({"seed": range(9), "a": scale * np.array(a), "b": scale * np.array(b)})).effects
    assert row["p"][0] == 30 / 2**9 and row["wins"][0] == 7 and np.isclose(row["mean"][0], scale * np.subtract(b, a).mean())
    ties = pd.DataFrame({"seed": range(8), "a": 8 * [0.3], "b": 8 * [0.1 + 0.2]})
    found = verdict(ties, margin=0.01).effects.iloc[0]
    assert found["verdict"] == "the same within 0.01" and found["p_better"] == 0.5 and found["wins"] == 0


def test_the_paragraph_says_what_a_reader_must_know():
    found = verdict(RUNS, margin=0.5)
    assert found.text.startswith("m1 against m0: helps, but by less than the margin. The difference in accuracy is +")
    assert re.search(r"is \+\d\.\d\d points \(95% interval \+\d\.\d\d to \+\d\.\d\d; ", found.text)
    assert "n = 10 pairs of runs with the same seed, better in 10; Holm-corrected p = 0.0039 by sign flips and " in found.text
    assert "One run of m1 is better than one of m0 in " in found.text and "corrected for 2 effects" in found.text
    assert "Higher is better." in found.text and "about other seeds on the same test set" in found.text
    assert "The margin of 50 points is wider than the range of all outcomes" in found.text
    items = verdict(RUNS, items=items_of(RUNS, np.random.default_rng(0)), direction="lower")
    assert "other seeds and other items (60 here" in items.text and "Lower is better." in items.text
    assert found.about == "30 runs: m0 (10), m1 (10), m2 (10); seeds 0, 1, 2 ... 9"


def test_an_accuracy_in_percent_and_a_loss_stay_in_their_unit():
    percent = verdict(RUNS.assign(accuracy=100 * RUNS["accuracy"]), margin=0.5)
    assert "the same within 0.5." in percent.text and " points" not in percent.text and percent.what == "accuracy, minus m0's"
    loss = verdict(RUNS.rename(columns={"accuracy": "loss"}), direction="lower")
    assert loss.what == "loss, minus m0's" and "points" not in loss.text


def test_lines_fit_a_terminal():
    "A long name has a line of its own; each effect's line ends with its verdict, in points."
    found = verdict(RUNS, margin=0.005)
    head, first, second = effect_lines(found.effects, found.unit)
    assert head[1] == "" and first[0].startswith("  m1 +") and first[1] == "helps" and second[1] == "the same within 0.5 points"
    assert "10 of 10" in first[0] and len({len(text) for text, _ in (head, first, second)}) == 1
    name = "with a long list of augmentations that somebody chose"
    apart = effect_lines(found.effects.replace("m1", name), found.unit)
    assert apart[1] == (f"  {name}", "") and apart[2][0].split()[0] == first[0].split()[1] and apart[2][1] == "helps"
    assert max(len("".join(line)) for line in apart) <= 80
    alone = verdict(APART, family=["m1"])
    assert " – " in effect_lines(alone.effects, alone.unit)[1][0]


def test_items_of_other_methods_and_runs_dont_matter():
    runs = RUNS.drop(index=[3])  # m0 without seed 3, so m1 and m2 with seed 3 have no partner
    items = items_of(RUNS, np.random.default_rng(0))
    more = pd.concat([items, items[:5].assign(method="m9", item=["x", "y", "z", "u", "v"])])
    needed = items[(items["seed"] != 3) & (items["method"] != "m2")]
    assert verdict(runs, family=["m1"], items=more).text == verdict(runs, family=["m1"], items=needed).text


def test_a_constant_method_without_pairs_gives_no_warning():
    runs = pd.DataFrame([("a", i, 1.0) for i in range(4)] + [("b", 9 + i, 2 + 0.1 * (i == 2)) for i in range(4)],
                        columns=["method", "seed", "loss"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verdict(runs, margin=0.1).effects["n"][0] == 4
    same = runs.assign(loss=1.0)
    assert verdict(same, margin=0.1).effects["verdict"][0] == "the same within 0.1"


def test_long_names_stay_in_the_picture(tmp_path):
    name = "a very long name of a method, $ and all, that nobody can read at once on a telephone"
    long = RUNS.replace({"method": {"m1": name}})
    figure = verdict(long).plot()
    figure.canvas.draw()
    box = figure.bbox
    for ax in figure.axes:
        for text in (*ax.texts, ax.xaxis.label, ax._left_title, figure._suptitle):
            assert box.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= box.x1, text.get_text()
    assert verdict(imagined(np.random.default_rng(0), [0] + 5 * [0.01])).plot().get_suptitle() == "Of 5 effects, 5 help"


@pytest.mark.parametrize(("direction", "left"), [("higher", "hurts"), ("lower", "helps")])
def test_the_picture_shows_pairs_mean_and_interval(direction, left):
    found = verdict(RUNS, direction=direction)
    panels = found.plot().axes
    for ax, row in zip(panels, found.effects.itertuples(), strict=True):
        dots, bar, mean, zero = (line.get_xdata() for line in ax.lines)
        assert np.allclose(np.sort(dots), 100 * np.sort(found.pairs[row.effect])) and len(dots) == row.n
        assert np.allclose([*bar, *mean], [100 * row.low, 100 * row.high, 100 * row.mean]) and list(zero) == [0, 0]
        assert ax.get_title(loc="left").replace("\n", " ") == f"{row.effect}: {row.verdict}"
    assert "\npoints of accuracy, minus m0's" in panels[-1].get_xlabel()
    assert panels[-1].get_xlabel().startswith(f"← {left} ") and "a dot: one pair" in panels[-1].get_xlabel()
    alone = verdict(APART[APART["method"].isin(["m0", "m1"])], direction=direction).plot().axes
    assert "a dot" not in alone[-1].get_xlabel()


def test_a_notebook_shows_table_and_paragraph():
    found = verdict(RUNS)
    shown = found._repr_html_()
    assert found.text in shown and all(f"<td>{effect}</td>" in shown for effect in found.effects["effect"])


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


def call(*words):
    return CliRunner().invoke(app, ["verdict", *map(str, words)])


def test_nothing_of_the_users_is_written_over(tmp_path):
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    before = (tmp_path / "runs.csv").read_bytes()
    for option in ("--json", "--picture"):
        done = call(tmp_path / "runs.csv", option, tmp_path / ("runs.csv" if option == "--json" else "r.txt"))
        assert done.exit_code == 1 and (tmp_path / "runs.csv").read_bytes() == before, done.output
    assert "this is a folder" in call(tmp_path / "runs.csv", "--json", tmp_path).stderr


def test_pictures_and_results_go_into_new_folders(tmp_path):
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    done = call(tmp_path / "runs.csv", "--picture", tmp_path / "a/b.PNG", "--json", tmp_path / "c/d.json")
    assert done.exit_code == 0 and (tmp_path / "a/b.PNG").read_bytes()[1:4] == b"PNG" and (tmp_path / "c/d.json").exists()
    assert done.output.startswith("30 runs: m0 (10), m1 (10), m2 (10); seeds 0, 1, 2 ... 9\n")


def test_an_error_names_the_table_that_it_is_about(tmp_path):
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    items_of(RUNS[:25], np.random.default_rng(0)).to_csv(tmp_path / "items.csv", index=False)
    done = call(tmp_path / "runs.csv", "--items", tmp_path / "items.csv")
    assert done.exit_code == 1 and f"{tmp_path / 'items.csv'}: 'm2' with seed 5 lacks item" in done.stderr
    assert f"{tmp_path / 'runs.csv'}: no run of 'm9'" in call(tmp_path / "runs.csv", "--base", "m9").stderr


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
    assert control["verdict"].eq("too few seeds to tell").all() and np.isclose(control["mean"].max(), 100)


def test_files_with_known_truth():
    "What benchmarks/known_truth.py measures, with fewer tables: bounds about three standard errors wider than what is promised."
    from benchmarks.known_truth import measure

    for setting in ("8 pairs", "8 pairs, 100 items"):
        row = measure(setting, tables=50)
        assert row["false_verdict"] <= 12 and row["false_same"] <= 12 and row["hurts"] == 0 and row["held"] > 89, row
    assert measure("8 pairs", tables=10)["found"] == 100


def test_three_seeds_find_nothing_in_published_runs():
    "However large the difference: three signs agree by chance in one of four cases."
    published = pd.read_csv(ROOT / "nbs/results/published.csv")
    few = published["n"] == 3
    assert few.any() and not published.loc[few, "verdict"].isin(["helps", "hurts"]).any()
    assert published.loc[~few, "verdict"].isin(["helps", "hurts"]).any()
