# What a newcomer types. Each target sets up .venv when settings.ini, setup.py or pyproject.toml is newer than it.
#   make study            the four methods, several seeds, the table and the verdicts
#   make test             notebooks, tests, hygiene
#   make lab              JupyterLab in nbs/
#   make docs             the site in docs/_build/html, from the same notebooks
#   make outputs          run the notebooks from top to bottom and keep their outputs (sketch faces only)
#   make bench            how fast: beside a tutorial's program and fastai, on your machine
#   make figures          how the notebooks measure against the examples that we follow
#   make mutants          change the code on purpose: which change does no test notice?
#   make clean            remove .venv and all that was built; runs/ and the user's cache stay
# Another Python: make PYTHON=python3.12 study. Options: make study STUDY="--out runs/big --seeds 16"

PYTHON ?= python3
STUDY ?= --out runs/study
TEST ?=
LAB ?=
DOCS ?=
OUTPUTS ?=
MUTANTS ?=
BENCH ?= --json runs/bench.json

bin := .venv/bin
metadata := settings.ini setup.py pyproject.toml
# Empty where all is well; otherwise one line that says what to install. Asked only when something is to be set up.
python_problem = $(or $(if $(shell command -v $(PYTHON)),,$(PYTHON) is missing: install Python $(oldest) or newer),\
$(shell $(PYTHON) tools/check_python.py $(oldest) 2>/dev/null || echo '$(PYTHON) does not run: install Python $(oldest) or newer'))
git_problem = $(if $(shell command -v git),,git is missing: the tests ask it which files belong to the project)
oldest = $(shell sed -n 's/^min_python *= *//p' settings.ini)
stop_at = $(if $(strip $($(1))),$(error $(strip $($(1)))))

.PHONY: study test lab docs outputs bench figures mutants clean

study: .venv/ready
	$(bin)/celeba-nb study $(STUDY)

test: .venv/ready-dev
	$(call stop_at,git_problem)@$(bin)/python -m pytest $(TEST)

lab: .venv/ready-dev
	$(bin)/jupyter lab nbs $(LAB)

docs: .venv/ready-docs
	@$(bin)/python -m tools.docs $(DOCS)

outputs: .venv/ready-dev
	@$(bin)/python -m tools.outputs $(OUTPUTS)

bench: .venv/ready-bench
	$(bin)/celeba-nb bench $(BENCH)

figures: .venv/ready-dev
	@$(bin)/python -m tools.figures

mutants: .venv/ready-dev
	@$(bin)/python -m tools.mutants $(MUTANTS)

clean:
	rm -rf .venv build dist docs/_build *.egg-info .pytest_cache .ruff_cache
	find celeba_nb tests tools -name __pycache__ -prune -exec rm -rf {} +

# The stamps are touched last: a set-up that was interrupted is done again.
.venv/ready: $(metadata)
	$(call stop_at,python_problem)@echo "Setting up .venv with what celeba_nb needs (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

.venv/ready-dev: $(metadata)
	$(call stop_at,python_problem)@echo "Setting up .venv with what notebooks and tests need (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs,scale,explain]'
	@touch .venv/ready .venv/ready-docs $@

.venv/ready-docs: $(metadata)
	$(call stop_at,python_problem)@echo "Setting up .venv with what the site needs (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs]'
	@touch .venv/ready $@

.venv/ready-bench: $(metadata)
	$(call stop_at,python_problem)@echo "Setting up .venv with what is compared (PyTorch is large: minutes, not seconds) ..."
	@$(PYTHON) -m venv .venv
	@$(bin)/python -m pip install -qq --disable-pip-version-check --editable '.[bench]'
	@touch .venv/ready $@
