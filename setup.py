"""Reads settings.ini: the one place for the package's metadata and requirements."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
settings = config["DEFAULT"]


def lines(key):
    "The requirements under `key`, one a line."
    return [line.strip() for line in settings[key].splitlines() if line.strip()]


setup(
    description=settings["description"],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"],
    author=settings["author"],
    license=settings["license"],
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=["celeba_nb", "celeba_nb.*"]),
    package_data={"celeba_nb": ["*.jinja"]},
    install_requires=lines("requirements"),
    extras_require={key.removesuffix("_requirements"): lines(key) for key in settings if key.endswith("_requirements")},
    entry_points={"console_scripts": ["celeba-nb=celeba_nb.cli:app"], "nbdev": ["celeba_nb=celeba_nb._modidx:d"]},
)
