"""Retrieval: a backbone's output is a query, and every known item a candidate for what comes next."""

from models.tasks.retrieval.build import build_model, build_retrieval
from models.tasks.retrieval.evaluator import RetrievalEvaluator, model_scorer
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.objective import RetrievalObjective
from models.tasks.retrieval.task import RetrievalTask

__all__ = [
    "RetrievalEvaluator",
    "RetrievalModel",
    "RetrievalObjective",
    "RetrievalTask",
    "build_model",
    "build_retrieval",
    "model_scorer",
]
