# What a newcomer types. Each target sets up .venv when settings.ini, setup.py or pyproject.toml is newer than it, or when
# .venv was made in another folder: the programs in it would run the code over there.
#   make study            the four methods, several seeds, the table and the verdicts
#   make test             notebooks, tests, hygiene
#   make faults           kill, fill, damage, deceive: the long version of these tests, and the figures of docs/faults.md
#   make lab              JupyterLab, with the tour, in your copy of the course (lab/)
#   make docs             the site in docs/_build/html, from the same notebooks
#   make pdf              the lessons as one PDF, printed from the site (needs Chromium)
#   make outputs          run the notebooks from top to bottom and keep their outputs (sketch faces only)
#   make lessons-real     run the lessons on the real faces of CELEBA_ROOT: seconds, accuracy; nothing is kept
#   make bench            how fast: beside a tutorial's program and fastai, on your machine
#   make figures          how the notebooks measure against the examples that we follow
#   make numbers          is each published number what nbs/results gives?
#   make mutants          change the code on purpose: which change does no test notice?
#   make lowest           does the package work with the lowest versions that settings.ini allows, all together?
#   make colab            does the tour run with the versions that Colab has?
#   make clean            remove .venv and all that was built; runs/ and the user's cache stay
# Another Python: make PYTHON=python3.12 study. Options: make study STUDY="--out runs/big --seeds 16"

PYTHON ?= python3
STUDY ?= --out runs/study
TEST ?=
FAULTS ?=
LAB ?=
DOCS ?=
PDF ?=
OUTPUTS ?=
LESSONS ?=
MUTANTS ?=
BENCH ?= --json runs/bench.json

bin := .venv/bin
metadata := settings.ini setup.py pyproject.toml
# Empty where all is well; otherwise one line that says what to install. Asked only when something is to be set up.
python_problem = $(or $(if $(shell command -v $(PYTHON)),,$(PYTHON) is missing: install Python $(oldest) or newer),\
$(shell $(PYTHON) tools/check_python.py $(oldest) 2>/dev/null || echo '$(PYTHON) does not run: install Python $(oldest) or newer'))
git_problem = $(if $(shell command -v git),,git is missing: the tests ask it which files belong to the project)
oldest = $(shell sed -n 's/^min_python *= *//p' settings.ini)
# A stamp holds the path of the folder where it was made: "moved" where that was another one (older stamps are empty).
one_word = $(subst $() ,?,$(1))
moved = $(if $(filter-out $(call one_word,$(CURDIR)),$(call one_word,$(shell cat $(1) 2>/dev/null))),moved)
clear = $(if $(filter moved,$^),--clear)
stop_at = $(if $(strip $($(1))),$(error $(strip $($(1)))))

.PHONY: study test faults lab docs pdf outputs lessons-real bench figures numbers mutants lowest colab clean

study: .venv/ready
	$(bin)/celeba-nb study $(STUDY)

test: .venv/ready-dev
	$(call stop_at,git_problem)@$(bin)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(TEST)

faults: .venv/ready-dev
	@CELEBA_NB_FAULTS=full $(bin)/python -m pytest tests/test_faults.py tests/test_fuzz.py tests/test_security.py $(FAULTS)

lab: .venv/ready-dev
	@$(bin)/python -m tools.lab $(LAB)

docs: .venv/ready-docs
	@$(bin)/python -m tools.docs $(DOCS)

pdf: docs
	@$(bin)/python -m tools.pdf $(PDF)

outputs: .venv/ready-dev
	@$(bin)/python -m tools.outputs $(OUTPUTS)

lessons-real: .venv/ready-dev
	@$(bin)/python -m tools.lessons_real $(LESSONS)

bench: .venv/ready-bench
	$(bin)/celeba-nb bench $(BENCH)

figures: .venv/ready-dev
	@$(bin)/python -m tools.figures

numbers: .venv/ready-dev
	@$(bin)/python -m tools.numbers

mutants: .venv/ready-dev
	@$(bin)/python -m tools.mutants $(MUTANTS)

lowest: .venv/lowest/ready
	@.venv/lowest/bin/python -m tools.lowest --try

colab: .venv/colab/ready
	@.venv/colab/bin/python -m tools.colab

clean:
	rm -rf .venv build dist docs/_build *.egg-info .pytest_cache .ruff_cache
	find celeba_nb tests tools -name __pycache__ -prune -exec rm -rf {} +

# A target without a file: what depends on it is always made.
.PHONY: moved
moved:

# The stamps, which hold the folder's path, are written last: a set-up that was interrupted is done again.
.venv/ready: $(metadata) $(call moved,.venv/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv with what celeba_nb needs (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv $(clear) .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable .
	@echo '$(CURDIR)' > $@

.venv/ready-dev: $(metadata) $(call moved,.venv/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv with what notebooks and tests need (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv $(clear) .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs,scale,explain,photo,export]'
	@for stamp in .venv/ready .venv/ready-docs $@; do echo '$(CURDIR)' > $$stamp; done

.venv/ready-docs: $(metadata) $(call moved,.venv/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv with what the site needs (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv $(clear) .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs]'
	@for stamp in .venv/ready $@; do echo '$(CURDIR)' > $$stamp; done

.venv/lowest/ready: $(metadata) $(call moved,.venv/lowest/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv/lowest with the lowest versions that settings.ini allows (PyTorch is large) ..."
	@$(PYTHON) -m venv $(clear) .venv/lowest
	@$(PYTHON) -m tools.lowest > .venv/lowest/constraints.txt
	@.venv/lowest/bin/python -m pip install -qq --disable-pip-version-check --constraint .venv/lowest/constraints.txt \
		--editable '.[scale,explain,photo,export]'
	@echo '$(CURDIR)' > $@

.venv/colab/ready: $(metadata) tools/colab.txt $(call moved,.venv/colab/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv/colab with the versions that Colab has (PyTorch is large) ..."
	@$(PYTHON) -m venv $(clear) .venv/colab
	@.venv/colab/bin/python -m pip install -qq --disable-pip-version-check --constraint tools/colab.txt \
		. ipykernel ipywidgets nbclient
	@echo '$(CURDIR)' > $@

.venv/ready-bench: $(metadata) $(call moved,.venv/ready)
	$(call stop_at,python_problem)@echo "Setting up .venv with what is compared (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv $(clear) .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[bench]'
	@for stamp in .venv/ready $@; do echo '$(CURDIR)' > $$stamp; done
