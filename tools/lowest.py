"""The lowest versions that settings.ini allows, and whether the package works with all of them together (make lowest).

Without an option it prints one NAME==VERSION a line, as pip takes constraints. With --try it imports every module, and
calls each command once. Only the standard library is imported here: a bare Python prints the list.
"""
import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRIED = ["requirements", "scale_requirements", "explain_requirements", "photo_requirements", "export_requirements"]
SIZES = "--train-images 64 --size 32 --epochs 1 --threads 1"
COMMANDS = f"""sketch faces --train-images 64 --valid-images 8 --test-images 24
train --root faces {SIZES} --out model
evaluate model --root faces
report model --out report.html
reproduce model --root faces
export model --out model.onnx
predict faces/img_align_celeba/000001.jpg --model model
study --root faces {SIZES} --seeds 2 --out study"""


def lowest(settings):
    "The lower bounds as equalities: `scipy>=1.11` becomes `scipy==1.11`."
    lines = [line.strip() for key in TRIED for line in settings[key].splitlines()]
    return [re.sub(r"\[.*\]", "", line.split(",")[0].replace(">=", "==")) for line in lines if ">=" in line]


def check():
    "Import every module, and call each command once, with small sizes."
    for path in sorted((ROOT / "celeba_nb").glob("[!_]*.py")):
        importlib.import_module(f"celeba_nb.{path.stem}")
    with tempfile.TemporaryDirectory() as folder:
        for line in COMMANDS.splitlines():
            print(f"celeba-nb {line}", flush=True)
            subprocess.run([Path(sys.executable).with_name("celeba-nb"), *line.split()], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(prog="make lowest", description=__doc__)
    parser.add_argument("--try", action="store_true", dest="check", help="with what is installed: does the package work?")
    if parser.parse_args().check:
        return check()
    settings = ConfigParser(delimiters=["="], interpolation=None)
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    print(*lowest(settings["DEFAULT"]), sep="\n")


if __name__ == "__main__":
    main()
