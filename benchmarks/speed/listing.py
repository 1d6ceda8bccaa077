"""How long it takes to list very many images: ``python benchmarks/speed/listing.py [NUMBER]``, by default 100,000.

What `propagate` and `run` do with the names of images before the first one is opened: find them, name them, look at
size and time of each, and see that nothing is in the way of what will be written. The files are empty; names are given
as a folder, as a pattern, and one by one, as recipes of sessions do. The best of three rounds.
"""

import gc
import sys
import tempfile
import time
from pathlib import Path

from napari_fewshot.batch.recipe import Recipe, ShotFiles, digest_of_names
from napari_fewshot.batch.results import Results
from napari_fewshot.batch.run import find_sources

ROUNDS = 3


def seconds(images: tuple[str, ...], out: Path, number: int) -> float:
    """Time that planning takes before anything is opened or written."""
    gc.collect()
    recipe = Recipe(images, (ShotFiles("image.tif", "mask.tif"),))
    start = time.perf_counter()
    sources = find_sources(recipe)
    digest_of_names(source.name for source in sources)
    results = Results(out, recipe, sources, ())
    left = [source for source in sources if not results.is_done(source)]
    took = time.perf_counter() - start
    if len(left) != number:
        raise SystemExit(f"{len(left)} images were listed, not {number}")
    return took


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder, out = Path(parent, "images"), Path(parent, "labels")
        folder.mkdir()
        files = [folder / f"image_{i:06d}.tif" for i in range(number)]
        for file in files:
            file.touch()
        for how, images in {
            "a folder": (str(folder),),
            "a pattern": (str(folder / "*.tif"),),
            "one by one": tuple(map(str, files)),
        }.items():
            took = min(seconds(images, out, number) for _ in range(ROUNDS))
            print(f"{number} files, {how:10}  {took:6.2f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
