# Each target works on a fresh clone, on Linux and macOS. It creates .venv and installs what it needs, once.
#
#   make quickstart             train on real images with and without keras_reg; ARGS=... go to examples/quickstart.py
#   make test                   run all tests on all three backends, against the built wheel
#   make test BACKEND=jax       run them on one backend; ARGS="-k mix_up" goes to pytest, JOBS=4 uses four processes
#   make test-oldest            run them on the oldest supported Keras
#   make docs                   build the documentation into site/, which opens from a file or a server
#   make docs-serve             build it, serve it at localhost:8000 and rebuild it after changes
#   make lint                   run ruff and mypy; `make format` fixes what ruff can
#   make bench                  compare speed and memory with other packages on each backend (ARGS=--quick)
#   make notebooks              run the notebooks at smoke size
#   make notebooks-rebuild      rebuild them from their scripts, with outputs; ARGS=03 rebuilds one of them
#   make release-check          check wheel and sdist, and run the README's code with each in an empty environment per backend
#   make clean                  remove everything that the other targets created

BACKEND ?=
ARGS ?=
JOBS ?= 2
RESULTS ?= runs/performance.json
VENV ?= .venv

# The Keras that `keras>=...` in pyproject.toml admits first.
KERAS_OLDEST = 3.10.0
OLDEST_BACKEND = torch

# Everything runs on a CPU: the CPU builds are a tenth of the size of those with CUDA.
TORCH = 2.13.0
TORCHVISION = 0.28.0
TORCH_CPU_INDEX = https://download.pytorch.org/whl/cpu

SYSTEM := $(shell uname -sm)
ifeq ($(SYSTEM),Linux x86_64)
TENSORFLOW = tensorflow-cpu
else
TENSORFLOW = tensorflow
endif

# The first of these that is a Python which all three frameworks support.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(shell \
	$(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(python))))

BIN = $(VENV)/bin
DONE = $(VENV)/done
PIP_OF = bin/python -m pip install --quiet --disable-pip-version-check
PIP = $(VENV)/$(PIP_OF)
# Shows what is downloaded, how far it is and how long it has taken.
INSTALL = $(BIN)/python .ci/install.py
RELEASE = $(VENV)-release
WHEEL = $$(ls dist/*.whl)
SOURCES := $(shell find keras_reg -name '*.py') keras_reg/py.typed pyproject.toml docs/_pypi_description.py README.md LICENSE
BACKENDS = $(or $(BACKEND),tensorflow jax torch)
# The tests of one file stay together: some share what is slow to make. tests/conftest.py puts the longest files first.
PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder
# How each backend is installed, by the command $(1). PyTorch comes from wherever pip looks first, then from PyTorch's own
# index of CPU builds, and from PyPI, with CUDA, if neither has it. On macOS every build is one for the CPU.
install-tensorflow = $(1) $(TENSORFLOW)
install-jax = $(1) jax
ifeq ($(firstword $(SYSTEM)),Linux)
install-torch = { $(1) "torch==$(TORCH)+cpu" 2>/dev/null || $(1) --index-url $(TORCH_CPU_INDEX) "torch==$(TORCH)" || \
	{ echo "   There is no CPU build to be had: installing the build with CUDA, several gigabytes"; $(1) "torch==$(TORCH)"; }; }
else
install-torch = $(1) "torch==$(TORCH)"
endif
say = @printf '\033[1m-- %s\033[0m\n' "$(1)"

.PHONY: quickstart quickstart-plan test test-oldest docs docs-serve lint format bench notebooks notebooks-rebuild wheel release-check clean help
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# What is run --------------------------------------------------------------------------------------------------------

QUICKSTART_NEEDS = $(DONE)/$(or $(BACKEND),tensorflow) $(DONE)/extra-$(if $(findstring tfds:,$(ARGS)),examples,quickstart)
quickstart: quickstart-plan $(QUICKSTART_NEEDS) $(DONE)/package
	@KERAS_BACKEND=$(or $(BACKEND),tensorflow) TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python examples/quickstart.py \
		$(if $(BACKEND),--backend $(BACKEND)) $(ARGS)

quickstart-plan:
	@test -z "$(filter-out $(wildcard $(QUICKSTART_NEEDS)),$(QUICKSTART_NEEDS))" || echo "This installs keras_reg, Keras," \
		"$(or $(BACKEND),tensorflow), scikit-learn and matplotlib into $(VENV), once: one to five minutes, most of them for" \
		"$(or $(BACKEND),tensorflow). The training follows, and takes a few minutes at most."

# tensorflow and jax are there for every backend: all of them read tf.data, and models are loaded into another one.
test: $(DONE)/tensorflow $(DONE)/jax $(BACKENDS:%=$(DONE)/%) $(DONE)/extra-test $(DONE)/torchvision $(DONE)/hub $(DONE)/package
	@status=0; for backend in $(BACKENDS); do \
		printf '\033[1m-- Tests on %s\033[0m\n' $$backend; \
		KERAS_BACKEND=$$backend KERAS_REG_TEST_INSTALLED=1 $(BIN)/python -P -m pytest -q $(PARALLEL) $(ARGS) || status=1; \
	done; exit $$status

test-oldest: $(VENV)-oldest/done
	$(call say,Tests on Keras $(KERAS_OLDEST) and $(OLDEST_BACKEND))
	@KERAS_BACKEND=$(OLDEST_BACKEND) KERAS_REG_TEST_INSTALLED=1 $(VENV)-oldest/bin/python -P -m pytest -q $(PARALLEL) $(ARGS)

docs: $(DONE)/extra-docs $(DONE)/package
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(call say,Open site/index.html in a browser)

docs-serve: $(DONE)/extra-docs $(DONE)/package
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --livereload $(ARGS)

lint: $(DONE)/lint
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(DONE)/lint
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# RESULTS=docs/results/performance.json renews what docs/performance.md shows; then run examples/benchmarks/report.py.
bench: $(BACKENDS:%=$(DONE)/%) $(DONE)/tensorflow $(DONE)/extra-test $(DONE)/package $(DONE)/peers
	@for backend in $(BACKENDS); do for file in $(filter-out %/bench_gpu.py,$(wildcard examples/benchmarks/bench_*.py)); do \
		KERAS_BACKEND=$$backend TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python $$file --json $(RESULTS) $(ARGS) || exit 1; \
	done; done
	@$(BIN)/python examples/benchmarks/draw.py $(RESULTS) --out runs

notebooks notebooks-rebuild: $(DONE)/$(or $(BACKEND),tensorflow) $(DONE)/extra-examples $(DONE)/extra-notebooks $(DONE)/package
	@KERAS_BACKEND=$(or $(BACKEND),tensorflow) TF_CPP_MIN_LOG_LEVEL=3 \
		$(BIN)/python examples/notebooks/make.py $(if $(filter notebooks,$@),--smoke) $(ARGS)

wheel: dist/done
	@$(BIN)/python tests/release.py dist

# `python -m build` makes the wheel in dist/ from the sdist; the one that is made here comes from the checkout.
release-check: dist/done $(DONE)/twine
	@$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	@rm -rf $(RELEASE) && $(BIN)/python -m build --wheel --outdir $(RELEASE) . > $(DONE)/build.log 2>&1 || { cat $(DONE)/build.log; exit 1; }
	@$(BIN)/python tests/release.py dist $(RELEASE)/*.whl
	@for backend in $(BACKENDS); do $(MAKE) --no-print-directory release-of-$$backend || exit 1; done
	@rm -rf $(RELEASE)
	$(call say,Wheel and sdist are fit for a release; the changelog begins with: $(shell sed -n 's/^## //p' docs/changelog.md | head -1))

# An environment that has the backend, and what the package brings; and matplotlib, which the README's `plot` needs.
release-of-%:
	$(call say,The README's code with the wheel and with the sdist on $*)
	@rm -rf $(RELEASE)/$* && $(PYTHON) -m venv $(RELEASE)/$*
	@$(call install-$*,$(RELEASE)/$*/$(PIP_OF))
	@$(RELEASE)/$*/$(PIP_OF) matplotlib
	@for artifact in dist/*.whl dist/*.tar.gz; do \
		$(RELEASE)/$*/$(PIP_OF) $$artifact && $(RELEASE)/$*/bin/python -m pip check && \
		KERAS_BACKEND=$* TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg $(RELEASE)/$*/bin/python tests/release.py README.md && \
		$(RELEASE)/$*/bin/python -m pip --quiet uninstall --yes keras-reg || exit 1; \
	done
	@rm -rf $(RELEASE)/$*

clean:
	rm -rf $(VENV) $(VENV)-oldest $(RELEASE) build dist site runs .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What it needs ------------------------------------------------------------------------------------------------------

$(DONE)/venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python"; exit 1; }
	$(call say,Making $(VENV) with $(shell $(PYTHON) --version 2>&1))
	@$(PYTHON) -m venv $(VENV) && mkdir -p $(DONE) && touch $@

$(DONE)/build: | $(DONE)/venv
	@$(PIP) build && touch $@

# With what renders Markdown.
$(DONE)/twine: | $(DONE)/venv
	@$(PIP) twine "readme-renderer[md]" && touch $@

dist/done: $(SOURCES) | $(DONE)/build
	$(call say,Building the wheel)
	@rm -rf dist && $(BIN)/python -m build --outdir dist . > $(DONE)/build.log 2>&1 || { cat $(DONE)/build.log; exit 1; }
	@touch $@

$(DONE)/package: dist/done
	$(call say,Installing the wheel with Keras)
	@$(INSTALL) $(WHEEL) && $(PIP) --force-reinstall --no-deps $(WHEEL) && touch $@

$(DONE)/extra-%: pyproject.toml | $(DONE)/package
	$(call say,Installing what $* needs)
	@$(INSTALL) "$(WHEEL)[$*]" && touch $@

$(DONE)/tensorflow: | $(DONE)/venv
	$(call say,Installing $(TENSORFLOW): one to three minutes)
	@$(call install-tensorflow,$(INSTALL)) && touch $@

$(DONE)/jax: | $(DONE)/venv
	$(call say,Installing jax: about a minute)
	@$(call install-jax,$(INSTALL)) && touch $@

$(DONE)/torch: | $(DONE)/venv
	$(call say,Installing the CPU build of torch $(TORCH): one to three minutes)
	@$(call install-torch,$(INSTALL)) && touch $@

# For comparison in the tests on PyTorch. Without its dependencies, which would bring another torch.
$(DONE)/torchvision: $(if $(filter torch,$(BACKENDS)),$(DONE)/torch) | $(DONE)/venv
	@$(if $(filter torch,$(BACKENDS)),$(PIP) --no-deps "torchvision==$(TORCHVISION)" && touch $@,true)

# Other packages to be measured beside ours. Without their dependencies, which would bring gigabytes; those that are not
# there, or do not run here, are left out by the benchmarks, which say so.
PEERS = timm kornia kornia-rs keras-aug keras-cv keras-core torchvision==$(TORCHVISION) huggingface_hub safetensors
$(DONE)/peers: | $(DONE)/venv
	$(call say,Installing other packages to compare with)
	@for peer in $(PEERS) pyyaml packaging regex; do $(PIP) --no-deps $$peer || true; done; touch $@

# KerasHub and KerasCV, and what importing them takes. Without their dependencies, which would bring tensorflow-text,
# a keras of before Keras 3 and what downloads presets.
$(DONE)/hub: | $(DONE)/extra-test
	@$(PIP) --no-deps keras-hub keras-cv regex tokenizers && touch $@

# The extra alone, without the package and what that needs.
$(DONE)/lint: pyproject.toml | $(DONE)/venv
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lint"], sep="\n")' \
		> $@.txt && $(PIP) -r $@.txt && touch $@

# The oldest Keras lies in front of everything else that the tests have already.
$(VENV)-oldest/done: $(DONE)/$(OLDEST_BACKEND) $(DONE)/tensorflow $(DONE)/extra-test $(DONE)/torchvision $(DONE)/hub $(DONE)/package
	$(call say,Installing Keras $(KERAS_OLDEST) beside it)
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps keras==$(KERAS_OLDEST)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(VENV)-oldest/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/after.pth"
	@touch $@
