"""The network on the validation scenes now and then: numbers in the log, a table, and pictures for TensorBoard."""

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from data import metrics
from data.datasets import WholeScenes
from data.metrics import class_table, percent
from models.pointnet2 import PointNet2
from training import ranks
from training.board import SceneView, confusion_figure
from training.inference import add_counts, classes_of_tiles, evaluate
from training.run_folder import RunLog
from training.stopping import StopRequest

SCENES_SHOWN = 2  # in 3-D, in TensorBoard: the first of the split


class Validation:
    """Scores networks by pn2-wholescene. All ranks have to call it."""

    def __init__(self, scenes: WholeScenes, device: torch.device, workers: int, history: RunLog):
        self.scenes, self.device, self.workers, self.history = scenes, device, workers, history
        self.views: list[SceneView] = []

    def score(self, model: PointNet2, epoch: int, stop: StopRequest) -> float | None:
        """Voxel accuracy, which is logged, too; -1 if no scene has labels: no epoch is then the best. None if a rank
        has to stop. Epoch 0 is the untrained network, the line that every later one has to beat."""
        ranks.copy_buffers_of_rank_0(model)  # one network, that which is saved
        results = evaluate(model, self.scenes, self.device, workers=self.workers, stop=stop)
        if results is None:
            return None
        counts = add_counts(results)
        scores = metrics.scores(counts, self.scenes.policy.space)
        numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
        self.history.record(epoch, "val", numbers)
        if epoch:
            self.history.show(lambda board: self._show(board, model, epoch, counts))
        if scores["voxel_accuracy"] is None:
            self.history.say("none of the validation vertices is annotated: there is nothing to score")
        accuracy, commonest = scores["voxel_accuracy"], scores["voxel_accuracy_majority"]
        self.history.say(
            f"validation {f'after epoch {epoch}' if epoch else 'before training'}\n{class_table(scores)}\n"
            f"voxel accuracy {percent(accuracy)} %, always the commonest class {percent(commonest)} %"
        )
        return -1.0 if accuracy is None else accuracy

    def _show(self, board: SummaryWriter, model: PointNet2, epoch: int, counts: dict[str, np.ndarray]) -> None:
        board.add_figure("val/confusion", confusion_figure(counts["voxel"], self.scenes.policy.space), epoch)
        if not self.views:
            self.views = [SceneView(self.scenes, number) for number in range(min(len(self.scenes), SCENES_SHOWN))]
        for view in self.views:
            view.add(board, epoch, classes_of_tiles(model, view.scene, self.scenes.policy.space, self.device))
