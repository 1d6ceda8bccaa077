"""Units of length and time under all the names that programs give them, and letters for axes."""

from collections.abc import Sequence
from typing import Final

METRES: Final = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "Å": 1e-10, "pm": 1e-12, "in": 0.0254}
SECONDS: Final = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}
_UNIT_NAMES: Final = {
    "metre": "m", "meter": "m", "centimetre": "cm", "centimeter": "cm", "millimetre": "mm", "millimeter": "mm",
    "micrometre": "µm", "micrometer": "µm", "micron": "µm", "microns": "µm", "um": "µm", "μm": "µm",
    "nanometre": "nm", "nanometer": "nm", "angstrom": "Å", "ångström": "Å", "picometre": "pm", "picometer": "pm",
    "inch": "in", "hour": "h", "minute": "min", "second": "s", "sec": "s", "millisecond": "ms", "microsecond": "µs",
    "us": "µs", "μs": "µs", "px": "pixel", "pixels": "pixel", "": "pixel", "dimensionless": "pixel",
}  # fmt: skip
_AXIS_NAMES: Final = {
    "t": "T", "time": "T", "frame": "T", "z": "Z", "depth": "Z", "slice": "Z", "plane": "Z",
    "c": "C", "ch": "C", "channel": "C", "y": "Y", "x": "X",
}  # fmt: skip


def unit_symbol(name: object) -> str:
    """Say a unit in one way: 'micrometer', 'um' and a pint unit all become 'µm'."""
    word = str(name).strip()
    return _UNIT_NAMES.get(word, _UNIT_NAMES.get(word.lower(), word))


def axis_letter(label: object) -> str:
    """Give the letter of an axis that is called so: T, Z, C, Y or X; "" for any other name."""
    return _AXIS_NAMES.get(str(label).strip().lower(), "")


def axes_letters(axis_labels: Sequence[str] | None, ndim: int) -> str | None:
    """Turn axis labels into the letters T Z C Y X; None, which is the default order, where they say something else.

    >>> axes_letters(("time", "y", "x"), 3), axes_letters(("-3", "-2", "-1"), 3)
    ('TYX', None)
    """
    letters = [axis_letter(label) for label in axis_labels or ()]
    axes = "".join(letters)
    usable = len(letters) == len(axes) == len(set(axes)) == ndim and axes.endswith("YX")
    return axes if usable else None
