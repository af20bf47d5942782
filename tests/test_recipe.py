"""A recipe: what is refused and how it is said, what a file may name, and under which id a run is found."""
import copy
import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest
from pydantic.dataclasses import dataclass

from celeba_nb.core import TrainingError
from celeba_nb.recipe import (
    OLD_FIELDS,
    OLD_MODELS,
    OLD_PATHS,
    RECIPES,
    Recipe,
    check_names,
    named_parts,
    old_run_ids,
    own_modules,
    recipe_from_dict,
    recipe_schema,
    run_id,
    setting,
)
from tools.api import parameters
from tools.notebooks import PACKAGE, ROOT


def refusal(call, *args, **kwargs):
    with pytest.raises(TrainingError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# What can't be is refused, with a sentence.


@pytest.mark.parametrize(("name", "value", "said"), [
    ("epochs", 0, "greater than 0"), ("epochs", 2.5, "a valid integer"), ("epochs", True, "a valid integer"),
    ("epochs", "5", "a valid integer"), ("size", 7, "greater than or equal to 8"), ("seed", -1, "greater than or equal to 0"),
    ("train_images", 0, "greater than 0"), ("unlabeled_images", -1, "greater than or equal to 0"),
    ("lr", 0, "greater than 0"), ("lr", "0.1", "a valid number"), ("lr", float("nan"), "finite"), ("lr", float("inf"), "finite"),
    ("lr", 10**400, "a valid number"), ("weight_decay", -0.1, "greater than or equal to 0"), ("ema_decay", 1, "less than 1"),
    ("threads", 0, "greater than 0 or 'auto'"), ("threads", "many", "a valid integer or 'auto'"),
    ("optimizer", "Adm", "'Adam', 'AdamW', 'SGD' or 'ridge'"), ("schedule", None, "'constant' or 'cosine'"),
    ("compile", 1, "boolean"),
    ("precision", "float16", "'auto', 'float32' or 'bfloat16'"), ("memory_format", "NHWC", "'channels_last' or 'contiguous'"),
    ("device", "tpu", "auto|cpu|mps"), ("device", "cuda:", "auto|cpu|mps"), ("model", None, "string"), ("augment", 3, "string"),
    ("augment_args", [0.5], "dictionary"), ("model_args", {"a": {1, 2}}, "be serialisable as JSON"),
    ("model_args", {"a": float("nan")}, "be serialisable as JSON"),
])
def test_a_wrong_value(name, value, said):
    text = refusal(Recipe, **{name: value})
    assert text.startswith(f"recipe: {name} must ") and said in text and text.endswith(f"not {value!r}")


@pytest.mark.parametrize("changes", [
    {"epochs": 1, "size": 8, "train_images": 1, "seed": 0, "warmup": 0, "valid_every": 10}, {"train_images": None},
    {"unlabeled_images": None, "unlabeled_batch_size": 1}, {"lr": 1e-300}, {"lr": 2}, {"ema_decay": 0.999999}, {"ema_decay": 0},
    {"device": "cuda:12"}, {"threads": 1}, {"augment": None}, {"cycles": 5}, {"cycles": 2, "epochs": 4, "no_aug_epochs": 2}])
def test_the_very_edge_is_allowed(changes):
    assert {name: getattr(Recipe(**changes), name) for name in changes} == changes


def test_cycles_share_the_epochs_equally():
    assert Recipe(epochs=6, cycles=2).cycle_epochs == 3 and Recipe(epochs=6).cycle_epochs == 6


@pytest.mark.parametrize(("changes", "said"), [
    ({"epochs": 5, "cycles": 2}, "epochs must be a multiple of cycles (2), not 5"),
    ({"epochs": 10, "cycles": 2, "no_aug_epochs": 6}, "no_aug_epochs times cycles must be at most epochs (10), not 12"),
    ({"unlabeled_images": 3}, "both be 0"), ({"unlabeled_batch_size": 3}, "both be 0"), ({"unlabeled_images": None}, "both be 0"),
])
def test_rules_about_two_fields(changes, said):
    assert said in refusal(Recipe, **changes)


def test_all_mistakes_are_in_one_message():
    text = refusal(Recipe, lr=-1, epochs="5", cycles=2, threads="many", epoks=3, objective="x")
    assert text == ("recipe: lr must be greater than 0, not -1; epochs must be a valid integer, not '5'; threads must be a valid "
                    "integer or 'auto', not 'many'; unknown key 'epoks' (did you mean 'epochs'?); unknown key 'objective' "
                    "(did you mean 'loss'?)")
    both = refusal(Recipe, epochs=5, cycles=2, unlabeled_images=3)
    assert "multiple of cycles" in both and "both be 0" in both


def test_by_position_too():
    assert Recipe(32, 16, 16) == Recipe(train_images=32, valid_images=16, test_images=16)
    assert refusal(Recipe, 32, 0).startswith("recipe: valid_images must be greater than 0")
    assert "unknown key" in refusal(Recipe, *[None] * 40)


def test_a_recipe_stays_as_it_was_made():
    recipe = Recipe(model_args={"channels": (4, 8)})
    with pytest.raises(FrozenInstanceError):
        recipe.lr = 0.1
    with pytest.raises(TypeError, match="unhashable"):
        hash(recipe)
    assert recipe.model_args == {"channels": [4, 8]} and type(recipe.model_args) is dict  # as a file gives it back
    assert replace(recipe, lr=0.1, model_args={}) == Recipe(lr=0.1) != recipe
    assert "lr must be greater than 0" in refusal(replace, recipe, lr=0)
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe


def test_arguments_are_not_those_of_the_caller():
    given = {"steps": [["celeba_nb.augment.random_flip", {}]]}
    recipe = Recipe(augment_args=given)
    given["steps"].append("more")
    assert len(recipe.augment_args["steps"]) == 1


# Files.


def test_what_is_written_comes_back():
    for recipe in [Recipe(), Recipe(lr=1, model_args={"channels": (4, 8)}), *RECIPES.values()]:
        assert recipe_from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe
    assert recipe_from_dict({}) == Recipe()


@pytest.mark.parametrize(("choices", "said"), [
    ({"epoch": 50}, "unknown key 'epoch' (did you mean 'epochs'?)"), ({"zzz": 1}, "unknown key 'zzz'"),
    ({3: 1}, "unknown key '3'"),
    ([], "expected field names and values"), (None, "expected field names and values"), ({"lr": 0}, "lr must be greater than 0"),
    ({"objective": "a.b", "loss": "a.b"}, "objective and loss are the same field"),
    ({"model": "celeba_nb.speed.SmallResNet", "model_args": [4]}, "model_args must be a valid dictionary"),
    ({"model_args": json.loads('{"a":' * 900 + "1" + "}" * 900)}, "recursion"), ({"self": 1}, "unknown key 'self'"),
    ({"__dataclass_self__": 1}, "__dataclass_self__"), ({"model": ["a.b"]}, "model must be a valid string"),
    ({"model": "celeba_nb.sketch.make_sketch"}, "is not a network, loss or augmentation"),
    ({"model": "celeba_nb.model.NoSuchNet"}, "there is no 'celeba_nb.model.NoSuchNet'"),
    ({"model": "os.system"}, "only name what is in celeba_nb"), ({"model": "system"}, "only name what is in celeba_nb"),
    ({"augment_args": {"steps": [["os.system", {}]]}}, "only name what is in celeba_nb"),
    ({"augment_args": {"steps": [{"os.system": 1}]}}, "only name what is in celeba_nb"),
])
def test_a_file_that_says_what_it_should_not(choices, said):
    assert said in refusal(recipe_from_dict, choices)


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    "A module of the user's own, which leaves a mark when it is imported."
    (tmp_path / "mylab.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Tiny: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    sys.modules.pop("mylab", None)


@pytest.mark.parametrize("choices", [
    {"model": "mylab.Tiny"}, {"loss": "mylab.Tiny"}, {"augment": "mylab.Tiny"},
    {"model": "celeba_nb.few_labels.FlipTTA", "model_args": {"model": "mylab.Tiny"}}])
def test_own_code_is_allowed_by_its_module(choices, mylab):
    "And nothing is imported before: not even what is found in a later field."
    text = refusal(recipe_from_dict, choices)
    assert "'mylab.Tiny'" in text and "--allow mylab" in text
    assert "only name" in refusal(recipe_from_dict, choices, allow=["mylab.Tiny", "my"])
    assert not mylab.exists()
    assert own_modules(recipe_from_dict(choices, allow=["mylab"])) == ["mylab"]


def test_arguments_of_own_code_are_its_own_business():
    recipe = Recipe(model="mylab.nets.Timm", model_args={"name": "resnet18.a1", "model": "os.system"})
    assert named_parts(recipe) == ["mylab.nets.Timm", "celeba_nb.loop.bce"] and own_modules(recipe) == ["mylab.nets"]
    check_names(recipe, allow=["mylab"])
    nested = Recipe(model="celeba_nb.few_labels.FlipTTA", model_args={"model": "mylab.Timm", "model_args": {"name": "a.b"}})
    assert own_modules(nested) == ["mylab"]


# Old names.


def test_old_names_are_read():
    old = {"objective": "celeba_nb.train.bce", "average": 0.5, "layout": "contiguous", "augment": "celeba_nb.augment.chain",
           "augment_args": {"steps": [["celeba_nb.data.random_flip", {}]]}, "model": "celeba_nb.few_labels.BothWays",
           "model_args": {"model": "celeba_nb.speed.SmallResNet", "model_args": {"channels": [4, 4, 4, 4]}}}
    assert recipe_from_dict(old) == Recipe(
        ema_decay=0.5, memory_format="contiguous", augment="celeba_nb.augment.compose",
        augment_args={"steps": [["celeba_nb.augment.random_flip", {}]]}, model="celeba_nb.few_labels.FlipTTA",
        model_args={"model": "celeba_nb.model.ResNet", "model_args": {"channels": [4, 4, 4, 4]}})
    assert recipe_from_dict({"model": "celeba_nb.speed.SmallResNet"}).model_args == {"channels": [16, 48, 96, 128]}


def test_the_table_of_old_names_leads_to_what_is_there():
    names = {field.name for field in fields(Recipe)}
    assert set(OLD_FIELDS.values()) <= names and not set(OLD_FIELDS) & names
    for name in [*OLD_PATHS.values(), *(model for model, _ in OLD_MODELS.values())]:
        check_names(Recipe(model=name))


FLIP = [["celeba_nb.data.random_flip", {}], ["celeba_nb.augment.random_affine", {}], ["celeba_nb.augment.random_color", {}],
        ["celeba_nb.augment.random_cutout", {"share": 0.1875}]]
BEST = {"model": "celeba_nb.few_labels.BothWays", "augment": "celeba_nb.augment.chain", "augment_args": {"steps": FLIP},
        "optimizer": "AdamW", "lr": 0.002, "weight_decay": 0.05, "schedule": "cosine", "warmup": 100, "average": 0.995}
BEST_1K = BEST | {
    "unlabeled_images": None, "model_args": {"model_args": {"drop": 0.3}, "shift": 0.055}, "no_aug_epochs": 10, "cycles": 2,
    "objective": "celeba_nb.few_labels.SelfTraining", "objective_args": {"steps": FLIP}, "epochs": 80, "valid_every": 20,
    "unlabeled_batch_size": 96}
OLD_RUNS = [  # what version 0.1 was told, and the id that it gave the run on the data "data"
    ({}, "6729cb9d9176d26b"), ({"lr": 1, "weight_decay": 0, "average": 0}, "68315aa449010310"),
    ({"objective": "celeba_nb.augment.mixup_bce", "augment": "celeba_nb.data.random_flip", "average": 0.5,
      "layout": "contiguous"}, "82c8dca5119352df"),
    ({"size": 64, "model": "celeba_nb.speed.SmallResNet", "augment": "celeba_nb.data.random_flip", "optimizer": "AdamW",
      "lr": 0.002, "weight_decay": 0.05, "schedule": "cosine", "epochs": 8}, "c065802681ea0a7f"),
    ({"model": "celeba_nb.architectures.ResNet", "model_args": {"channels": [16, 48, 96, 128]}}, "03ae3fc1f0eb1adb"),
    (BEST_1K, "e2dd09ed6145ad8f"), (BEST | {"train_images": 10000, "epochs": 25, "valid_every": 10}, "b00ae8959f973691"),
    (BEST | {"train_images": 10000, "epochs": 25, "valid_every": 10, "model_args": {"model": "celeba_nb.speed.SmallResNet"}},
     "33fe9c90d32809e3"),
    ({"valid_images": 500, "test_images": 500, "device": "cpu", "precision": "float32", "layout": "channels_last", "threads": 1,
      "seed": 3}, "88b7c55019b318e0"),
]


@pytest.mark.parametrize(("choices", "name"), OLD_RUNS)
def test_old_runs_are_found_under_their_ids(choices, name):
    recipe = recipe_from_dict(choices)
    assert name in old_run_ids(recipe, "data") and name not in old_run_ids(recipe, "other")
    assert name not in old_run_ids(replace(recipe, batch_size=7), "data") and name != run_id(recipe, "data")


# Ids.

FOUNDING = """train_images valid_images test_images unlabeled_images size model model_args loss loss_args augment augment_args
    no_aug_epochs optimizer lr weight_decay schedule warmup cycles epochs valid_every batch_size unlabeled_batch_size ema_decay
    device precision memory_format compile threads seed""".split()


def test_ids_do_not_change():
    "A new id would mean that no finished run is found any more: a changed default or name, or a field without `absent`."
    assert run_id(Recipe(), "data") == "6ba31a7607d07b40"
    assert run_id(RECIPES["best-1k"], "data") == "e0ee36a32ae46415"


def test_ids_tell_runs_apart():
    ids = [run_id(Recipe(**changes), data) for changes in ({}, {"lr": 0.002}, {"seed": 1}, {"model_args": {"hidden": 7}})
           for data in ("data", "other")]
    assert len(set(ids)) == 8 and all(re.fullmatch("[0-9a-f]{16}", name) for name in ids)


def test_a_field_that_came_later_says_what_absent_means():
    for name, schema in recipe_schema().items():
        assert name in FOUNDING or "absent" in schema, f"{name}: setting(..., absent=...) keeps the ids of the runs that exist"


@dataclass(frozen=True)
class Later(Recipe):
    "A recipe with a field more."

    drop: float = setting("Network", 0.1, absent=0.0, ge=0, lt=1, help="share of the units that training hides")


def test_a_later_field_renames_no_run():
    assert run_id(Later(drop=0.0), "data") == run_id(Recipe(), "data") != run_id(Later(), "data")
    assert OLD_RUNS[0][1] in old_run_ids(Later(drop=0.0), "data")
    assert OLD_RUNS[0][1] not in old_run_ids(Later(), "data")
    assert "drop must be less than 1" in refusal(Later, drop=1)


LINE = '    patience: int = setting("Optimiser", 0, absent=0, ge=0, help="epochs without progress until a run stops")\n'
SCRIPT = """
import json, sys
from dataclasses import asdict
from celeba_nb import recipe
from celeba_nb.cli import app
recipe_ = recipe.Recipe(patience=3)
assert recipe.Recipe(**json.loads(json.dumps(asdict(recipe_)))) == recipe_ and asdict(recipe_)["patience"] == 3
if "--help" in sys.argv:
    assert recipe.run_id(recipe_, "data") != recipe.run_id(recipe.Recipe(), "data")
    print(recipe.run_id(recipe.Recipe(), "data"))
app(sys.argv[1:])
"""


def test_a_new_field_is_one_line(tmp_path):
    "In a copy of the package with one line more, it is an option with help, validated, recorded, and counts for the id."
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / PACKAGE / "recipe.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(re.sub(r"(?m)^(    seed: .*\n)", rf"\1{LINE}", text, count=1), encoding="utf-8")

    def say(*words):
        return subprocess.run([sys.executable, "-c", SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True,
                              env={"PYTHONPATH": str(tmp_path), "PATH": ""})

    shown = say("train", "--help")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"Optimiser:.*--patience INTEGER +epochs without.*\[0; >= 0\]", shown.stdout, re.S)
    assert shown.stdout.startswith(run_id(Recipe(), "data"))
    wrong = say("train", "--patience", "-1")
    assert wrong.returncode == 2 and "'--patience'" in wrong.stderr


def test_the_documentation_follows():
    shown = parameters(Recipe)
    assert all(schema["description"] in shown[name].docment for name, schema in recipe_schema().items())
