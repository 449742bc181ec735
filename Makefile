# make demo   the whole path on generated rooms: scans, preprocessing, training, evaluation; minutes on a laptop
# make test   style check and tests
# Both make .venv and install the tested versions first. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
export OMP_WAIT_POLICY ?= PASSIVE # see train_scannet.py
INSTALLED := .venv/installed

.PHONY: demo test clean

demo: $(INSTALLED)
	.venv/bin/python scripts/demo.py

test: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest

$(INSTALLED): constraints.txt requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt -c constraints.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
