"""Which pictures are drawn how often."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_fewshot.errors import SettingsError
from napari_fewshot.training.made import draw_world
from napari_fewshot.training.pictures import Picture, PictureSet, bundled_pictures, read_sets


@dataclass(frozen=True)
class Sources:
    """Sets of pictures with the share of draws that each gets; shares sum to 1."""

    sets: tuple[PictureSet, ...]
    shares: tuple[float, ...]

    def draw_set(self, rng: np.random.Generator) -> PictureSet:
        """Draw a set by its share."""
        return self.sets[rng.choice(len(self.sets), p=self.shares)]

    def draw(self, rng: np.random.Generator) -> Picture:
        """Draw a picture: a set by its share, then any picture of it."""
        pictures = self.draw_set(rng).pictures
        return pictures[rng.integers(len(pictures))]

    def labelled(self) -> "Sources":
        """Keep what has labels.

        Raises
        ------
        SettingsError
            If nothing has.
        """
        kept = [(s, share) for s, share in zip(self.sets, self.shares, strict=True) if s.class_ids and share]
        if not kept:
            raise SettingsError("no picture to train on has labels; add a set with labels/, or made pictures")
        total = sum(share for _, share in kept)
        return Sources(tuple(s for s, _ in kept), tuple(share / total for _, share in kept))


def gather(folder: Path | None, real: float, bundled: float, worlds: int, views: int, seed: int) -> Sources:
    """Gather real sets from a folder, scikit-image's images, and made worlds.

    Parameters
    ----------
    folder
        See `read_sets`; None for no real sets, whose share the made pictures get.
    real, bundled
        Shares of draws of the real sets, all alike, and of scikit-image's images; made pictures get the rest.
    worlds, views
        How many made worlds, and pictures of each.
    seed
        Of the made pictures.
    """
    sets = () if folder is None else read_sets(folder)
    made = tuple(_world(seed, number, views) for number in range(worlds))
    real = real if sets else 0.0
    rest = 1 - real - bundled
    shares = [real / max(1, len(sets))] * len(sets) + [bundled] + [rest / max(1, worlds)] * worlds
    total = sum(shares)
    photographs = bundled_pictures() if bundled else PictureSet("scikit-image", ())
    return Sources((*sets, photographs, *made), tuple(share / total for share in shares))


def _world(seed: int, number: int, views: int, size: int = 256) -> PictureSet:
    rng = np.random.default_rng((seed, number))
    world = draw_world(rng)
    return PictureSet(f"made {number}", tuple(world.picture(rng, size) for _ in range(views)))
