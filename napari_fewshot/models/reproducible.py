"""What labels depend on beside images and shots: weights, chance, the number of threads."""

from dataclasses import dataclass

import numpy as np
import torch

from napari_fewshot.models.feature_segmenter import FeatureSegmenter
from napari_fewshot.segmenter import FewShotSegmenter


@dataclass(frozen=True)
class Identity:
    """What a segmenter computes with; two that are equal give the same labels on the same kind of device.

    Attributes
    ----------
    features
        The backbone, with a hash of its weights.
    head
        The trained head of the method, with a hash of its weights; "" without one.
    device
        "cpu", "cuda", "cuda:1", ...
    objects
        The embedding that objects may be told apart in, with a hash of its weights; "" without one.
    """

    features: str
    head: str
    device: str
    objects: str = ""


def identity_of(segmenter: FewShotSegmenter) -> Identity:
    """Tell what a segmenter computes with; of one that is not of this package, no more than its name is known."""
    embedding = getattr(segmenter, "embedding", None)
    objects = "" if embedding is None else str(embedding.key)
    segmenter = getattr(segmenter, "classes", segmenter)  # of one that tells objects apart: both parts share it
    if not isinstance(segmenter, FeatureSegmenter):
        return Identity(segmenter.name, "", "cpu", objects)
    extractor = segmenter.extractor
    head = str(getattr(segmenter.method, "key", ""))
    return Identity(extractor.backbone.key, head, str(extractor.device), objects)


def fix_chance(seed: int, threads: int) -> int:
    """Begin all random numbers anew, and compute on so many threads of the CPU.

    Parameters
    ----------
    seed
        0 or more.
    threads
        0: as many as torch chooses, mostly one for each core.

    Returns
    -------
    int
        Threads that are used.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for whoever draws from the global one
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
