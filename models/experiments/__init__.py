"""Experiments: many runs planned, trained and compared; ablations, and the demo on generated data.

In go tables of settings and a data set, out come a CSV file with a line for every run, and means over seeds.
May import every room of `models`.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.experiments.ablation import Ablation, Comparison
    from models.experiments.results import METRICS, RunRecord, append_record, read_records, summarize
    from models.experiments.runs import PlannedRun, plan_runs, run_all
    from models.experiments.table import AblationTable, check_tables, load_table, table_names
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "METRICS": "results",
            "Ablation": "ablation",
            "AblationTable": "table",
            "Comparison": "ablation",
            "PlannedRun": "runs",
            "RunRecord": "results",
            "append_record": "results",
            "check_tables": "table",
            "load_table": "table",
            "plan_runs": "runs",
            "read_records": "results",
            "run_all": "runs",
            "summarize": "results",
            "table_names": "table",
        },
    )

__all__ = [
    "METRICS",
    "Ablation",
    "AblationTable",
    "Comparison",
    "PlannedRun",
    "RunRecord",
    "append_record",
    "check_tables",
    "load_table",
    "plan_runs",
    "read_records",
    "run_all",
    "summarize",
    "table_names",
]
