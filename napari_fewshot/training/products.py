"""What comes out of training: how each kind of network begins, and what is written of it for use.

All stages of a recipe have one product: each goes on with the network of the stage before.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor, nn

from napari_fewshot.errors import WeightsError
from napari_fewshot.models.backbones.base import Backbone
from napari_fewshot.models.backbones.mica import MEAN, STD, STRIDES, WIDTHS, MicaNet, fused
from napari_fewshot.models.heads import channels_of, header_of
from napari_fewshot.models.loading import load_backbone, trained_method
from napari_fewshot.models.methods.trained import TrainedMethod


@dataclass(frozen=True)
class Product:
    """A kind of network that recipes make. Every function takes the settings of a stage.

    Attributes
    ----------
    begin
        Makes a fresh network.
    tensors
        From a trained network to what is written: named tensors.
    header
        Texts in the header of the file.
    card
        From the number of parameters as well: the fields "backbone", "architecture" and "input" of the card.
    use
        From the name of the recipe: how to ask for the weights once they are installed, in a few words.
    """

    begin: Callable[[Any], nn.Module]
    tensors: Callable[[Any], dict[str, Tensor]]
    header: Callable[[Any], dict[str, str]]
    card: Callable[[Any, int], dict[str, Any]]
    use: Callable[[Any, str], str]


def in_half_precision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round to half precision, as features are kept.

    Raises
    ------
    WeightsError
        If a number is not finite.
    """
    rounded = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in rounded.values()):
        raise WeightsError("training went astray: weights are not finite; begin anew with a smaller rate")
    return rounded


# ---------------------------------------------------------------------------- the backbone mica
def tensors_for_use(net: MicaNet) -> dict[str, Tensor]:
    """Return what the backbone reads: batch normalisation fused, half precision.

    Raises
    ------
    WeightsError
        If a number is not finite.
    """
    return in_half_precision(fused(net).state_dict())


def _mica_card(_: Any, parameters: int) -> dict[str, Any]:
    return {
        "backbone": "mica",
        "architecture": {
            "network": "MicaNet, batch normalisation fused, half precision",
            "parameters": parameters,
            "levels": {f"stride {s}": f"{width} channels" for s, width in zip(STRIDES, WIDTHS, strict=True)},
        },
        "input": {"channels": 3, "mean": [MEAN] * 3, "std": [STD] * 3},
    }


MICA: Final = Product(
    lambda settings: MicaNet(),
    tensors_for_use,
    lambda settings: {},
    _mica_card,
    lambda settings, name: f"the backbone mica:{name}",
)


# ---------------------------------------------------------------------------- heads of methods
def untrained(settings: Any) -> tuple[TrainedMethod[Any, Any], Backbone]:
    """Make a method with a fresh head, and the backbone whose features it is for; ``settings`` name both."""
    backbone = load_backbone(settings.backbone)
    return trained_method(settings.method).fresh(backbone), backbone


def _head_header(settings: Any) -> dict[str, str]:
    method, backbone = untrained(settings)
    return header_of(method.name, backbone.key, method.config)


def _head_card(settings: Any, parameters: int) -> dict[str, Any]:
    method, backbone = untrained(settings)
    return card_on_features(settings.backbone, backbone, method.name, type(method.head), method.config, parameters)


def card_on_features(
    name: str, backbone: Backbone, method: str, head: type[nn.Module], config: Any, parameters: int
) -> dict[str, Any]:
    """Return what a card says of a network on the features of a backbone.

    Parameters
    ----------
    name, backbone
        What recipes call it, and itself.
    method
        That uses the network.
    head, config, parameters
        What the network is, its sizes (a dataclass), and how many numbers it has.
    """
    return {
        "backbone": name,
        "architecture": {
            "network": f"{head.__name__}, half precision",
            "method": method,
            "parameters": parameters,
            "config": asdict(config),
        },
        "input": {
            "features": backbone.key,
            "levels": {f"stride {s}": f"{channels} channels" for s, channels in channels_of(backbone).items()},
        },
    }


HEAD: Final = Product(
    lambda settings: untrained(settings)[0].head,
    lambda head: in_half_precision(head.state_dict()),
    _head_header,
    _head_card,
    lambda settings, name: f"the method {settings.method} on the backbone {settings.backbone}",
)
