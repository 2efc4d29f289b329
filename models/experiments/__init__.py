"""Ablations: tables of settings, every line trained for some seeds and judged on the test split once."""

from models.experiments.results import METRICS, RunRecord, append_record, read_records, summarize
from models.experiments.runs import PlannedRun, plan_runs, run_all
from models.experiments.table import AblationTable, load_table, table_names

__all__ = [
    "METRICS",
    "AblationTable",
    "PlannedRun",
    "RunRecord",
    "append_record",
    "load_table",
    "plan_runs",
    "read_records",
    "run_all",
    "summarize",
    "table_names",
]
