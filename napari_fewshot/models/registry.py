"""What there is to choose from: a card for every method and backbone. Imports no torch.

A method is added with its file in ``methods/`` and one entry here; the contract suite runs over all entries.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class MethodCard:
    """What a user should know of a method before choosing it.

    Attributes
    ----------
    name
        Its name in code, on the command line and in the dock.
    title
        What it is called in full.
    summary
        One sentence: what it is for.
    paper
        Authors, venue and arXiv number; "" for what is no single paper's.
    year
        Of the paper; 0 where there is none.
    cost
        What a frame costs, in words.
    accepts
        Kinds of shot: "dense", "partial", "nothing here".
    home
        ``module:factory`` below ``napari_fewshot.models.methods``; the factory takes the backbone.
    """

    name: str
    title: str
    summary: str
    cost: str
    home: str
    paper: str = ""
    year: int = 0
    accepts: tuple[str, ...] = ("dense", "partial", "nothing here")


@dataclass(frozen=True)
class BackboneCard:
    """What a user should know of a backbone.

    Attributes
    ----------
    name
        Its name in code, on the command line and in the dock.
    summary
        One sentence: what it is good at.
    needs_weights
        Whether weights must be downloaded, or be in the folder that the user names.
    home
        ``module:factory`` below ``napari_fewshot.models.backbones``; the factory takes the name.
    """

    name: str
    summary: str
    needs_weights: bool
    home: str


_METHODS: Final = (
    MethodCard(
        "auto",
        "Best by measurement",
        "The default: what did best over many kinds of images, see docs/benchmarks.md.",
        "about 0.5 s per megapixel on two CPU cores",
        "auto:make",
    ),
    MethodCard(
        "ridge",
        "Ridge classifier on multi-level features",
        "Fast and exact; good at texture and intensity, with a whole mask or a few strokes.",
        "about 0.1 s per megapixel on two CPU cores",
        "ridge:make",
    ),
    MethodCard(
        "panet",
        "Prototype alignment network (without training)",
        "Compares every pixel with the average of what you painted; needs features that know objects.",
        "about 0.1 s per megapixel on two CPU cores",
        "panet:make",
        "Wang et al., ICCV 2019, arXiv 1908.06391",
        2019,
    ),
)

_IMAGENET = "A network trained on photographs (ImageNet); downloaded once, about {} MB."

_BACKBONES: Final = (
    BackboneCard(
        "scale-space",
        "Edges, blobs and texture at ten scales; needs no weights and no download.",
        False,
        "scale_space:make",
    ),
    BackboneCard("resnet18", _IMAGENET.format(45), True, "torchvision_trunks:make"),
    BackboneCard("resnet50", _IMAGENET.format(98), True, "torchvision_trunks:make"),
    BackboneCard("vgg16", _IMAGENET.format(528), True, "torchvision_trunks:make"),
)

AUTO_BACKBONE: Final = "scale-space"
"""What "auto" stands for: the best that needs no download."""


def list_segmenters() -> tuple[MethodCard, ...]:
    """Return the card of every method, the default first."""
    return _METHODS


def list_backbones() -> tuple[BackboneCard, ...]:
    """Return the card of every backbone, the default first."""
    return _BACKBONES
