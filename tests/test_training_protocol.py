"""What a training run does at each step and validation, seen from inside a run with a schedule as short."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import train_scannet
from data import metrics
from data.datasets import ChunkBatches, LabelPolicy, TrainingChunks, scene_files
from data.scenes import read_manifest
from training import checkpoint
from training.inference import SceneResult

VALIDATED = (0.9, 0.5, 0.3, 0.4)  # voxel accuracy of the untrained network and after each epoch


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A run of three epochs of one step: its folder, what each step saw, and the scenes of each validation."""
    out, steps, validated = tmp_path_factory.mktemp("protocol") / "run", [], []
    build, loss = train_scannet.pointnet2.build, train_scannet.weighted_cross_entropy_sum

    def observed_build(*args):
        models.append(build(*args))
        return models[0]

    def observed_loss(logits, classes, weight, *rest):
        norms = [m for m in models[0].modules() if isinstance(m, torch.nn.BatchNorm1d)]
        steps.append({"weight": weight, "momenta": {m.momentum for m in norms}, "dropout": torch.initial_seed()})
        return loss(logits, classes, weight, *rest)

    def observe_optimizer(optimizer, args, kwargs):
        steps[-1]["optimizer"] = type(optimizer)
        steps[-1] |= {name: optimizer.param_groups[0][name] for name in ("lr", "betas")}

    def scripted_evaluate(model, scenes, *args, **kwargs):
        counts = metrics.no_counts(21)
        right = round(10 * VALIDATED[len(validated)])
        counts["voxel"][1, 1:3] = right, 10 - right
        validated.append(scenes)
        return [SceneResult("room", 1, 1, counts, None)]

    models = []
    flags = ["--model", "pointnet2", "--grouping", "msg", "--features", "colour", "--other", "ignore", "--seed", "5"]
    flags += ["--epochs", "3", "--batch-size", "2", "--workers", "0", "--validate-every", "1", "--device", "cpu"]
    flags += ["--decay-every", "2", "--chunk-size", "1.2"]  # a decay at every step
    hook = register_optimizer_step_pre_hook(observe_optimizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_scannet.pointnet2, "build", observed_build)
        patch.setattr(train_scannet, "weighted_cross_entropy_sum", observed_loss)
        patch.setattr("training.validation.evaluate", scripted_evaluate)
        try:
            assert train_scannet.main(["--data", str(tiny_data), "--out", str(out), *flags]) == 0
        finally:
            hook.remove()
    return out, steps, validated


def test_learning_rate_and_the_momentum_of_every_batch_norm_decay_by_the_chunks_seen(run):
    assert [step["lr"] for step in run[1]] == pytest.approx([1e-3, 0.7e-3, 0.49e-3])
    assert [step["momenta"] for step in run[1]] == [{0.5}, {0.25}, {0.125}]


def test_the_optimizer_is_adam_with_the_original_betas(run):
    for step in run[1]:
        assert step["optimizer"] is torch.optim.Adam and step["betas"] == (0.9, 0.999)


def test_dropout_is_another_at_every_step(run):
    assert len({step["dropout"] for step in run[1]}) == 3


def test_the_loss_is_weighted_as_the_dataset_says(run, tiny_data):
    scenes = scene_files(tiny_data, read_manifest(tiny_data), ["train"])
    chunks = TrainingChunks(scenes, 5, LabelPolicy(other="ignore"), ["colour"], chunk_size=1.2)
    batches = ChunkBatches(3, 2, 5)
    for epoch, step in enumerate(run[1], start=1):
        batches.set_epoch(epoch)
        (keys,) = batches
        assert torch.equal(step["weight"], torch.stack([chunks[key]["weight"] for key in keys]))


def test_the_network_is_the_one_asked_for(run):
    config = checkpoint.read(run[0] / "checkpoints" / "last.pt")["model_config"]
    assert (config["context"], config["grouping"], config["extra_channels"]) == ("none", "msg", 3)


def test_validation_sees_the_scenes_as_training_does(run):
    assert len(run[2]) == 4
    for scenes in run[2]:
        assert [scene.name for scene in scenes.scenes] == ["room3_00", "room4_00"]
        assert scenes.policy == LabelPolicy(other="ignore") and tuple(scenes.features) == ("colour",)
        assert scenes.chunk_size == 1.2


def test_what_reads_the_weights_knows_the_chunks_and_the_label_policy(run):
    assert checkpoint.read(run[0] / "checkpoints" / "last.pt")["config"]["chunk_size"] == 1.2
    inputs = {"features": ["colour"], "chunk_size": 1.2, "points": 8192, "spacing": 0.0}
    inputs |= {"unannotated": "drop", "other": "ignore"}
    assert checkpoint.read_published(run[0] / "export")["config"] == inputs


def test_best_is_the_trained_network_with_the_highest_voxel_accuracy(run):
    best, last = (checkpoint.read(run[0] / "checkpoints" / name) for name in ("best.pt", "last.pt"))
    assert (best["epoch"], best["best_voxel_accuracy"]) == (1, 0.5)
    assert (last["epoch"], last["best_voxel_accuracy"]) == (3, 0.5)
