"""What the machine proposes for one frame."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_fewshot.frames import FrameKey, Instances, Labels, frame_name


@dataclass(frozen=True, eq=False)
class Proposal:
    """Proposed labels of one frame.

    Attributes
    ----------
    key
        The frame.
    labels
        (H, W) int32: 0 background, otherwise one of ``class_ids``.
    class_ids
        The C classes in the order of ``probabilities[1:]``.
    probabilities
        (1 + C, H, W) float32, background first, summing to 1 at every pixel.
    confidence
        (H, W) float32 in [0, 1]: probability of the proposed label.
    score
        In [0, 1]: the expected IoU of this proposal; frames to review first have the lowest.
    note
        Something a person should know about this proposal ("the image is constant"), or "".
    uncleaned
        (H, W) labels before they were tidied, see `CleanUp`; None where they were not.
    instances
        (H, W) int32 which object a pixel belongs to, 0 for none; each object is of one class. None where objects are
        not told apart.
    """

    key: FrameKey
    labels: Labels
    class_ids: tuple[int, ...]
    probabilities: npt.NDArray[np.float32] = field(repr=False)
    confidence: npt.NDArray[np.float32] = field(repr=False)
    score: float
    note: str = ""
    uncleaned: Labels | None = field(default=None, repr=False)
    instances: Instances | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The frame in words."""
        return frame_name(self.key)
