"""Laws of scaling: formulas fitted to points, how far they can be trusted, and what follows from them.

In: `Points`, a table of what runs had seen, spent and reached, from anywhere. Out: fitted laws with
intervals, their goodness on points that they were not fitted to, compute-optimal sizes, the best shape for a
budget.
Pure functions of tables; imports `behavior` only.

    Points              the table
    PowerForm           L = E + sum A_k x_k^-a_k in parameters, tokens, compute; or rising to a ceiling
    PerformanceForm     the Performance Law: blocks, width, effective data
    PlainForm           a power law without a floor, to compare with
    fit_law             a law with its uncertainty: FittedLaw
    held_out, halves, largest, leave_sizes_out, compare   in-sample and held-out goodness
    Frontier, TrainingCost   the best parameters and tokens for a budget
    best_shape          the best blocks and width for a budget; shapes_of: candidates that were not trained
    study_laws          all of these for each backbone and data set of a table
    with_data_quality, compare_data   does effective data explain more than tokens do?
    ExtrapolationError  what is raised outside of the cloud of points
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.scaling.laws.budget import Choice, best_shape
    from models.scaling.laws.cloud import Cloud, ExtrapolationError
    from models.scaling.laws.effective import compare_data, with_data_quality
    from models.scaling.laws.fitted import FittedLaw, Interval, Prediction, fit_law, required
    from models.scaling.laws.frontier import Frontier, Optimum, TrainingCost
    from models.scaling.laws.goodness import (
        Compared,
        Goodness,
        HeldOut,
        compare,
        halves,
        held_out,
        largest,
        leave_sizes_out,
    )
    from models.scaling.laws.performance import PerformanceForm, PerformanceLaw
    from models.scaling.laws.plain import PlainForm, PlainLaw
    from models.scaling.laws.points import Points
    from models.scaling.laws.power import PowerForm
    from models.scaling.laws.power_law import PowerLaw, Term
    from models.scaling.laws.repeated import effective_of_repeated
    from models.scaling.laws.shapes import shapes_of
    from models.scaling.laws.study import LawStudy, study_laws
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Choice": "budget",
            "Cloud": "cloud",
            "Compared": "goodness",
            "ExtrapolationError": "cloud",
            "FittedLaw": "fitted",
            "Frontier": "frontier",
            "Goodness": "goodness",
            "HeldOut": "goodness",
            "Interval": "fitted",
            "LawStudy": "study",
            "Optimum": "frontier",
            "PerformanceForm": "performance",
            "PerformanceLaw": "performance",
            "PlainForm": "plain",
            "PlainLaw": "plain",
            "Points": "points",
            "PowerForm": "power",
            "PowerLaw": "power_law",
            "Prediction": "fitted",
            "Term": "power_law",
            "TrainingCost": "frontier",
            "best_shape": "budget",
            "compare": "goodness",
            "compare_data": "effective",
            "effective_of_repeated": "repeated",
            "fit_law": "fitted",
            "halves": "goodness",
            "held_out": "goodness",
            "largest": "goodness",
            "leave_sizes_out": "goodness",
            "required": "fitted",
            "shapes_of": "shapes",
            "study_laws": "study",
            "with_data_quality": "effective",
        },
    )

__all__ = [
    "Choice",
    "Cloud",
    "Compared",
    "ExtrapolationError",
    "FittedLaw",
    "Frontier",
    "Goodness",
    "HeldOut",
    "Interval",
    "LawStudy",
    "Optimum",
    "PerformanceForm",
    "PerformanceLaw",
    "PlainForm",
    "PlainLaw",
    "Points",
    "PowerForm",
    "PowerLaw",
    "Prediction",
    "Term",
    "TrainingCost",
    "best_shape",
    "compare",
    "compare_data",
    "effective_of_repeated",
    "fit_law",
    "halves",
    "held_out",
    "largest",
    "leave_sizes_out",
    "required",
    "shapes_of",
    "study_laws",
    "with_data_quality",
]
