"""What is Dataflow's own: its options, and what becomes of a job there.

In: Beam's options, what Beam gives for a job that was sent. Out: errors that say what to do. Knows nothing of
what a job does.
"""

from pipelines.dataflow.jobs import DataflowError, is_job, options_to_ask, page_of, state_of, submission, wait
from pipelines.dataflow.options import check_options, check_reachable, completed

__all__ = [
    "DataflowError",
    "check_options",
    "check_reachable",
    "completed",
    "is_job",
    "options_to_ask",
    "page_of",
    "state_of",
    "submission",
    "wait",
]
