"""Where do networks look? The tables of notebook 11: what each method scores, the shortcut, and real faces.

    OMP_NUM_THREADS=1 python benchmarks/explain.py --root "$CELEBA_ROOT" --out nbs/results

It needs the extra `explain`, and trains 57 networks; those are kept in --runs, and a second start goes on from them.
Written: explain_networks.csv (what five networks know), explain_scores.csv (four methods and three guesses),
explain_layers.csv (Grad-CAM on other layers), explain_shortcut.csv, explain_shortcut_answers.npz and
explain_shortcut_effects.csv (faces on which hats and glasses go together), explain_real.csv. Without --root all but the
last, which is about real faces.
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from captum.attr import LayerGradientXActivation
from scipy.stats import spearmanr

from celeba_nb.attribution import ATTRIBUTION_METHODS, as_batch, attribute_maps, energy_inside, randomize_weights
from celeba_nb.core import ATTRIBUTES
from celeba_nb.explain import dilate, pointing_game, truth_masks
from celeba_nb.files import read_celeba
from celeba_nb.images import decode, normalize
from celeba_nb.metrics import attribute_balanced_accuracy
from celeba_nb.recipe import QUICKEST, Recipe
from celeba_nb.sketch import flip_coins, label_faces, plan_faces
from celeba_nb.stats import effect_rows, interval
from celeba_nb.training import train

NAMES = ["Wearing_Hat", "Eyeglasses", "Wearing_Necktie", "Bangs", "Goatee", "Mustache", "Mouth_Slightly_Open", "Rosy_Cheeks",
         "Wearing_Earrings", "Wearing_Necklace", "Pale_Skin", "Blurry"]  # each by a coin
TWO = ["Wearing_Hat", "Eyeglasses"]  # what goes together in the shortcut
LARGE, SMALL = (2000, 50, 400), (1200, 20, 240)  # training, validation and test faces of the scores and of the shortcut
THIRDS = {"Wearing_Hat": "upper", "Bangs": "upper", "Eyeglasses": "middle", "Smiling": "lower", "Goatee": "lower",
          "Wearing_Necktie": "lower"}  # of a real face


def train_kept(settings, labels, folder, name, seed):
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(**QUICKEST | {"threads": 1, "seed": seed} | settings)
    return train(recipe, labels, folder / f"{name}-{seed}", progress=False)


# Scores


def scores(heat, mask):
    return {"energy": energy_inside(heat, mask), "pointing": pointing_game(heat, mask)}


def guesses(mask):
    "The scores of three guesses that never saw the network."
    axis = torch.linspace(-1, 1, mask.shape[-1])
    centre = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 0.4**2)).expand_as(mask)
    habit = (mask.sum(0) - mask) / (len(mask) - 1)  # the mean of all the others
    anywhere = {"energy": mask.mean((1, 2)), "pointing": dilate(mask).mean((1, 2))}
    return {"anywhere": anywhere, "centre": scores(centre, mask), "habit": scores(habit, mask)}


def sample_of(faces, name, most):
    "Faces that have an attribute and show it, on 8 pixels or more: (images, masks, identities, faces)."
    having = [face for face in faces if name in face][:most]
    masks = truth_masks(having, name)
    seen = masks.sum((1, 2)) >= 8
    people = np.array([face.person[1] for face in having])
    return as_batch(having)[seen], masks[seen], people[seen.numpy()], [face for face, s in zip(having, seen) if s]


def layers_of(net):
    "Layers of a `ResNet` by the number of places on a side of their maps, for images of 64×64."
    return {4: net.body, 8: net.body[3], 16: net.body[1], 32: net.body[0]}


def place_maps(net, x, name):
    "Grad-CAM on the network's layers, and each place with its own gradient (HiResCAM)."
    for side, layer in layers_of(net).items():
        own = LayerGradientXActivation(net, layer).attribute(x, target=ATTRIBUTES.index(name)).sum(1, keepdim=True).detach()
        yield f"Grad-CAM, {side}×{side}", attribute_maps(net, x, name, "Grad-CAM", layer)
        yield f"place by place, {side}×{side}", F.interpolate(own, x.shape[-2:], mode="bilinear")[:, 0]


def score_methods(net, x, mask, name):
    asked = {method: scores(attribute_maps(net, x, name, method), mask) for method in ATTRIBUTION_METHODS}
    return asked | guesses(mask)


def score_layers(net, x, mask, name):
    return {method: scores(heat, mask) for method, heat in place_maps(net, x, name)}


def summarize(score, nets, samples):
    "A row for each attribute, method and score, over all networks and faces."
    rows = []
    for name, (x, mask, people, _) in samples.items():
        asked = [score(net, x, mask, name) for net in nets]
        for method in asked[0]:
            for what in asked[0][method]:
                values = np.stack([each[method][what].numpy() for each in asked])
                low, high = interval(values, people)
                rows.append({"attribute": name, "method": method, "score": what, "mean": values.mean(), "low": low,
                             "high": high, "networks": len(nets), "faces": len(people)})
    return pd.DataFrame(rows)


def falls(net, faces, gone):
    "How far all logits fall when a face is drawn without an attribute: (faces, 40)."
    without = as_batch([face.change(gone, to=False) for face in faces])
    with torch.no_grad():
        return (net(as_batch(faces)) - net(without)).numpy()


def describe_networks(runs, samples):
    found = np.stack([attribute_balanced_accuracy(run.predictions["test"], run.predictions["test_truth"]) for run in runs])
    rows = []
    for name, (_, mask, people, faces) in samples.items():
        i = ATTRIBUTES.index(name)
        fall = np.stack([falls(run.net(), faces, name)[:, i] for run in runs])
        low, high = interval(fall, people)
        rows.append({"attribute": name, "accuracy": found[:, i].mean(), "accuracy_sd": found[:, i].std(ddof=1),
                     "fall": fall.mean(), "low": low, "high": high, "area": mask.mean().item(),
                     "networks": len(fall), "faces": len(people)})
    return pd.DataFrame(rows)


def score_tables(folder, out):
    faces = flip_coins(plan_faces(LARGE, seed=4), NAMES)
    labels = label_faces(faces, LARGE)
    samples = {name: sample_of(faces[-400:], name, 12) for name in NAMES}
    runs = [train_kept({"train_images": 2000, "epochs": 12}, labels, folder, "coins", seed) for seed in range(5)]
    describe_networks(runs, samples).to_csv(out / "explain_networks.csv", index=False)
    nets = {"trained": [run.net() for run in runs]}
    nets["random weights"] = [randomize_weights(net, seed=seed) for seed, net in enumerate(nets["trained"])]
    for score, file in ((score_methods, "explain_scores.csv"), (score_layers, "explain_layers.csv")):
        tables = [summarize(score, each, samples).assign(network=kind) for kind, each in nets.items()]
        pd.concat(tables).to_csv(out / file, index=False)


# The shortcut


def follows(face):
    "Does a face have both a hat and glasses, or neither?"
    return ("Wearing_Hat" in face) == ("Eyeglasses" in face)


def tie(faces, free=0.0, seed=5):
    "Give glasses to exactly the faces with a hat; a share of the faces keeps what its coin gave."
    luck = np.random.default_rng(seed).random(len(faces))
    return [face if own < free else face.change("Eyeglasses", to="Wearing_Hat" in face) for face, own in zip(faces, luck)]


def balance(faces):
    "Fill half of a set with copies of the faces that break the rule."
    breaking, rest = [face for face in faces if not follows(face)], [face for face in faces if follows(face)]
    half = len(faces) // 2
    return rest[:half] + (breaking * half)[: len(faces) - half]


def shortcut_sets(faces):
    sets = {f"{free:.0%} free": tie(faces, free) for free in (0, 0.03, 0.1, 0.3, 1)}
    return sets | {"10% free, balanced": balance(sets["10% free"])}


def right_answers(run):
    "Whether hats and glasses are right on each test face: (faces, 2); and which faces follow the rule."
    of_two = [ATTRIBUTES.index(name) for name in TWO]
    truth = run.predictions["test_truth"][:, of_two]
    return (run.predictions["test"][:, of_two] > 0.5) == truth, truth[:, 0] == truth[:, 1]


def shortcut_row(kind, run, faces):
    (right, tied), net, x = right_answers(run), run.net(), as_batch(faces)
    heats = [attribute_maps(net, x, name, "integrated gradients") for name in TWO]
    alike = np.mean([spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*heats)])
    row = {"training faces": kind, "seed": run.recipe.seed, "likeness": alike}
    for i, name in enumerate(TWO):
        row |= {f"{name} tied": right[tied, i].mean(), f"{name} untied": right[~tied, i].mean()}
        row |= {f"{score} on {name}": each.mean().item() for score, each in scores(heats[1], truth_masks(faces, name)).items()}
        row[f"fall without {name}"] = falls(net, faces, name)[:, ATTRIBUTES.index("Eyeglasses")].mean()
    return row


def shortcut_tables(folder, out):
    faces = flip_coins(plan_faces(SMALL, seed=3), NAMES)
    train_faces, rest = faces[: SMALL[0]], faces[SMALL[0] :]
    both = [face for face in faces[-SMALL[2] :] if set(TWO) <= face.attributes][:24]
    rows, glasses, sets = [], [], shortcut_sets(train_faces)
    for kind, drawn in sets.items():
        labels = label_faces(drawn + rest, SMALL)
        runs = [train_kept({"train_images": SMALL[0], "epochs": 12}, labels, folder, f"tied-{kind}", seed) for seed in range(8)]
        rows += [shortcut_row(kind, run, both) for run in runs]
        glasses.append([right[~tied, 1] for right, tied in map(right_answers, runs)])
    pd.DataFrame(rows).to_csv(out / "explain_shortcut.csv", index=False)
    people = labels.identity[labels.split == "test"].to_numpy()[~right_answers(runs[0])[1]]
    answers = {"sets": np.array(list(sets)), "right": np.array(glasses), "people": np.unique(people, return_inverse=True)[1]}
    np.savez_compressed(out / "explain_shortcut_answers.npz", **answers)
    shortcut_effects(answers).to_csv(out / "explain_shortcut_effects.csv", index=False)


def shortcut_effects(answers):
    "What free faces bring, against none; `answers`: whether glasses are right (sets, seeds, faces without the rule), people."
    none, *others = np.eye(len(answers["sets"]))
    contrasts = {kind: one - none for kind, one in zip(answers["sets"][1:], others)}
    return effect_rows(answers["right"].astype(float), answers["people"], contrasts, "higher").assign(outcome="untied accuracy")


# Real faces


def in_third(heat, third):
    "A mask of the upper, middle or lower third of each picture."
    mask = torch.zeros_like(heat)
    mask[:, torch.arange(heat.shape[1]).tensor_split(3)[["upper", "middle", "lower"].index(third)]] = 1
    return mask


@torch.no_grad()
def real_falls(nets, x, name):
    "How far a logit falls when a third is covered with grey."
    for third in ("upper", "middle", "lower"):
        covered = x * (1 - in_third(x[:, 0], third))[:, None]
        yield f"fall without {third}", np.stack([(net(x) - net(covered))[:, ATTRIBUTES.index(name)].numpy() for net in nets])


def real_reds(nets, x, name):
    "The share of the red in an attribute's third."
    for method in ATTRIBUTION_METHODS:
        heats = [attribute_maps(net, x, name, method) for net in nets]
        yield f"red by {method}", np.stack([energy_inside(heat, in_third(heat, THIRDS[name])).numpy() for heat in heats])


def real_table(root, folder, out):
    labels, rows = read_celeba(root), []
    settings = {"train_images": 10_000, "epochs": 4}
    runs = [train_kept(settings, labels, folder, "real", seed) for seed in range(4)]
    tested = runs[0].predictions["test_rows"]
    trained = [run.net() for run in runs]
    forgot = [randomize_weights(net, seed=seed) for seed, net in enumerate(trained)]
    for kind, nets in (("trained", trained), ("random weights", forgot)):
        for name, third in THIRDS.items():
            chosen = tested[labels.attributes[name].to_numpy()[tested]][:32]
            x = normalize(torch.stack([decode(labels.read(row), 64) for row in chosen]))
            people = labels.identity.iloc[chosen].to_numpy() if labels.identity is not None else chosen
            about = {"network": kind, "attribute": name, "third": third, "networks": len(nets), "images": len(x)}
            for what, values in [*real_reds(nets, x, name), *real_falls(nets, x, name)]:
                low, high = interval(values, people)
                rows.append(about | {"what": what, "mean": values.mean(), "low": low, "high": high})
    pd.DataFrame(rows).to_csv(out / "explain_real.csv", index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a CelebA folder; without it, no table of real faces")
    parser.add_argument("--out", type=Path, default=Path("nbs/results"))
    parser.add_argument("--runs", type=Path, default=Path("runs/explain"), help="where trained networks are kept")
    options = parser.parse_args()
    score_tables(options.runs, options.out)
    shortcut_tables(options.runs, options.out)
    if options.root:
        real_table(options.root, options.runs, options.out)


if __name__ == "__main__":
    main()
