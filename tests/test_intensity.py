"""The intensity scale: percentiles, by counting where that is possible."""

import numpy as np
import pytest

from napari_fewshot.frames import Pixels
from napari_fewshot.imaging.intensity import HIGH, LOW, intensity_scale


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [16, 17, 31, 300])
@pytest.mark.parametrize("spread", [2, 40, 200, None])
def test_counted_percentiles_are_those_of_sorting(kind: type, side: int, spread: int | None) -> None:
    most = np.iinfo(kind).max if spread is None else spread
    image = np.random.default_rng(side).integers(0, most, (side, side), endpoint=True).astype(kind)
    scale = intensity_scale(Pixels(image, "image"), image.size)
    low, high = np.percentile(image.astype(np.float64), (LOW, HIGH))
    if high <= low:
        low, high = image.min(), image.max()
    np.testing.assert_allclose([scale.low[0], scale.high[0]], [low, high], rtol=1e-6)


def test_integers_and_floats_of_the_same_values_have_one_scale() -> None:
    image = np.random.default_rng(0).integers(0, 4000, (64, 80)).astype(np.uint16)
    counted, sorted_out = (intensity_scale(Pixels(i, "image"), i.size) for i in (image, image.astype(np.float32)))
    np.testing.assert_allclose([counted.low, counted.high], [sorted_out.low, sorted_out.high], rtol=1e-6)
