"""Puts the manifest and the trained weights, which live at the top level, where npe2 and the package look for them.

A wheel gets copies of both inside the package. An editable install, whose package folder is the one in the
repository, gets a link to the manifest; weights are found beside the package.
"""

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "napari_fewshot"


class TopLevelFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Ship ``napari.yaml`` and ``weights/`` inside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Act before a wheel is built; ``version`` is "standard" or "editable"."""
        root = Path(self.root)
        if version == "editable":
            link_manifest(root)
        else:
            for name in ("napari.yaml", "weights"):
                build_data["force_include"][str(root / name)] = f"{PACKAGE}/{name}"


def link_manifest(root: Path) -> None:
    """Make ``napari_fewshot/napari.yaml`` follow the one at the top level; a copy where links are refused."""
    link = root / PACKAGE / "napari.yaml"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(Path("..") / "napari.yaml")
    except OSError:
        shutil.copyfile(root / "napari.yaml", link)
