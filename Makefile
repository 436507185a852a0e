# Everything a newcomer types: make demo, make test. Each makes the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: env demo test lint format browser clean

env: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: env  ## Trains, evaluates and samples a small model on generated clips.
	$(BIN)/python -m flowvid.train --variant=label_everywhere --preset=small --num_steps=400 \
		--workdir=$(DEMO)
	$(BIN)/python -m flowvid.evaluate --workdir=$(DEMO) --num_videos=64 --label_videos=16
	$(BIN)/python -m flowvid.sample --workdir=$(DEMO) --num_videos=8 --out=$(DEMO)/from_nothing
	$(BIN)/python -m flowvid.sample --workdir=$(DEMO) --num_videos=8 --num_frames=13 --first_frames=validation \
		--out=$(DEMO)/continued
	@echo
	@echo "Generated from nothing:        $(DEMO)/from_nothing/samples.png and the GIFs beside it"
	@echo "Real first frames, continued:  $(DEMO)/continued/samples.png and the GIFs beside it"
	@echo "Bits per dimension:            $(DEMO)/evaluation.json"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

browser:  ## Chromium, to test the pages with: installed where there is none and root asks.
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name > /dev/null && exit 0; done; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && \
		apt-get install -qq -y chromium > /dev/null; } || \
	echo "No Chromium: the tests of the pages in a browser will be skipped."

test: lint browser  ## Lint and tests, as CI runs them.
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache
