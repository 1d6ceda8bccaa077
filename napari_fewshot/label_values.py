"""What the values of a label map mean; 1 to `MAX_CLASSES` are classes."""

from typing import Final

BACKGROUND: Final = 0
UNLABELLED: Final = 255
"""Pixels nobody has said anything about."""

MAX_CLASSES: Final = 254
