# make demo   the whole path on generated rooms: scans, preprocessing, training, evaluation; minutes on a laptop
# make test   style check and tests
# make faults   every fault injection, the long ones too: processes killed, disks full, files damaged
# make test-gpu-compile   the GPU's kernels compiled for every architecture; no GPU needed
# Each makes .venv and installs the tested versions first. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
# As in train_scannet.py: idle threads soon sleep
export GOMP_SPINCOUNT ?= 10000
INSTALLED := .venv/installed

.PHONY: demo test faults test-gpu-compile clean

demo: $(INSTALLED)
	.venv/bin/python scripts/demo.py

test: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest -rs -m "not slow"
	TRITON_INTERPRET=1 .venv/bin/python -m pytest -rs tests/ops/test_gpu.py # the GPU's kernels, interpreted

faults: $(INSTALLED)
	.venv/bin/python -m pytest -rs tests/faults
	.venv/bin/python -m pytest -rs -m slow --ignore tests/faults

test-gpu-compile: $(INSTALLED)
	GPU_ARCHITECTURES="75 80 86 89 90 100 120" .venv/bin/python -m pytest tests/ops/test_gpu_compile.py

$(INSTALLED): constraints.txt requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt -c constraints.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
