# make demo   the whole path on generated rooms: scans, preprocessing, training, evaluation; minutes on a laptop
# make test   style check and tests
# make faults   every fault injection, the long ones too: processes killed, disks full, files damaged
# make test-gpu-compile   the GPU's kernels compiled for every architecture; no GPU needed
# make test-coco   the tests of Mask R-CNN on COCO, in an environment of their own, .venv-coco: several GB, minutes
# Each makes .venv and installs the tested versions first. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
# As in train_scannet.py: idle threads soon sleep
export GOMP_SPINCOUNT ?= 10000
INSTALLED := .venv/installed
COCO_INSTALLED := .venv-coco/installed
COCO_TESTS := $(addprefix tests/,models/test_insert.py models/test_mask_rcnn.py data/test_coco.py scripts/test_train_coco.py)

.PHONY: demo test faults test-gpu-compile test-coco clean

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

test-coco: $(COCO_INSTALLED)
	.venv-coco/bin/python -c "import data.coco" # else its tests would be skipped
	.venv-coco/bin/python -m pytest -rs $(COCO_TESTS)

$(INSTALLED): constraints.txt requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt -c constraints.txt
	touch $@

$(COCO_INSTALLED): scripts/requirements-coco.txt requirements.txt
	$(PYTHON) -m venv .venv-coco
	.venv-coco/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements-coco.txt "pytest>=8"
	touch $@

clean:
	rm -rf .venv .venv-coco .pytest_cache .ruff_cache .hypothesis
