"""Ranking: a backbone's output at an item says how likely each action with it is.

told       labels of batches
model      embedding, backbone and head; logits of every item of a sequence
heads      dot, mlp, ffn, mmoe, ple
objective  binary cross-entropies, squared errors
passes     which rows are predicted in one pass over a history
evaluator  predictions of the rows of a split, and their metrics
build      from settings and a data set to the task
"""

from models.tasks.ranking.build import build_ranking
from models.tasks.ranking.evaluator import RankingEvaluator
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.objective import RankingObjective
from models.tasks.ranking.task import RankingTask

__all__ = ["RankingEvaluator", "RankingModel", "RankingObjective", "RankingTask", "build_ranking"]
