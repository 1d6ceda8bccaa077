"""Made-up features in float64, for tests of methods that compare them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_fewshot.models.backbones.base import FeaturePyramid, Level
from napari_fewshot.models.methods.base import FewShotMethod, SupportFeatures

LEVEL = Level(4)
SIZE = (32, 40)
WIDTH = 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_pyramid(seed: int, size: tuple[int, int] = SIZE) -> FeaturePyramid:
    """Noise on one level of stride 4."""
    return FeaturePyramid({LEVEL: noise(WIDTH, -(-size[0] // 4), -(-size[1] // 4), seed=seed)}, size)


def stripes(*values: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Labels in vertical stripes."""
    labels = torch.zeros(size, dtype=torch.long)
    for i, value in enumerate(values):
        labels[:, size[1] * i // len(values) : size[1] * (i + 1) // len(values)] = value
    return labels


def dots(labels: Tensor, seed: int = 0, kept: float = 0.1) -> Tensor:
    """Keep some of the labels, make the others 255."""
    chosen = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < kept
    return torch.where(chosen, labels, 255)


def whole(pyramid: FeaturePyramid, labels: Tensor, digest: str = "a") -> SupportFeatures:
    return SupportFeatures.whole(pyramid, labels, digest)


def random_shot(seed: int, labels: Tensor) -> SupportFeatures:
    return whole(random_pyramid(seed), labels, f"{seed}")


def in_halves(shot: SupportFeatures) -> SupportFeatures:
    """The same shot in two tiles, one beside the other (of one level of stride 1)."""
    ((pyramid, labels),) = shot.parts()
    ((level, features),) = pyramid.features.items()
    assert level.stride == 1
    height, width = pyramid.size
    tiles = []
    for columns in (slice(0, width // 2), slice(width // 2, width)):
        part = FeaturePyramid({level: features[:, :, columns]}, (height, width // 2), pyramid.statistics)
        tiles.append((part, labels[:, columns]))
    return SupportFeatures(lambda: iter(tiles), shot.is_dense, shot.digest)


def pictures(seed: int, classes: int = 1, background: float = 1.0) -> tuple[FeaturePyramid, Tensor]:
    """Something like photographs: things of two parts each on a ground of three kinds, (48, 64), stride 1.

    Returns
    -------
    pyramid : FeaturePyramid
        Every part and kind has a direction of its own (16 features, noise of 0.1 on each); ``background`` scales the
        length of the features of the ground.
    labels : Tensor
        (48, 64): 0, and 1.. for the things.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(noise(16, 16, seed=99))[0]  # (16, 16) orthonormal rows, the same for all pictures
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    kind = (columns * 3 // 64 + int(torch.randint(3, (1,), generator=generator))) % 3
    labels = torch.zeros(48, 64, dtype=torch.long)
    for thing in range(classes):
        height, width = (int(v) for v in torch.randint(16, 24, (2,), generator=generator))
        top = int(torch.randint(0, 48 - height, (1,), generator=generator))
        left = 64 * thing // classes + int(torch.randint(0, 64 // classes - width, (1,), generator=generator))
        inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        labels[inside] = 1 + thing
        upper = inside & (rows < top + height // 2)
        kind = torch.where(inside, 3 + 2 * thing + upper.long(), kind)
    common = torch.zeros(3 + 2 * classes, 16, dtype=torch.float64)
    common[:3] = directions[-1]
    for thing in range(classes):
        common[3 + 2 * thing : 5 + 2 * thing] = directions[-2 - thing]  # what both parts share
    means = directions[: 3 + 2 * classes] + common
    means[:3] *= background
    features = means[kind].permute(2, 0, 1) + 0.1 * noise(16, 48, 64, seed=seed + 1000)
    return FeaturePyramid({Level(1): features}, (48, 64)), labels


def iou(guess: Tensor, truth: Tensor, value: int = 1) -> float:
    hit = ((guess == value) & (truth == value)).sum()
    return (hit / ((guess == value) | (truth == value)).sum()).item()


def toy_ious(
    method: FewShotMethod, shots: int = 1, classes: int = 1, strokes: bool = False, dtype: torch.dtype = torch.float64
) -> list[float]:
    """IoU of each class on a picture that was not taught."""

    def made(seed: int) -> tuple[FeaturePyramid, Tensor]:
        pyramid, labels = pictures(seed, classes)
        return FeaturePyramid({level: f.to(dtype) for level, f in pyramid.features.items()}, pyramid.size), labels

    support = []
    for seed in range(shots):
        pyramid, labels = made(seed)
        support.append(whole(pyramid, dots(labels, seed) if strokes else labels, f"{seed}"))
    state = method.fit(support, tuple(range(1, classes + 1)))
    query, truth = made(50)
    guess = method.predict(state, query).argmax(0)
    return [iou(guess, truth, value) for value in range(1, classes + 1)]


def permuted(shots: Sequence[SupportFeatures], columns: Tensor) -> list[SupportFeatures]:
    """The same shots with their features in another order."""
    changed = []
    for shot in shots:
        parts = [
            (FeaturePyramid({level: f[columns] for level, f in pyramid.features.items()}, pyramid.size), labels)
            for pyramid, labels in shot.parts()
        ]
        changed.append(SupportFeatures(lambda parts=parts: iter(parts), shot.is_dense, shot.digest))  # type: ignore[misc]
    return changed


def scaled(pyramid: FeaturePyramid, by: float) -> FeaturePyramid:
    return FeaturePyramid({level: by * f for level, f in pyramid.features.items()}, pyramid.size)
