"""Names of the metrics of predictions; read without torch."""

BINARY = ("auc", "gauc", "log_loss", "normalized_entropy", "calibration", "expected_calibration_error")
"""Metrics of a binary label."""
REGRESSION = ("rmse", "mae")
"""Metrics of a label that is a number."""
METRICS = (*BINARY, *REGRESSION)
"""Names of all metrics; a label has those of its kind."""
LOWER_IS_BETTER = frozenset({"log_loss", "normalized_entropy", "expected_calibration_error", *REGRESSION})
