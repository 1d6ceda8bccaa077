"""Puts trained weights into weights/, and their card into its index; what `make weights` does at the end."""

import argparse
from pathlib import Path

from napari_fewshot.models.weights import shipped_folder
from napari_fewshot.training.export import ship


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="NAME.safetensors, with its card NAME.json beside it")
    file = parser.parse_args().file
    ship(file, shipped_folder())
    print(f"{file.name} is now in {shipped_folder()}")


if __name__ == "__main__":
    main()
