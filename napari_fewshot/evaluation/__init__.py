"""How good a segmenter is: on what a person painted, on data sets in folders, and on the benchmarks of papers."""

from napari_fewshot.evaluation.left_out import LeftOut, leave_one_shot_out
from napari_fewshot.evaluation.shot_quality import ShotQuality, SupportQuality, judge
from napari_fewshot.evaluation.trials import Outcome, Trial, plan, try_out

__all__ = [
    "LeftOut",
    "Outcome",
    "ShotQuality",
    "SupportQuality",
    "Trial",
    "judge",
    "leave_one_shot_out",
    "plan",
    "try_out",
]
