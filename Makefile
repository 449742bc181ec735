# make demo   the whole path on generated rooms: scans, preprocessing, training, evaluation; minutes on a laptop
# make test   style check and tests
# make test-oldest   the data's tests with the oldest versions that requirements.txt allows; they need no torch
# make test-oldest-torch   all tests with the oldest torch too, but for torch.compile and torch.export: several GB
# make faults   every fault injection, the long ones too: processes killed, disks full, files damaged
# make test-gpu-compile   the GPU's kernels compiled for every architecture; no GPU needed
# make test-page   a page of predict.py --html opened, clicked and looked at in Debian's Chromium, skipped without it
# make test-coco   the tests of Mask R-CNN on COCO, in an environment of their own, .venv-coco: several GB, minutes
# Each makes .venv and installs the tested versions first. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
INSTALLED := .venv/installed
COCO_INSTALLED := .venv-coco/installed
# The first of these that runs: a name on the path may be pyenv's, with nothing behind it
OLDEST_PYTHON ?= $(shell for p in python3.10 python3.11 python3.12; do $$p -c "" 2>/dev/null && echo $$p && break; done)
OLDEST := $(shell sed -n 's/^\(numpy\|h5py\|plyfile\|tqdm\)>=/\1==/p' requirements.txt)
NO_TORCH := $(addsuffix .py,$(addprefix tests/data/test_,atomic_write augment chunks coloured_ply fuzz labels metrics oddities \
    preprocessing s3dis scannet scenes standing)) tests/data/rooms/test_rooms.py
COCO_TESTS := $(addprefix tests/,models/test_insert.py models/test_mask_rcnn.py data/test_coco.py scripts/coco/test_train_coco.py)

.PHONY: demo test test-oldest test-oldest-torch oldest-python faults test-gpu-compile test-page test-coco clean

demo: $(INSTALLED)
	.venv/bin/python scripts/demo.py

test: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest -rs -m "not slow"
	TRITON_INTERPRET=1 .venv/bin/python -m pytest -rs tests/ops/test_gpu.py # the GPU's kernels, interpreted

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -c "import h5py; print('h5py', h5py.__version__, 'on HDF5', h5py.version.hdf5_version)"
	.venv-oldest/bin/python -m pytest -rs -m "not slow" $(NO_TORCH)

test-oldest-torch: .venv-oldest-torch/installed
	.venv-oldest-torch/bin/python -m pytest -rs -m "not slow" -k "not compile and not exports" \
	    --ignore tests/ops/test_gpu.py --ignore tests/ops/test_gpu_compile.py
	TRITON_INTERPRET=1 .venv-oldest-torch/bin/python -m pytest -rs -k "not compile" tests/ops/test_gpu.py

faults: $(INSTALLED)
	.venv/bin/python -m pytest -rs tests/faults
	.venv/bin/python -m pytest -rs -m slow --ignore tests/faults

test-gpu-compile: $(INSTALLED)
	GPU_ARCHITECTURES="75 80 86 89 90 100 120" .venv/bin/python -m pytest tests/ops/test_gpu_compile.py

test-page: $(INSTALLED)
	.venv/bin/pip install --quiet --disable-pip-version-check selenium
	.venv/bin/python -m pytest -rs tests/data/test_page.py

test-coco: $(COCO_INSTALLED)
	.venv-coco/bin/python -c "import data.coco" # else its tests would be skipped
	.venv-coco/bin/python -m pytest -rs $(COCO_TESTS)

$(INSTALLED): constraints.txt requirements.txt tests/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check torch -c constraints.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt -c constraints.txt
	touch $@

oldest-python:
	@test -n "$(OLDEST_PYTHON)" || { echo "needs one of python3.10, python3.11, python3.12"; exit 1; }

.venv-oldest/installed: requirements.txt | oldest-python
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check $(OLDEST) "pytest>=8" hypothesis
	touch $@

.venv-oldest-torch/installed: requirements.txt | oldest-python
	$(OLDEST_PYTHON) -m venv .venv-oldest-torch
	sed 's/>=/==/' requirements.txt > .venv-oldest-torch/requirements.txt
	.venv-oldest-torch/bin/pip install --quiet --disable-pip-version-check -r .venv-oldest-torch/requirements.txt "pytest>=8" hypothesis \
	    -r scripts/requirements-rooms.txt -r scripts/requirements-formats.txt
	touch $@

$(COCO_INSTALLED): scripts/coco/requirements.txt requirements.txt
	$(PYTHON) -m venv .venv-coco
	.venv-coco/bin/pip install --quiet --disable-pip-version-check -r scripts/coco/requirements.txt "pytest>=8"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-oldest-torch .venv-coco .pytest_cache .ruff_cache .hypothesis
