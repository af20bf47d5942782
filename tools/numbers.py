"""Recompute the published numbers from nbs/results, and say where a page has a different one (make numbers).

A claim is a piece of a page, written with numbers that are computed here. It must be in README, in docs/cluster.md, or in the
part of a lesson that is called "What we saw". There, and in README's parts that are named in TABLES, each number needs a
claim, or an output of the same lesson that shows it: so no number can be added without saying where it comes from.
"""
import json
import re
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd

from benchmarks.placebo import PLAIN, moves
from celeba_nb.architectures import norm_cnn, pooled_cnn
from celeba_nb.audit import gap_table
from celeba_nb.benchmark import LEVEL, not_worse_p, summarize
from celeba_nb.few_labels import CURVE, fit_curve, power_law
from celeba_nb.model import count_parameters
from celeba_nb.recipe import RECIPES
from celeba_nb.results import ResultsTable, paired_effects, read_answers
from celeba_nb.runs import RUN_MEMORY
from celeba_nb.speed import ratios
from celeba_nb.stats import interval, order_share, pair_rows
from celeba_nb.study import MARGIN, PAPER, STUDY_METHODS, outcome_effects
from tools.notebooks import ROOT, name_of, notebooks, read, source

RESULTS = ROOT / "nbs/results"
FAMILIES = json.loads((RESULTS / "families.json").read_text())  # which questions are asked, and corrected for, together
BY_SEED = ["augment_effects_1000", "augment_effects_10000", "architectures_effects", "explain_shortcut_effects"]  # no images kept
TABLES = ["## Do random flips", "## How far do 1,000 labels go?", "## How fast?"]  # of README
NUMBER = re.compile(r"[+−-]?\d[\d,]*\.\d+%?|[+−-]?\d+%|[+−-]?\d+(?= points)")  # with a decimal point, %, or points
WORDS = "no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()


def table(name):
    "A file of nbs/results."
    return pd.read_csv(RESULTS / f"{name}.csv")


def signed(value, digits=2):
    "A number with its sign, as pages write it."
    return f"{value:+.{digits}f}".replace("-", "−")


def points(value, digits=2):
    "A difference of fractions in points."
    return signed(100 * value, digits)


def between(row, digits=2, sign=True):
    "The interval of an effect, in points."
    form = points if sign else lambda value, digits: f"{100 * value:.{digits}f}".replace("-", "−")
    return f"{form(row.low, digits)} to {form(row.high, digits)}"


def study():
    "README's and 05's numbers of the study on real faces."
    answers = read_answers(RESULTS / "study_answers.npz")
    effects = outcome_effects(answers)
    pd.testing.assert_frame_equal(effects, table("study_effects"))
    right, people = answers["test_accuracy"]
    assert len(np.unique(people)) == 614  # as 05 and 05a say
    low, high = PAPER["test_accuracy"].min(), PAPER["test_accuracy"].max()
    yield "README", f"learning rate {STUDY_METHODS['LR 0.001']['lr']} or {STUDY_METHODS['LR 0.0005']['lr']}, with or without"
    yield "README", f"It found test accuracies of {low:.2%} to {high:.2%}"
    yield "README", f"| effect on the test accuracy | points | {interval.__defaults__[0]:.0%} interval |"
    yield "README", f"the accuracy is the same within {100 * MARGIN:g} points"
    runs = table("study_runs")
    by_method = runs.groupby("method")
    for method, short in zip(STUDY_METHODS, ("learning rate 0.001", "0.001 + flip", "0.0005", "0.0005 + flip")):
        mean, sd = by_method.mean(numeric_only=True).loc[method], by_method["test_accuracy"].std()[method]
        yield "README", (f"| {short} | {PAPER['test_accuracy'][method]:.2%} | {mean.test_accuracy:.2%} ({100 * sd:.2f}) "
                         f"| {mean.valid_loss:.4f} | {mean.train_loss:.4f} |")
    for row in effects[effects["outcome"] == "test_accuracy"].itertuples():
        verdict = re.sub("within .*", "within 0.2 points", row.verdict)
        yield "README", (f"| {row.effect} | {points(row.mean)} | {between(row)} | {row.p_holm:.2g} | {row.wins} of {row.n} "
                         f"| {verdict} |")
    values = runs.pivot(index="method", columns="seed", values="test_accuracy").loc[list(STUDY_METHODS)].to_numpy()
    np.testing.assert_allclose(right.mean(2), values)
    share, one, two = 100 * order_share(values), *np.triu_indices(values.shape[1], 1)
    yield "README", f"two runs at a time, {runs['seconds'].mean():.0f} seconds a run on average"
    yield "README", (f"appears in {share:.1f} of 100 ways to pick one run each (four equal methods would give it in "
                     f"{100 / 24:.1f})")
    yield "05_ablation", (f"one run each gives the study's order in {share:.1f} of 100 ways to pick; four equal methods would "
                          "in 4.2")
    apart = 100 * np.abs(values[:, one] - values[:, two]).mean()
    yield "05_ablation", f"two runs of the same method differ by {apart:.1f} points on average"


def by_name(effects, outcome="test_accuracy"):
    "The effects on an outcome, by their names."
    rows = effects[effects["outcome"] == outcome] if "outcome" in effects else effects
    return {row.effect: row for row in rows.itertuples()}


def plural(*rows):
    "What pages say of several effects that have one verdict: help, or hurt."
    return " and ".join(sorted({row.verdict.removesuffix("s") for row in rows}))


def evidence():
    "05a's smallest p-value of three pairs."
    yield "05a_evidence", f"three pairs can't give a p-value below {2 / 2**3:.2f}"


def few_labels():
    "README's best recipes, and 09's curve."
    page, best, everything = "09_few_labels", ResultsTable(RESULTS / "few_labels_best.csv"), table("never_looking")["labels"][0]
    yield "README", f"The same {len(best.groups):,} test images of the real CelebA"
    yield "README", f"| test accuracy ({interval.__defaults__[0]:.0%} interval) | balanced accuracy |"
    few, small, large = (RECIPES[name].train_images for name in ("best-100", "best-1k", "best-10k"))
    learned = {"best-100": f"{few:,} labelled images | {{}} | {{}} draws",
               "best-1k": f"{small:,} labelled images, and {everything - small:,} without labels | {{}} | {{}} draws",
               "best-10k": f"{large:,} labelled images | {{}} | {{}} seeds, one draw"}
    right = {}
    for method, cells in learned.items():
        rows = best.rows[best.rows["method"] == method]
        low, high = interval(best.image_accuracies(method, rows["seed"]), best.groups)
        mean = rows.mean(numeric_only=True)
        right[method] = f"{mean.test_accuracy:.1%}"
        accuracies = f"{right[method]} ({low:.1%} to {high:.1%}) | {mean.test_balanced_accuracy:.1%}"
        # without the last cell: the minutes of the whole command are in no file (`seconds`: training and validation)
        yield "README", f"| `{method}` | {cells.format(accuracies, len(rows))} |"
    yield page, f"{right['best-100']} with {few} labels, without a step of gradient descent"
    yield page, (f"**{small:,} labels and {everything - small:,} unlabelled faces reach {right['best-1k']}; {large:,} labels "
                 f"reach {right['best-10k']}.**")
    runs = ResultsTable(RESULTS / "few_labels_curve.csv").rows
    by_labels, size = runs.groupby("method")["test_accuracy"], CURVE["1000"].size
    mean, each = by_labels.mean(), " or ".join(WORDS[n] for n in by_labels.size().unique())
    yield page, (f"{mean['100']:.1%} with 100 labels, {mean['1000']:.1%} with 1,000, {mean['10000']:.1%} with 10,000 "
                 f"({each} runs each, {size}×{size} pixels)")
    error = power_law(162_770, *fit_curve(runs["method"].astype(int), 1 - runs["test_accuracy"]))
    yield page, f"The fitted power law expects about {1 - error:.0%} with all 162,770"


def ingredients():
    "09's effects of the ingredients, all as one family."
    page, family = "09_few_labels", FAMILIES["few_labels_ingredients"]["effects"]
    effects = paired_effects(ResultsTable(RESULTS / "few_labels_ingredients.csv"), family)
    rows = by_name(effects)
    larger, four, ten, unlabelled, cold, one, fair = (rows[name] for name in (
        "128×128 pixels", "four members", "ten looks", "unlabelled images", "no warm-up", "one look",
        "unlabelled, against as many epochs"))
    yield page, f"the warm-up brings {-100 * cold.mean:.2f} points, a second look {-100 * one.mean:.2f}"
    yield page, (f"Larger images bring {100 * larger.mean:.2f} points, four members {100 * four.mean:.2f}, unlabelled faces "
                 f"{100 * unlabelled.mean:.2f}")
    verdict = "a" if (effects["verdict"] == "helps").any() else "no"
    yield page, (f"{WORDS[len(effects)].capitalize()} questions and {WORDS[effects['n'].max()]} seeds allow {verdict} verdict "
                 "that one of them helps")
    yield page, f"are {100 * four.mean:.2f} points better than one ({between(four, sign=False)})"
    yield page, f"Ten looks by one network bring {100 * ten.mean:.2f} over two looks"
    yield page, f"unlabelled faces are worth {100 * fair.mean:.2f} points ({between(fair, sign=False)})"


def speed():
    "README's and 06's times; all ratios turn by turn."
    runs = pd.DataFrame(json.loads((RESULTS / "bench.json").read_text())["runs"])
    bench, page = summarize(runs), "06_speed"
    peers = {"naive": "a tutorial's Dataset and DataLoader", "fastai": "fastai's DataBlock and Learner"}
    yield "README", f"{WORDS[bench['turns']]} turns each"
    faster = {way: "{:.1f} times ({:.1f} to {:.1f}) ".format(bench[f"ratio_vs_{way}"], *bench[f"ratio_vs_{way}_range"])
              for way in peers}
    for way, name in ({"celeba_nb": "`celeba_nb`"} | peers).items():
        mean = bench["ways"][way]
        yield "README", (f"| {name} | {mean['seconds']:.1f} | {mean['train_images_s']:.0f} | {mean['peak_mb'] / 1000:.1f} GB "
                         f"| {mean['test_accuracy']:.1%} | {faster.get(way, '')}|")
    ours, usual, (low, high) = bench["ways"]["celeba_nb"], bench["ways"]["naive"], bench["ratio_vs_naive_range"]
    yield page, f"takes {ours['seconds']:.0f} seconds instead of {usual['seconds']:.0f} in the mean"
    yield page, (f"it is {bench['ratio_vs_naive']:.1f} times as fast as the usual way (the median of {WORDS[bench['turns']]} "
                 f"turns, {low:.1f} to {high:.1f}), with {ours['test_accuracy']:.1%} and {usual['test_accuracy']:.1%} of the")
    steps = ratios(table("speed_stages"), "the usual way")["median"]
    yield page, f"together are {steps['+ fused Adam']:.2f} times as fast as the usual way"
    side_by_side = ratios(table("speed_study").set_index("turn"), "one run on 2 threads")["median"]["2 runs on 1 thread each"]
    yield page, f"**Two cores** make a single run about {2 / side_by_side:.1f} times as fast"
    digits = paired_effects(ResultsTable(RESULTS / "placebo_runs.csv"), {"bfloat16": (PLAIN, "float32")}).iloc[0]
    yield page, (f"{digits['verdict'].split(' within')[0]} within {100 * MARGIN:g} points ({WORDS[digits['n']]} paired seeds, "
                 f"{points(digits['mean'])} points, {between(digits)})")


def race():
    "The thousand-faces race, in README and 06: 16 draws beside those of the study, and the times of a few turns."
    draws, found = table("race_draws").set_index("seed")["test_accuracy"], json.loads((RESULTS / "race.json").read_text())
    studied = table("study_runs").pivot(index="seed", columns="method", values="test_accuracy")
    best = studied[studied.mean().idxmax()]
    for page in ("README", "06_speed"):
        yield page, (f"right in {draws.mean():.1%} of the test answers, where the study's best method is right in "
                     f"{best.mean():.1%} (the same {len(draws)} draws")
        yield page, "{seconds:.1f} seconds instead of {peer_seconds:.0f}".format(**found)
        yield page, "{ratio:.0f} times as fast as the usual way ({ratio_low:.0f} to {ratio_high:.0f}".format(**found)
    assert not_worse_p(draws - best) < LEVEL


def augment():
    "07's effects of the augmentations."
    page, few, many = "07_augment", *(by_name(table(f"augment_effects_{images}")) for images in (1000, 10_000))
    three, four = "flip, affine, cut-out", "flip, affine, colour, cut-out"
    flip, mixup = few["flip"], few["mixup"]
    yield page, (f"{flip.n} paired seeds**: the flip ({points(flip.mean)} points, {between(flip, sign=False)}) and mixup "
                 f"({points(mixup.mean)}, {between(mixup, sign=False)}) {plural(flip, mixup)}")
    yield page, (f"The shift ({points(few['shift'].mean)}), the chain of three ({points(few[three].mean)}) and of four "
                 f"({points(few[four].mean)}) {plural(few['shift'], few[three], few[four])}")
    torn = [name for name, row in few.items() if row.verdict == "signs disagree"]
    unseen = sum(row.verdict == "no difference seen" for row in few.values())
    yield page, f"For {' and '.join(torn)} the signs disagree; for the other {WORDS[unseen]} no difference is seen"
    flip, shown = many["flip"], "something" if any(row.verdict == "helps" for row in many.values()) else "nothing"
    yield page, f"{flip.n} paired seeds**: {shown} is shown to help (flip {points(flip.mean)}, {between(flip, sign=False)})"
    yield page, (f"Affine ({points(many['affine'].mean)}), TrivialAugment ({points(many['trivial'].mean)}) and the chain of "
                 f"three ({points(many[three].mean)}) {plural(many['affine'], many['trivial'], many[three])}")
    low, high = (table(f"augment_runs_{n}").query("method == 'base'")["test_accuracy"].mean() for n in (1000, 10_000))
    times = (high - low) / max(row.mean for row in few.values())
    yield page, (f"brought {100 * (high - low):.0f} points ({low:.2%} to {high:.2%}), {WORDS[round(times)]} times as much as "
                 "the best augmentation")


def architectures():
    "08's effects, times and weights of networks."
    page, effects = "08_architectures", by_name(table("architectures_effects"))
    mean = table("architectures_runs").groupby("method")["test_accuracy"].mean()
    more = mean["ResNet-18"] - mean["study's CNN"]
    yield page, f"ResNet-18 is better on new faces than the study's network, by {100 * more:.1f} points in the means"
    norm, averages, addition = (effects[name] for name in list(FAMILIES["architectures_effects"]["effects"])[:3])
    yield page, f"{points(norm.mean)} points over the study's ({between(norm)})"
    yield page, f"{100 * addition.mean:.2f} points on real faces ({between(addition)})"
    times = ratios(table("architectures_seconds"), "study's CNN @ float32")["median"]
    yield page, f"MobileNetV3 is {times['MobileNetV3 @ float32']:.1f} times as fast as the study's network in float32"
    gone = 1 - count_parameters(pooled_cnn(64)) / count_parameters(norm_cnn(64))
    yield page, f"**Averages** remove {gone:.0%} of the weights, and cost {-100 * averages.mean:.2f} points ({between(averages)})"
    right = table("architectures_momentum").set_index("momentum")["valid_accuracy"]
    yield page, f"a network with good weights gives poor answers: {right[0.01]:.1%} instead of {right[0.1]:.1%}"


def explain():
    "11's scores of the methods, each the mean over twelve attributes."
    page, scores = "11_explain", table("explain_scores").query("score == 'pointing'")
    mean = 100 * scores.pivot_table(index="method", columns="network", values="mean")
    trained, methods = mean["trained"], ["gradient", "integrated gradients", "occlusion", "Grad-CAM"]
    yield page, ("in {:.0f}% of the cases with the gradient, {:.0f}% with integrated gradients, {:.0f}% with occlusion and "
                 "{:.0f}% with Grad-CAM".format(*trained[methods]))
    yield page, (f"Anywhere has {trained['anywhere']:.0f}%, and habit, which sees neither network nor face, "
                 f"{trained['habit']:.0f}%")
    by_chance = mean["random weights"][methods]
    yield page, f"{by_chance.min():.0f}% to {by_chance.max():.0f}% in the pointing game"


def photo():
    "12's photos, and its points of the face."
    page, ways = "12_photo", {row.way: row for row in table("photo").itertuples()}
    squeezed, aligned, once = (ways[way] for way in ("whole photo squeezed", "found and aligned", "one look"))
    other = int(100 * (1 - squeezed.agreement))
    yield page, (f"and {other} or {other + 1} on 1,000 real ones. There the accuracy falls to {squeezed.accuracy:.1%}, "
                 f"{100 * squeezed.lost:.1f} points lost")
    lost = SimpleNamespace(low=aligned.lost_low, high=aligned.lost_high)
    yield page, (f"Found and aligned, {aligned.agreement:.1%} of the decisions are the same, and {100 * aligned.lost:.2f} points "
                 f"are lost ({between(lost, sign=False)})")
    yield page, f"brings nothing that we can see: {aligned.agreement:.1%} against {once.agreement:.1%}"
    frame = json.loads((RESULTS / "photo_frame.json").read_text())
    off, weight = frame["error_by_points"], frame["weights"]["tip of the nose"]
    yield page, (f"The eyes and the corners of the mouth: {off['eyes and corners of the mouth']:.1f} pixels from CelebA's frame. "
                 f"The eyes alone are {off['eyes']:.1f} pixels off, and the tip of the nose has weight {round(weight, 2):g}")


def limits():
    """13's certainty, as its code defines it; all other numbers there are of its own runs. From what each run on real faces
    made of each image: their accuracies, and the gaps between groups with their intervals."""
    answers, runs, gaps = np.load(RESULTS / "limits_answers.npz"), table("limits_runs"), table("limits_gaps")
    right = answers["test_accuracy"] / answers["attributes"]
    made = pd.DataFrame(right.mean(-1), answers["methods"], answers["seeds"])
    np.testing.assert_allclose(made.stack(), runs.set_index(["method", "seed"])["test_accuracy"].loc[made.stack().index])
    for row in gaps[gaps["of"] == "accuracy"].itertuples():
        member = answers[row.group][:, None]
        mean = right[list(answers["methods"]).index(row.method)].mean(0)[:, None]
        again = gap_table(mean, ~member, member, answers["test_accuracy_groups"], ["accuracy"]).iloc[0]
        np.testing.assert_allclose(again[["gap", "low", "high"]].astype(float), [row.gap, row.low, row.high], atol=6e-6)
    code = "\n".join(source(cell) for cell in read(ROOT / "nbs/13_limits.ipynb")["cells"])
    away = float(re.search(r"certain = np\.abs\(q - 0\.5\) > (\S+)", code)[1])
    yield "13_limits", f"gave with more than {0.5 + away:.0%} certainty"


def imbalance():
    "12a's remedies for rare answers, on real faces; the means are those of the committed runs."
    effects, runs = table("imbalance_effects"), table("imbalance_runs").groupby("method").mean(numeric_only=True)
    sizes, ends = {}, {}
    for row in effects.itertuples():
        assert np.isclose(row.mean, runs.loc[row.effect, row.outcome] - runs.loc["base", row.outcome])
        low, high = sorted((abs(100 * row.low), abs(100 * row.high)))
        sizes[row.effect, row.outcome], ends[row.effect, row.outcome] = f"{100 * abs(row.mean):.1f}", f"({low:.1f} to {high:.1f})"
    lost, won = ("weighted loss", "accuracy"), ("weighted loss", "balanced_accuracy")
    yield "12a_yours", (f"the weighted loss costs {sizes[lost]} points of accuracy {ends[lost]} and gains {sizes[won]} of "
                        f"balanced accuracy {ends[won]}")
    lost, won = ("thresholds", "accuracy"), ("thresholds", "balanced_accuracy")
    yield "12a_yours", f"thresholds cost {sizes[lost]} {ends[lost]} and gain {sizes[won]} {ends[won]}"


def placebo():
    "README's and 05's sentence on how far one run moves when only the arithmetic differs."
    runs, family = ResultsTable(RESULTS / "placebo_runs.csv"), FAMILIES["placebo_runs"]["effects"]
    moved = moves(runs, range(8))
    both = [table(name).set_index(["method", "seed"])["test_accuracy"] for name in ("study_runs", "study_runs_intel")]
    other = 100 * (both[0] - both[1]).abs().max()
    low, high = moved.mean(1).min(), moved.mean(1).max()
    yield "README", (f"it moves by {low:.2f} to {high:.2f} points on average (at most {moved.max():.2f}), "
                     f"and on another processor by up to {other:.2f}")
    yield "05_ablation", (f"one run moves by {low:.2f} to {high:.2f} points on average, and on another processor "
                          f"by up to {other:.2f}")
    if set(paired_effects(runs, family)["verdict"]) == {f"the same within {MARGIN:g}"}:
        yield "05_ablation", f"The method stays the same within {100 * MARGIN:g}"


def cluster():
    "What docs/cluster.md computes from the parts that benchmarks/cluster.py measured, and from the study's own runs."
    parts, page, run = table("cluster_parts").set_index("part")["measured"], "cluster", table("study_runs")["seconds"].mean()
    runs, machines, cores, faces = 1000, 50, 4, 202_599  # all of CelebA
    images, start, dask, save = (parts[name] for name in ("images", "seconds to start a worker", "seconds of Dask a run",
                                                          "seconds of the client to save a run"))
    labels, wire = parts["seconds to read the labels"] / images * faces, parts["bytes over the wire a run"] / 1e6
    yield page, f"{parts['runs']:.0f} runs on two workers"
    yield page, f"killed after {parts['finished before the kill']:.0f} runs"
    yield page, f"| start a worker, until it has imported the package | {start:.1f} s |"
    yield page, f"| read the labels of {images:,.0f} images | {parts['seconds to read the labels']:.2f} s |"
    yield page, f"| name the data in a run's task | {parts['bytes of the labels as sent']:.0f} bytes |"
    yield page, f"| Dask's own work for a run (`d`) | {dask:.3f} s |"
    yield page, f"| the client saves a run (`c`) | {save:.3f} s |"
    yield page, f"| all messages for a run, with its record | {wire:.2f} MB |"
    yield page, f"| one of the study's runs on one core (`s`) | {run:.1f} s |"
    workers = machines * cores
    rounds, queue = -(-runs // workers), runs * (dask + save)
    yield page, f"{runs:,} / {workers} = {rounds} rounds of {run:.0f} s are {rounds * run / 60:.1f} minutes"
    yield page, f"{runs:,} × (d + c) is {queue / 60:.1f} minutes"
    total = start + labels + max(rounds * run, queue)
    yield page, f"about {labels:.0f} s for all of CelebA"
    yield page, f"**{total / 60:.0f} minutes**, and **{runs * run / 3600:.0f} core hours**"
    yield page, f"two cores of a laptop need {runs * run / 2 / 3600:.1f} hours"
    yield page, f"{runs * wire / 1000:.2f} GB in all"
    yield page, f"at most {workers * run / 3600:.1f} core hours"
    jpegs, line = 1.4, 0.125  # GB of CelebA's archive; GB a second over a gigabit line
    copying = machines * jpegs / line
    assert copying > total, "the page says that copying takes longer than the runs"
    yield page, f"The JPEGs take about {jpegs} GB"
    yield page, (f"One server with a gigabit line ({1000 * line:.0f} MB a second) sends {machines} copies in "
                 f"{WORDS[round(copying / 60)]} minutes")
    yield page, f"{RUN_MEMORY / 1e9:.1f} GB for each worker"


CLAIMS = [study, placebo, evidence, few_labels, ingredients, speed, race, augment, architectures, explain, photo, imbalance,
          limits, cluster]


def stale_effects():
    "Which committed effects aren't those of the committed runs."
    for name in BY_SEED:
        family = FAMILIES[name]
        said, runs = table(name), table(family["runs"]).rename(columns={"Eyeglasses untied": "untied accuracy"})
        for outcome, better in family["outcomes"].items():
            values = runs.pivot(index="seed", columns=family.get("by", "method"), values=outcome)
            differences = {effect: (values[new] - values[old]).dropna().to_numpy()
                           for effect, (new, old) in family["effects"].items()}
            made = pair_rows({effect: each[:, None] for effect, each in differences.items()}, np.zeros(1), better,
                             family["margin"] if outcome.endswith("accuracy") else None).assign(outcome=outcome)
            if "explain" in name:  # its intervals and verdicts are also about other faces, and need the answer to each face
                made = made.drop(columns=["low", "high", "verdict"])
            try:
                pd.testing.assert_frame_equal(said.loc[said["outcome"] == outcome, made.columns].reset_index(drop=True), made)
            except AssertionError as error:
                yield f"{name}.csv is not what its runs give for {outcome}: {' '.join(str(error).split())}"


def seen(nb):
    "The part of a lesson that sums up."
    text = [source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown"]
    found = [re.split(r"^## ", part.split("## What we saw", 1)[1], flags=re.M)[0] for part in text if "## What we saw" in part]
    return "\n".join(found)


def shown(nb):
    "All numbers in the outputs of a lesson, without signs."
    outputs = chain.from_iterable(cell.get("outputs", []) for cell in nb["cells"])
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return [float(number) for text in texts for number in re.findall(r"\d+(?:\.\d+)?", "".join(text).replace(",", ""))]


def is_shown(number, values):
    "Whether an output is this number, to its digits; a percentage may be a fraction there."
    digits = len(number.rstrip("%").partition(".")[2])
    value = float(number.strip("+−-%").replace(",", ""))
    return any(np.isclose(value, round(scale * shown, digits)) for shown in values for scale in (1, 100))


def pages():
    "Each page's text that must be backed, and the numbers that its own outputs show."
    readme = (ROOT / "README.md").read_text()
    parts = [part for part in re.split(r"^(?=## )", readme, flags=re.M) if part.startswith(tuple(TABLES))]
    yield "README", "\n".join(parts), []
    yield "cluster", (ROOT / "docs/cluster.md").read_text(), []
    for path in notebooks():
        if text := seen(nb := read(path)):
            yield name_of(path), text, shown(nb)


def differences():
    "What is wrong: claims that a page doesn't make, numbers that nothing backs, and effects that aren't those of their runs."
    yield from stale_effects()
    claims = [claim for claims in CLAIMS for claim in claims()]
    for page, text, values in pages():
        rest = text
        for claim in [claim for where, claim in claims if where == page]:
            if claim not in text:
                yield f"{page} doesn't say: {claim}"
            rest = rest.replace(claim, "")
        yield from (f"{page}: nothing gives {number}" for number in NUMBER.findall(rest) if not is_shown(number, values))


def main():
    wrong = list(differences())
    print("\n".join(wrong) or "All published numbers are what nbs/results gives.")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
