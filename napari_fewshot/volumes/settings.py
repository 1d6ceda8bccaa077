"""How the slices of a stack, or the time points of a movie, help each other."""

from dataclasses import dataclass
from typing import Annotated, Final

from napari_fewshot.errors import SettingsError

AXES: Final = "ZTPQARHE"
"""Letters of axes that slices can follow each other along: depth, time, and what files have beside."""


@dataclass(frozen=True)
class VolumeSettings:
    """What proposals take from the slices around them.

    Raises
    ------
    SettingsError
        If a value makes no sense.
    """

    along: Annotated[str, "Axis along which neighbouring slices share evidence: z or t; empty: each slice alone."] = ""
    first: Annotated[int, "First slice that is proposed for, counted from 0."] = 0
    last: Annotated[int, "Last slice that is proposed for; -1 is the last one there is."] = -1
    min_extent: Annotated[int, "Objects that are on fewer slices in a row than this are left out."] = 1
    fill_gaps: Annotated[int, "An object that is missing on up to this many slices in a row is filled in there."] = 0
    interpolate: Annotated[bool, "Between two painted slices, let the shapes in between count as well."] = False

    def __post_init__(self) -> None:
        along = self.along.upper()
        if along and (len(along) > 1 or along not in AXES):
            raise SettingsError(f"slices cannot follow each other along '{self.along}'; say z, t, or nothing")
        object.__setattr__(self, "along", along)
        if self.first < 0 or self.last < -1:
            raise SettingsError(f"the range of slices is {self.first} to {self.last}; count from 0, -1 is the last one")
        if self.last != -1 and self.last < self.first:
            raise SettingsError(f"the range of slices ends at {self.last}, before it begins at {self.first}")
        if self.min_extent < 1 or self.fill_gaps < 0:
            raise SettingsError(
                f"min_extent is {self.min_extent} and fill_gaps {self.fill_gaps} slices; use at least 1 and 0"
            )

    @property
    def are_used(self) -> bool:
        """Whether slices have anything to do with each other."""
        return bool(self.along)

    def includes(self, place: int) -> bool:
        """Whether a slice is in the range."""
        return self.first <= place and (self.last == -1 or place <= self.last)
