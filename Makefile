# Every verb sets up what it needs: see tools/setup.sh. PYTHON=... chooses the interpreter of a new .venv.

VENV := .venv
BIN := $(VENV)/bin

# Where Linux has no display, windows open on an invisible one. Qt's own "offscreen" is second best: it has no OpenGL.
# Looked up when it is used: `libraries` may have installed it just before.
ifeq ($(shell uname -s)$(DISPLAY)$(WAYLAND_DISPLAY)$(QT_QPA_PLATFORM),Linux)
WITH_DISPLAY = $(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1920x1200x24",QT_QPA_PLATFORM=offscreen)
endif

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.ready-run  ## run the main job without a window; masks and an overlay go to demo-output/
	@$(BIN)/napari-fewshot demo --out demo-output

.PHONY: app
app: $(VENV)/.ready-dev libraries  ## open napari with the dock and a sample (SAMPLE=ihc_tiles, coins or synthetic_cells)
	@$(BIN)/python tools/app.py $(SAMPLE)

.PHONY: test
test: $(VENV)/.ready-dev libraries  ## run all tests, two at a time, each on an invisible display of its own
	@$(if $(shell command -v Xvfb),,$(WITH_DISPLAY)) $(BIN)/pytest -n 2 --dist worksteal

.PHONY: check
check: $(VENV)/.ready-dev  ## lint, formatting, types, import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.ready-dev  ## format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: screenshots
screenshots: $(VENV)/.ready-dev libraries  ## make docs/images/*.png of the dock in real use
	@$(WITH_DISPLAY) $(BIN)/python tools/screenshots.py

.PHONY: speed
speed: $(VENV)/.ready-dev libraries  ## measure time, memory and how they grow, in a few minutes; build/speed.json, .png
	@mkdir -p build
	@$(BIN)/python benchmarks/speed/run.py --quick --json build/speed.json

.PHONY: weights
weights: $(VENV)/.ready-dev  ## train the shipped weights anew (DATA=folder of data sets), put them and their pins in place
	@$(BIN)/napari-fewshot train mica-v1 $(if $(DATA),--data $(DATA)) --out build/weights/mica-v1
	@$(BIN)/python tools/ship_weights.py build/weights/mica-v1/mica-v1.safetensors
	@for file in weights/*-mica-v1.safetensors; do \
		name=$$(basename $$file .safetensors); \
		$(BIN)/napari-fewshot train $$name $(if $(DATA),--data $(DATA)) --out build/weights/$$name \
		&& $(BIN)/python tools/ship_weights.py build/weights/$$name/$$name.safetensors || exit 1; \
	done
	@$(BIN)/python -m tests.golden.pins
	@$(BIN)/python -m tests.golden.answers
	@$(BIN)/python -m tests.golden.embedding

.PHONY: libraries
libraries:
	@tools/setup.sh libraries

$(VENV)/.ready-run $(VENV)/.ready-dev: $(VENV)/.ready-%: pyproject.toml hatch_build.py
	@tools/setup.sh python $*
