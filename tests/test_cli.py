"""The command line: how soon it answers, what it refuses, and what each command says besides what it writes."""
import importlib
import inspect
import io
import json
import math
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from celeba_nb import __version__, cli, console, experiments, options, results, study
from celeba_nb.core import DataError, TrainingError, WriteError, import_object
from celeba_nb.files import read_celeba
from celeba_nb.recipe import PARTS, RECIPES, Recipe, check_names
from celeba_nb.run import load, save
from celeba_nb.sketch import make_sketch
from celeba_nb.stats import effect_rows
from celeba_nb.training import Progress
from tools.notebooks import ROOT

APP = "from celeba_nb.cli import app; app()"
pytestmark = pytest.mark.filterwarnings("ignore:.*left out of the mean:UserWarning")  # so few images
TINY = ["--size", 16, "--epochs", 1, "--device", "cpu", "--threads", 1]


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(constant):
    raise ValueError(f"{constant} is not JSON")


def read_strictly(path):
    "JSON as other programs read it: without NaN."
    return json.loads(path.read_text(), parse_constant=refused)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return make_sketch(tmp_path_factory.mktemp("cli") / "faces", 24, 8, 8, progress=False)


@pytest.fixture(scope="module")
def model(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "model"
    done = call("train", "--root", faces, *TINY, "--out", folder, "--json", folder.with_suffix(".json"))
    assert done.exit_code == 0, done.output
    assert f"Data: 40 images in {faces} (24 train, 8 valid, 8 test), drawn faces" in done.stdout
    assert re.search(r"Test accuracy \d+\.\d\d% \(never looking: \d+\.\d\d%\)", done.stdout)
    assert "Network: trained on drawn faces, temperature" in done.stdout and f"Written: {folder}" in done.stdout
    return folder


# How soon.


def cpu_seconds(code, *arguments):
    "The CPU time of a Python process, and what it said."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@pytest.mark.serial
@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--help"], 0, "Facial attributes on CelebA"), (["-h"], 0, "evaluate"), (["--version"], 0, __version__),
    (["train", "--help"], 0, "--epochs"), (["cache", "-h"], 0, "--remove"),
    (["trian"], 2, "Did you mean 'train'"), (["train", "--epocs", "5"], 2, "--epochs"), (["train", "--lr", "-1"], 2, "'--lr'"),
    (["train", "--epochs", "5", "--cycles", "2"], 1, "multiple of cycles"), (["train", "--recipe", "best"], 1, "best-1k"),
    (["train", "--model", "mylab.Tiny"], 1, "--allow mylab"), (["study", "--seeds", "0"], 2, "'--seeds'")])
def test_it_answers_at_once(arguments, code, said):
    "In under a second of CPU time, and at most five times what the library takes to be imported, in one of three turns."
    for _ in range(3):
        (seconds, done), (library, _) = cpu_seconds(APP, *arguments), cpu_seconds("import typer")
        assert done.returncode == code and said in done.stdout + done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        if seconds < min(1, 5 * library):
            return
    raise AssertionError(f"{seconds:.2f} s, typer {library:.2f} s")


# Options.


def test_every_field_is_an_option_in_its_group():
    shown = call("train", "--help").output
    assert all(f"--{field.name.replace('_', '-')} " in shown for field in fields(Recipe))
    groups = ["Options:", "Data:", "Network:", "Optimiser:", "Machine:", "Output:"]
    assert [line for line in shown.splitlines() if line in groups] == groups
    assert shown.index("--lr NUMBER") > shown.index("Optimiser:") > shown.index("--model TEXT") > shown.index("Network:")
    text = " ".join(shown.split())
    assert "learning rate [0.001; > 0]" in text and "--schedule constant|cosine" in text
    assert "training images, drawn by the seed [all; > 0]" in text


def test_options_become_a_recipe(monkeypatch):
    got = []
    monkeypatch.setattr(cli, "check_names", lambda recipe, allow: got.append((recipe, tuple(allow))) or exec("raise OSError"))
    options = {"lr": 0.01, "threads": 2, "compile": True, "schedule": "cosine", "augment_args": {"p": 0.25}, "model": "a.b",
               "device": "cuda:1", "seed": 7, "valid_images": 5}
    words = ["--lr", "0.01", "--threads", 2, "--compile", "--schedule", "cosine", "--augment-args", '{"p": 0.25}', "--seed", 7,
             "--model", "a.b", "--device", "cuda:1", "--valid-images", 5, "--allow", "a", "--allow", "b"]
    call("train", *words), call("train"), call("train", "--threads", "auto", "--no-compile"), call("train", "--recipe", "best-1k")
    assert got == [(Recipe(train_images=None, **options), ("a", "b")), (Recipe(train_images=None), ()),
                   (Recipe(train_images=None), ()), (RECIPES["best-1k"], ())]


@pytest.mark.parametrize(("option", "value", "said"), [
    ("--lr", "-1", "greater than 0"), ("--lr", "nan", "finite"), ("--epochs", "five", "valid integer"),
    ("--size", "4", "equal to 8"), ("--threads", "many", "'auto'"), ("--optimizer", "adm", "'AdamW'"),
    ("--device", "tpu", "auto|cpu"), ("--model-args", "[1]", "object"),
    ("--model-args", "{hidden: 9}", "write the arguments as JSON, such as"), ("--augment-args", '{"p": NaN}', "JSON")])
def test_a_wrong_value(option, value, said):
    done = call("train", option, value)
    assert done.exit_code == 2 and f"'{option}'" in done.stderr and said in done.stderr


@pytest.mark.parametrize(("words", "field", "value"), [
    (["--train-images", "all"], "train_images", None), (["--train-images", "1,000"], "train_images", 1000),
    (["--unlabeled-images", "ALL", "--unlabeled-batch-size", "8"], "unlabeled_images", None),
    (["--augment", "none"], "augment", None), (["--optimizer", "adam"], "optimizer", "Adam"),
    (["--optimizer", "SGD"], "optimizer", "SGD"), (["--schedule", "Cosine"], "schedule", "cosine"),
    (["--threads", "AUTO"], "threads", "auto"), (["--thresholds", "Balanced"], "thresholds", "balanced")])
def test_values_as_people_type_them(words, field, value, monkeypatch):
    "Also where a named recipe has another value."
    got = []
    monkeypatch.setattr(cli, "check_names", lambda recipe, allow: got.append(recipe) or exec("raise OSError"))
    call("train", "--recipe", "best-10k", *words), call("train", *words)
    assert [getattr(recipe, field) for recipe in got] == [value, value]


def test_numbers_of_images_in_every_command(tmp_path):
    done = call("sketch", tmp_path / "faces", "--train-images", "1,0", "--valid-images", 1, "--test-images", "1")
    assert done.exit_code == 0 and len(read_celeba(tmp_path / "faces")) == 12
    for words in (["sketch", tmp_path / "more", "--seed", "-1"], ["bench", "--size", "7"], ["study", "--seeds", "some"],
                  ["study", "--seeds", "1,001"], ["bench", "--repeats", "1" + "0" * 5000], ["bench", "--repeats", "0"],
                  ["sketch", tmp_path / "more", "--train-images", "1000001"], ["bench", "--epochs", "²"]):
        done = call(*words)
        assert done.exit_code == 2 and re.search("is not a whole number from [01,8]+ to [0-9,]+[.]", done.stderr), done.output


def commands():
    "Name -> command, as click sees it."
    return typer.main.get_command(cli.app).commands


def examples():
    "Each line of a help that shows what to type."
    found = [line for text in (cli.app.info.help, *(command.help for command in commands().values()))
             for line in text.splitlines() if "celeba-nb " in line and ": celeba-nb " in line]
    return [line.partition(": celeba-nb ")[2] for line in found]


@pytest.mark.parametrize("example", examples())
def test_an_example_can_be_typed(example):
    "It is on one line of the help, and its words are understood."
    name, *words = shlex.split(example)
    commands()[name].make_context(name, words)
    shown = call("--help" if example in cli.app.info.help else name, *(() if example in cli.app.info.help else ("--help",)))
    assert f": celeba-nb {example}\n" in shown.output


def test_each_command_has_groups_and_an_example():
    assert len(examples()) > len(commands())
    for name, command in commands().items():
        assert isinstance(command, options.GroupedCommand), name
        assert any(example.split()[0] == name for example in examples())


def test_help_names_what_the_package_has():
    "Augmentations, losses, networks and samplers; all that there are, and nothing that can't be used."
    for field, names in PARTS.items():
        assert all(f"{name}" in call("train", "--help").output for name in names)
        check_names(replace(Recipe(), **{field: names[0]}))
        assert all(import_object(name).__doc__ for name in names)
    signs = {"augment": ["x", "generator"], "loss": ["net", "x", "y"]}
    for field, sign in signs.items():
        for module in ("augment", "loop", "few_labels", "imbalance"):
            module = importlib.import_module(f"celeba_nb.{module}")
            there = {f"{module.__name__}.{name}" for name in module.__all__ if inspect.isfunction(getattr(module, name))
                     and list(inspect.signature(getattr(module, name)).parameters)[:len(sign)] == sign}
            helpers = {"celeba_nb.augment.uniform"}  # of the others
            assert there - helpers <= set(PARTS[field])


def test_help_names_the_variables():
    shown = " ".join(call("--help").output.split())
    assert "$CELEBA_ROOT" in shown and "$CELEBA_NB_CACHE" in shown and "celeba-nb cache" in shown


def test_seven_seeds():
    "What the help of `study` says is what the verdict does: two signs of n, three questions."
    assert "it takes 7 to find" in " ".join(call("study", "--help").output.split())
    for n, said in ((6, "too few seeds to tell"), (7, "helps")):
        clear = np.random.default_rng(0).normal(1, 0.01, (3, n, 1))
        rows = effect_rows(clear, np.zeros(1), dict(zip("abc", np.eye(3))), "higher")
        assert set(rows["verdict"]) == {said}


def test_a_named_recipe_is_changed_by_what_is_said():
    assert options.recipe_from_options({}) == Recipe(train_images=None)
    assert options.recipe_from_options({"seed": 3}, "best-1k") == replace(RECIPES["best-1k"], seed=3)
    with pytest.raises(TrainingError, match="use one of race, best-100, best-1k, best-10k, best-full"):
        options.recipe_from_options({}, "best")


def test_another_part_does_not_get_the_arguments_of_the_one_it_replaces():
    start = RECIPES["best-1k"]
    assert start.model_args and start.loss_args and start.augment_args
    for part, name in (("augment", "celeba_nb.augment.random_flip"), ("model", "celeba_nb.model.ResNet"),
                       ("loss", "celeba_nb.loop.bce")):
        changed = options.recipe_from_options({part: name}, "best-1k")
        assert changed == replace(start, **{part: name, f"{part}_args": {}})
        given = options.recipe_from_options({part: name, f"{part}_args": {"a": 1}}, "best-1k")
        assert getattr(given, f"{part}_args") == {"a": 1}
        assert options.recipe_from_options({part: getattr(start, part)}, "best-1k") == start


# In a terminal.


class Terminal(io.StringIO):
    "What a person sees, in a terminal whose width is in COLUMNS."

    def isatty(self):
        return True


def help_in_terminal(monkeypatch, *words):
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    typer.main.get_command(cli.app).main([*words, "--help"], prog_name="celeba-nb", standalone_mode=False)
    return screen.getvalue()


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(columns, monkeypatch):
    "Each line, and at 120 columns it needs fewer of them."
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = {name: help_in_terminal(monkeypatch, *name.split()) for name in ["", *commands()]}
    widths = {name: max(map(len, text.splitlines())) for name, text in shown.items()}
    assert {name: width for name, width in widths.items() if width > columns} == {}
    assert (widths["train"] > 80) == (columns > 80)


def test_help_lists_the_commands_by_group_in_whole_sentences():
    shown = call("--help").output
    assert re.findall("^([A-Z][a-z ]+):$", shown, re.MULTILINE) == ["Options", "Experiments", "A network", "Images"]
    assert "..." not in shown.partition("Experiments:")[2]
    assert all(re.search(f"^  {name}  ", shown, re.MULTILINE) for name in commands())


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_only_where_they_are_wanted(variables, colored, monkeypatch):
    "Not in files and pipes, which is what the other tests see; and never without the words."
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | variables).items():
        monkeypatch.setenv(name, value)
    help_text = help_in_terminal(monkeypatch, "train")
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    console.say_verdicts([("flip ", "helps"), ("rate ", "no difference seen")])
    assert ("\x1b[36m--lr NUMBER\x1b[0m" in help_text) == ("flip \x1b[32mhelps\x1b[0m" in screen.getvalue()) == colored
    plain = re.sub(r"\x1b\[\d*m", "", help_text + screen.getvalue())
    assert "\x1b" not in plain and plain.endswith("flip helps\nrate no difference seen\n")
    assert "\x1b" not in call("train", "--help").output


def test_lines_are_broken_between_words_only_in_a_terminal(monkeypatch, capsys):
    "What is printed can't colour the terminal by itself."
    monkeypatch.setenv("COLUMNS", "40")
    text = f"Written: {'a/' * 30}b, and a sentence that is longer than the terminal is wide \x1b[31m"
    console.say(text), console.show_warning(text)
    said = capsys.readouterr()
    assert said.out == text.replace("\x1b", "\\x1b") + "\n" and said.err == f"Warning: {said.out}"
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    console.say(text)
    lines = screen.getvalue().splitlines()
    assert " ".join(lines) == text.replace("\x1b", "\\x1b") and "a/" * 30 + "b," in lines
    assert all(len(line) <= 40 for line in lines if "a/" not in line)


def test_the_bar_of_a_long_run_shows_loss_and_accuracy(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    state = SimpleNamespace(recipe=Recipe(epochs=1000), steps=10, epoch=500, batch=0,
                            history=[{"epoch": 501, "valid_loss": 0.43721, "valid_accuracy": 0.80123}])
    bar = Progress()
    bar.on_start(state)
    bar.bar.start_t -= 20_000
    bar.on_epoch(state)
    bar.bar.refresh()
    bar.on_end(state)
    line = screen.getvalue().split("\r")[-1].strip()
    assert line.endswith("epoch 501: valid loss 0.4372, accuracy 80.12%") and len(line) <= 80 and "50%|" in line


# Completion.


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell(shell):
    done = CliRunner().invoke(cli.app, [], prog_name="celeba-nb", env={"_CELEBA_NB_COMPLETE": f"source_{shell}"})
    assert done.exit_code == 0 and "_CELEBA_NB_COMPLETE" in done.output and "Usage" not in done.output
    assert "--install-completion" in call("--help").output


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path):
    "A command, an option's value, and files where this program has no words."
    program = tmp_path / "celeba-nb"
    program.write_text(f"#!{sys.executable}\n{APP}\n")
    program.chmod(0o755)
    ask = "".join(f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; _celeba_nb_completion celeba-nb; "
                  'echo "${COMPREPLY[*]}"; ' for words in ("celeba-nb tr", "celeba-nb train --schedule cos"))
    script = f'eval "$(_CELEBA_NB_COMPLETE=source_bash celeba-nb)"; {ask} complete -p celeba-nb'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[:2] == ["train", "cosine"], done
    assert "-o default" in done.stdout


# Errors and results.


@pytest.mark.parametrize("error", [DataError("no faces"), TrainingError("too fast"), WriteError("can't be written"),
                                   FileExistsError("not empty")])
def test_errors_are_one_line(error, capsys):
    with pytest.raises(typer.Exit) as stopped, console.one_line_errors("Two runs are kept."):
        raise error
    assert stopped.value.exit_code == 1 and capsys.readouterr().err == f"Error: {error}\n"


@pytest.mark.filterwarnings("default")
def test_warnings_are_sentences(capsys):
    "Each once, without the line of code that gave it."
    with console.one_line_errors(""):
        for text in ("3 of 40 attributes are\nleft out", "3 of 40 attributes are\nleft out", "another"):
            warnings.warn(text, stacklevel=1)
    assert capsys.readouterr().err == "Warning: 3 of 40 attributes are left out\nWarning: another\n"


@pytest.mark.parametrize(("words", "said"), [
    (["--augment", "celeba_nb.augment.random_flip", "--augment-args", '{"often": 1}'], "unexpected keyword argument 'often'"),
    (["--augment", "celeba_nb.augment.random_flip", "--augment-args", '{"p": "half"}'], "can't be used as augment"),
    (["--augment", "celeba_nb.augment.compose", "--augment-args", '{"steps": [1]}'], "can't be used as augment"),
    (["--augment", "celeba_nb.augment.random_affine", "--augment-args", '{"degrees": "ten"}'], "can't be used as augment"),
    (["--augment", "celeba_nb.model.ResNet"], "can't be used as augment"),
    (["--augment", "celeba_nb.loop.bce"], "can't be used as augment"),
    (["--loss", "celeba_nb.augment.random_flip"], "can't be used as loss"),
    (["--loss", "celeba_nb.model.AttributeCNN"], "can't be used as loss"),
    (["--loss", "celeba_nb.augment.mixup_bce", "--loss-args", '{"alpha": "much"}'], "can't be used as loss with loss_args"),
    (["--loss", "celeba_nb.few_labels.SelfTraining", "--loss-args", '{"step": []}'], "can't be used as loss"),
    (["--sampler", "celeba_nb.augment.random_flip"], "can't be used as sampler"),
    (["--sampler", "celeba_nb.imbalance.answer_weights", "--sampler-args", '{"rates": 1}'], "sampler"),
    (["--model", "celeba_nb.loop.bce"], "can't be built"), (["--model-args", '{"width": 3}'], "can't be built"),
    (["--augment", "celeba_nb.augment.flip"], "there is no 'celeba_nb.augment.flip'")])
def test_wrong_parts_are_refused_before_images_are_decoded(faces, words, said, tmp_path, monkeypatch):
    monkeypatch.setattr("celeba_nb.training.ImageCache", lambda *_, **__: pytest.fail("images are decoded"))
    done = call("train", "--root", faces, *TINY, *words, "--out", tmp_path / "bad")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert re.fullmatch("Error: recipe: [^\n]+\n", done.stderr) and said in done.stderr, done.stderr


def test_interrupted(capsys):
    with pytest.raises(typer.Exit) as stopped, console.one_line_errors("Two runs are kept."):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130 and capsys.readouterr().err == "\nStopped. Two runs are kept.\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), console.one_line_errors(""):
        raise ZeroDivisionError


def test_json_has_no_nan(tmp_path):
    path = tmp_path / "deep" / "down" / "result.json"
    console.write_json(path, {"a": [1.5, math.nan], "b": {"c": -math.inf}, "whole": 3, "text": "nan", "yes": True})
    assert read_strictly(path) == {"a": [1.5, None], "b": {"c": None}, "whole": 3, "text": "nan", "yes": True}
    console.write_json(None, {})
    table = pd.DataFrame({"method": ["a", "b"], "sd": [1 / 3, math.nan]})
    assert console.records(table)[1] == {"method": "b", "sd": None} and console.records(table.iloc[:0]) == []
    assert math.isclose(console.records(table)[0]["sd"], 1 / 3, rel_tol=1e-14)


def test_what_is_no_table_and_no_folder(faces, tmp_path):
    "Another encoding, a spreadsheet, a folder, labels that the peers of `bench` don't have, a file in place of a folder."
    own = shutil.copytree(faces / "img_align_celeba", tmp_path / "own")
    (own / "labels.csv").write_text("image,Hat,split\n" + "".join(f"{i:06d}.jpg,{i % 2},train\n" for i in range(1, 41)))
    (tmp_path / "wide.csv").write_text((own / "labels.csv").read_text(), encoding="utf-16")
    (tmp_path / "table.xlsx").write_bytes(b"PK\3\4\0\0" + bytes(range(256)))
    tables = {"wide.csv": "not a table of text in UTF-8", "table.xlsx": "Save it as CSV in UTF-8", "own": "Name the table in it"}
    for name, said in tables.items():
        done = call("train", "--root", own, "--labels", tmp_path / name, "--out", tmp_path / "bad")
        assert done.exit_code == 1 and name in done.stderr and said in done.stderr, done.output
    done = call("bench", "--root", own, "--peers", "naive")
    assert done.exit_code == 1 and "compared on CelebA's 40 attributes" in done.stderr, done.output
    done = call("download", own / "labels.csv" / "x")
    assert done.exit_code == 1 and "x: can't be written (Not a directory)" in done.stderr, done.output


def test_thresholds_for_a_finished_network(faces, model, tmp_path):
    done = call("evaluate", model, "--root", faces, "--thresholds", "Balanced", "--json", tmp_path / "found.json")
    assert done.exit_code == 0 and "accuracy at thresholds" in done.stdout, done.output
    assert len(read_strictly(tmp_path / "found.json")["thresholds"]) == 40 and load(model).thresholds is None
    refusal = call("evaluate", model, "--root", faces, "--thresholds", "best")
    assert refusal.exit_code == 1 and refusal.stderr.startswith("Error: there are no thresholds 'best'")


def test_mistakes_that_everybody_makes(faces, model, tmp_path):
    for said, arguments in {
        "no such run": ("evaluate", tmp_path / "nothing", "--root", faces),
        "no CelebA": ("train", "--root", tmp_path, "--out", tmp_path / "bad"),
        "no such split": ("evaluate", model, "--root", faces, "--split", "tset"),
        "not empty": ("sketch", faces),
        "holds no run": ("report", tmp_path / "nothing", "--out", tmp_path / "bad"),
        "no way 'nobody'": ("bench", "--root", faces, "--peers", "nobody"),
    }.items():
        done = call(*arguments)
        assert done.exit_code == 1 and done.stderr.strip().splitlines()[-1].startswith("Error: "), (said, done.output)
        assert "Traceback" not in done.output
    assert not (tmp_path / "bad").exists()
    assert call("sketch", tmp_path / "more", "--label-noise", 1.5).exit_code == 2


def test_each_command_ends_its_help_with_an_example():
    for command in ("study", "train", "evaluate", "predict", "export", "report", "reproduce", "sketch", "bench", "race",
                    "cache"):
        assert f"Example: celeba-nb {command}" in " ".join(call(command, "--help").output.split())


# The commands.


@pytest.mark.parametrize("options, variable, on_sketch", [
    ((), None, True), (("--root", "here"), None, False), ((), "here", False), (("--root", "here"), "there", False)])
def test_who_names_data_gets_the_studys_sizes(options, variable, on_sketch, monkeypatch):
    asked = []
    def stop(on_sketch, choices):
        asked.append(on_sketch)
        raise DataError("no further")
    monkeypatch.setattr(experiments, "study_sizes", stop)
    monkeypatch.setenv("CELEBA_ROOT", variable) if variable else monkeypatch.delenv("CELEBA_ROOT", raising=False)
    assert "no further" in call("study", *options).stderr and asked == [on_sketch]


def test_a_study_on_sketch_faces_says_so(capsys):
    real = experiments.study_sizes(False, {"train_images": 99})
    assert capsys.readouterr().out == "" and (real["train_images"], real["size"]) == (99, 128)
    drawn = experiments.study_sizes(True, {"epochs": 2})
    assert "sketch faces" in (said := capsys.readouterr().out) and "500 training images at 64×64" in said
    assert (drawn["train_images"], drawn["epochs"]) == (500, 2)


def test_a_study_shows_its_tables_and_files(monkeypatch, capsys):
    "And its JSON keeps the effects on the accuracy apart from the others."
    monkeypatch.setattr(study, "format_table", lambda table: pd.DataFrame({"n": [len(table)]}, pd.Index(["A"], name="method")))
    monkeypatch.setattr(study, "study_lines", lambda effects: [(f"{len(effects)} effects: ", "helps")])
    monkeypatch.setattr(results, "save_study", lambda study, effects: ["runs.csv"])
    effects = pd.DataFrame({"outcome": ["test_accuracy", "valid_loss"], "mean": [0.5, 0.25]})
    found = experiments._show_study(SimpleNamespace(table=lambda: effects, effects=lambda: effects))
    assert capsys.readouterr().out.split("\n") == ["", "method  n", "     A  2", "2 effects: helps", "", "Written: runs.csv", ""]
    assert found["effects"] == [{"mean": 0.5}] and found["effects_other"] == [{"outcome": "valid_loss", "mean": 0.25}]


@pytest.mark.parametrize(("kind", "options", "lengths"), [
    ("drawn", [], [5, 25]), ("drawn", ["--epochs", "3"], [3]), ("own", [], [5])])
def test_a_study_says_where_it_holds(tmp_path, monkeypatch, kind, options, lengths):
    "On sketch faces for two lengths of training; then the real faces' effects, which may differ."
    asked = []

    class Done(SimpleNamespace):
        def run(self, labels):
            return self

    def recorded(recipes, seeds, folder):
        asked.append(next(iter(recipes.values())).epochs)
        return Done(kind=kind)

    monkeypatch.delenv("CELEBA_ROOT", raising=False)
    monkeypatch.setattr(experiments, "open_labels", lambda *_: None)
    monkeypatch.setattr(study, "Study", recorded)
    monkeypatch.setattr(experiments, "_show_study", lambda study: {"effects": []})
    root = ["--root", tmp_path] if kind == "own" else []
    done = call("study", *root, *options, "--json", tmp_path / "study.json")
    assert done.exit_code == 0 and asked == lengths, done.output
    faces = "drawn faces" if kind == "drawn" else "your images"
    assert f"These verdicts hold for {faces}, at this size" in done.output and "On real faces (CelebA, 1,000" in done.output
    assert ("longer" in read_strictly(tmp_path / "study.json")) == (len(lengths) == 2)


def test_a_study_goes_on(faces, tmp_path):
    "Called again, it makes only what is missing, and the same table."
    def made():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "study").iterdir() if path.is_dir()}

    small = ["--size", 16, "--epochs", 1, "--train-images", 16, "--seeds", 1]
    words = ["study", "--root", faces, *small, "--out", tmp_path / "study"]
    first = call(*words, "--json", tmp_path / "first.json")
    assert first.exit_code == 0, first.output
    result, before = read_strictly(tmp_path / "first.json"), made()
    assert [row["effect"] for row in result["effects"]] == ["flip", "lower rate", "interaction"]
    assert len(before) == len(result["rows"]) == 4 and len(result["effects_other"]) == 9
    written = {path.name for path in (tmp_path / "study").iterdir()}
    assert {"runs.csv", "table.csv", "effects.csv", "answers.npz", "study.png"} <= written
    shutil.rmtree(tmp_path / "study" / min(before))
    assert call(*words, "--json", tmp_path / "again.json").exit_code == 0
    assert [name for name, when in made().items() if when != before.get(name)] == [min(before)]
    again = read_strictly(tmp_path / "again.json")
    assert (again["rows"], again["effects"]) == (result["rows"], result["effects"])


def test_train_writes_what_was_asked_for(model):
    run = load(model)
    assert (run.recipe.size, run.recipe.epochs, run.recipe.train_images, run.recipe.lr) == (16, 1, 24, Recipe().lr)
    assert read_strictly(model.with_suffix(".json")) == run.metrics | {"run": run.id}


def test_evaluate_says_how_good_it_is(faces, model, tmp_path):
    evaluated = call("evaluate", model, "--root", faces, "--json", tmp_path / "test.json")
    said = [line.split() for line in evaluated.stdout.splitlines()]
    assert ["images", "8"] in said and {"accuracy", "balanced", "mean", "never", "log"} <= {line[0] for line in said}
    assert all(re.fullmatch(r"\d+\.\d\d%", line[-1]) for line in said if {"accuracy", "never"} & {*line})
    assert "trained on drawn faces, temperature" in evaluated.stdout and "Warning" not in evaluated.output
    found = read_strictly(tmp_path / "test.json")
    assert 0 < found["seconds"] < 60 and len(found["per_attribute"]) == 40
    assert math.isclose(found["accuracy"], load(model).metrics["test_accuracy"], rel_tol=1e-9)


def test_a_number_that_does_not_exist_is_null(model, tmp_path):
    make_sketch(tmp_path / "one", 8, 1, 1, progress=False)
    done = call("evaluate", model, "--root", tmp_path / "one", "--json", tmp_path / "one.json")
    found = read_strictly(tmp_path / "one.json")
    assert done.exit_code == 0 and found["balanced_accuracy"] is None
    assert "trained on drawn faces, and these are other images (drawn faces)" in done.stderr and not found["same_data"]


def test_predict_answers_for_each_photo(faces, model, tmp_path):
    photo = faces / "img_align_celeba" / "000001.jpg"
    done = call("predict", photo, "--model", model, "--json", tmp_path / "answers.json")
    assert done.exit_code == 0, done.output
    written = read_strictly(tmp_path / "answers.json")
    assert written["model"] == load(model).id and len(written["photos"][0]["faces"][0]["probabilities"]) == 40
    assert "trained on drawn faces" in done.stderr and done.stderr.count("Warning: this network was trained on drawn faces") == 1
    assert written["trained_on"] == "drawn" and written["temperature"] == load(model).temperature
    both = call("predict", photo, tmp_path / "nothing.jpg", "--model", model)
    assert both.exit_code == 1 and "face 1 of 1" in both.stdout and "there is no such file" in both.stderr


def test_predict_says_what_is_likely(capsys):
    face = {"box": [10, 20, 188, 238], "probabilities": {"Smiling": 0.9, "Wearing_Hat": 0.51, "Young": 0.2},
            "yes": ["Smiling", "Wearing_Hat"]}
    cli._show_answer({"photo": "me.jpg", "error": None, "faces": [face]})
    cli._show_answer({"photo": "sea.jpg", "error": None, "faces": []})
    assert capsys.readouterr().out.splitlines() == [
        "me.jpg, face 1 of 1 (10, 20 to 188, 238): Smiling 90%, Wearing Hat 51%", "sea.jpg: no face found"]


def test_export_writes_a_file_or_says_what_to_install(model, tmp_path):
    done = call("export", model, "--out", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").exists() if done.exit_code == 0 else "pip install 'celeba_nb[export]'" in done.stderr


def test_reproduce_tells_the_same_from_another(faces, model, tmp_path):
    done = call("reproduce", model, "--root", faces, "--json", tmp_path / "again.json")
    assert done.exit_code == 0 and "The same, bit for bit" in done.output and ", weights." in done.output, done.output
    run = load(model)
    assert read_strictly(tmp_path / "again.json") == {"run": run.id, "same": True, "differences": {}, "changes": {}}
    make_sketch(tmp_path / "other", 8, 1, 1, progress=False)
    other = call("reproduce", model, "--root", tmp_path / "other")
    assert other.exit_code == 1 and "trained on different data" in other.output
    save(replace(run, recipe=replace(run.recipe, seed=1)), tmp_path / "forged")
    forged = call("reproduce", tmp_path / "forged", "--root", faces)
    assert forged.exit_code == 3 and "The result differs." in forged.output


def test_report_writes_a_page(faces, model, tmp_path):
    assert call("report", model, "--out", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text().lstrip().startswith("<!DOCTYPE html>")
    done = call("report", model, "--out", tmp_path / "page2.html", "--root", faces)
    assert "training labels" in (tmp_path / "page2.html").read_text() and "Data: " in done.stdout


def test_sketch_draws_and_spoils_labels(tmp_path):
    few = ["--train-images", 64, "--valid-images", 1, "--test-images", 1]
    assert f"Written: {tmp_path / 'clean'}" in call("sketch", tmp_path / "clean", *few).stdout
    assert call("sketch", tmp_path / "noisy", *few, "--label-noise", 0.25).exit_code == 0
    clean, noisy = (read_celeba(tmp_path / name).attributes.to_numpy() for name in ("clean", "noisy"))
    assert 0.2 < (clean != noisy).mean() < 0.3


def test_bench_says_how_many_times_as_fast(capsys, tmp_path):
    found = pd.DataFrame({"way": ["naive", "celeba_nb"] * 2, "turn": [0, 0, 1, 1], "seconds": [8.0, 2.0, 12.0, 2.0],
                          "train_images_s": 1.0, "peak_mb": 1.0, "test_accuracy": 0.8})
    experiments._show_bench(found, tmp_path / "bench.json")
    said = capsys.readouterr().out
    assert "5.00 times as fast as naive (4.00 to 6.00)" in said and "test accuracy" in said and "80.00%" in said
    assert read_strictly(tmp_path / "bench.json")["ratio_vs_naive"] == 5


def test_bench_takes_what_is_there(faces, monkeypatch):
    "A folder with fewer than 1,000 images a split; asked for more than there are, it says so in one line."
    asked = []
    monkeypatch.setattr("celeba_nb.benchmark.bench", lambda backends, options, repeats: asked.append(options))
    monkeypatch.setattr(experiments, "_show_bench", lambda found, json_file: None)
    done = call("bench", "--root", faces, "--valid-images", 5)
    assert done.exit_code == 0 and "Compared on 24 train, 5 valid, 8 test images" in done.stdout, done.output
    assert asked[0][:6] == ["--train-images", "24", "--valid-images", "5", "--test-images", "8"]
    done = call("bench", "--root", faces, "--train-images", "5,000")
    assert done.exit_code == 1 and "5,000 train images are wanted, but there are 24. Ask for 1 to 24" in done.stderr


def test_race_says_how_many_times_as_fast_and_whether_it_is_as_accurate(faces, monkeypatch, tmp_path):
    asked = []

    def bench(ways, options, draws):
        asked.append((ways, options, draws))
        turns = range(draws)
        return pd.concat([pd.DataFrame({"way": way, "turn": turns, "seconds": seconds, "test_accuracy": [
            right + 0.001 * (turn % some) for turn in turns]}) for way, seconds, right, some in (
                ("naive", 20.0, 0.85, 2), ("race", 2.0, 0.86, 3))])

    monkeypatch.setattr("celeba_nb.benchmark.bench", bench)
    done = call("race", "--root", faces, "--draws", 16, "--json", tmp_path / "race.json")
    assert done.exit_code == 0 and "10.0 times as fast (10.0 to 10.0)" in done.stdout, done.output
    assert "16 draws: as accurate and faster" in " ".join(done.stdout.split()) and "86.0" in done.stdout
    assert asked[0][0] == ["naive", "race"] and asked[0][1][:2] == ["--train-images", "24"] and asked[0][2] == 16
    found = read_strictly(tmp_path / "race.json")
    assert {"ratio", "ratio_low", "ratio_high", "accuracy", "peer_accuracy", "difference", "p", "verdict", "seconds",
            "peer_seconds"} <= found.keys() and len(found["runs"]) == 32
    done = call("race", "--root", faces, "--draws", 1, "--json", tmp_path / "one.json")
    assert "too few draws to tell" in " ".join(done.stdout.split()) and "10.0 times as fast, +1.00 points" in done.stdout
    assert read_strictly(tmp_path / "one.json")["ratio_high"] is None
    assert call("race", "--root", faces, "--peers", "nobody").exit_code == 1


def test_bench_runs_another_way(faces, tmp_path):
    few = ["--train-images", 16, "--valid-images", 8, "--test-images", 8, "--size", 16, "--epochs", 1]
    done = call("bench", "--root", faces, *few, "--peers", "naive", "--repeats", 1, "--json", tmp_path / "bench.json")
    assert done.exit_code == 0, done.output
    result = read_strictly(tmp_path / "bench.json")
    assert set(result["ways"]) == {"celeba_nb", "naive"} and result["ratio_vs_naive"] > 0
    assert {"train_images_s", "seconds", "peak_mb", "test_accuracy"} == set(result["ways"]["naive"])
    assert min(way["peak_mb"] for way in result["ways"].values()) > 100


def test_the_cache_is_shown_and_removed(faces, tmp_path, monkeypatch):
    monkeypatch.setenv("CELEBA_NB_CACHE", str(tmp_path / "cache"))
    empty = f"Nothing is kept in {tmp_path / 'cache'}\n"
    assert (asked := call("cache")).exit_code == 0 and asked.output == empty
    assert call("train", "--root", faces, *TINY, "--out", tmp_path / "model").exit_code == 0
    make_sketch(tmp_path / "cache" / "sketch-0123", 3, 1, 1, progress=False)
    lines = call("cache").stdout.splitlines()
    (decoded, what), (drawn, faces_of) = sorted(zip(lines[::2], lines[1::2], strict=True))
    assert decoded.startswith("images/") and drawn == "sketch-0123"
    assert what.startswith("  40 images, ") and what.endswith(f" MB: decoded images at 16×16, {faces}")
    assert faces_of.startswith("  5 images, ") and "drawn faces" in faces_of
    assert "nothing of that name" in call("cache", "--remove", "images/nothing").stderr
    assert "Removed: sketch-0123 (" in call("cache", "--remove", "sketch-0123").stdout
    assert not (tmp_path / "cache" / "sketch-0123").exists() and "40 images" in call("cache").stdout
    assert "Removed: all (" in call("cache", "--remove", "all").stdout and call("cache").output == empty


# Code of one's own.

OWN = '''
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, size, width=4):
        super().__init__()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, width), nn.Linear(width, 40))

    def forward(self, x):
        return self.head(x)

def darker(x, generator, by=0.5):
    return x * by

def squared(net, x, y):
    return (net(x).float().sigmoid() - y).square().mean()
'''


def test_own_code_works_in_each_command(faces, tmp_path, monkeypatch):
    "A module in the current folder, allowed by its name; without that, each command says what to do."
    (tmp_path / "ownlab.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = ["--model", "ownlab.Tiny", "--model-args", '{"width": 3}', "--augment", "ownlab.darker", "--loss", "ownlab.squared"]
    made = ["train", "--root", faces, *TINY, *own, "--out", "model"]
    small = ["--size", 16, "--epochs", 1, "--train-images", 16, "--seeds", 1]
    photo = faces / "img_align_celeba" / "000001.jpg"
    studied = ["study", "--root", faces, *small, "--model", "ownlab.Tiny", "--out", "study"]
    commands = [made, ["evaluate", "model", "--root", faces], ["predict", photo, "--model", "model"], ["export", "model"],
                ["report", "model"], ["reproduce", "model", "--root", faces], studied]
    for command in commands:
        assert "ownlab" not in sys.modules or command != made
        refused = call(*command)
        assert refused.exit_code == 1 and "--allow ownlab" in refused.stderr, refused.output
        done = call(*command, "--allow", "ownlab") if command != studied else None  # whose workers begin with the path of now
        assert done is None or done.exit_code == 0 or "celeba_nb[export]" in done.stderr, done.output
    alone = subprocess.run([sys.executable, "-c", APP, *map(str, studied), "--allow", "ownlab"], capture_output=True, text=True,
                           env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert alone.returncode == 0, alone.stderr
    assert load(tmp_path / "model", allow=["ownlab"]).recipe.model_args == {"width": 3}
    assert len([path for path in (tmp_path / "study").iterdir() if path.is_dir()]) == 4
