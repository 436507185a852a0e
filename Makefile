# Everything a newcomer types: make demo, make test. Each makes the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: env demo test lint format clean

env: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: env  ## Trains, evaluates and samples a small model on generated clips.
	$(BIN)/python -m flowvid.train --variant=prev_frame --preset=small --workdir=$(DEMO)
	$(BIN)/python -m flowvid.evaluate --workdir=$(DEMO)
	$(BIN)/python -m flowvid.sample --workdir=$(DEMO) --num_videos=8 --out=$(DEMO)/from_nothing
	$(BIN)/python -m flowvid.sample --workdir=$(DEMO) --num_videos=8 --first_frames=validation \
		--out=$(DEMO)/continued
	@echo
	@echo "Generated from nothing:        $(DEMO)/from_nothing/samples.png and the GIFs beside it"
	@echo "Real first frames, continued:  $(DEMO)/continued/samples.png and the GIFs beside it"
	@echo "Bits per dimension:            $(DEMO)/evaluation.json"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## Lint and tests, as CI runs them.
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .pytest_cache .ruff_cache
