"""How good a segmenter is: on what a person painted, on data sets in folders, and on the benchmarks of papers."""

from napari_fewshot.evaluation.left_out import LeftOut, leave_one_shot_out

__all__ = ["LeftOut", "leave_one_shot_out"]
