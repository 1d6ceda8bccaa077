"""From a checkpoint of training to the file that a backbone reads."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from napari_fewshot.errors import WeightsError
from napari_fewshot.io.atomic import replacing
from napari_fewshot.models.backbones.mica import MicaNet, fused

_AVERAGED = "module."
"""What names of averaged weights begin with."""


def averaged_net(checkpoint: Path) -> MicaNet:
    """Read the network of a checkpoint: the moving average of its weights.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds no such network.
    """
    try:
        average: Mapping[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
        net = MicaNet()
        net.load_state_dict({k.removeprefix(_AVERAGED): v for k, v in average.items() if k.startswith(_AVERAGED)})
    except Exception as error:
        raise WeightsError(f"{checkpoint} is no checkpoint of a Mica network ({error})") from error
    return net


def tensors_for_use(net: MicaNet) -> dict[str, Tensor]:
    """Return what the backbone reads: batch normalisation fused, half precision, as its features are kept."""
    tensors = {name: tensor.half().contiguous() for name, tensor in fused(net).state_dict().items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise WeightsError("training went astray: weights are not finite; begin anew with a smaller rate")
    return tensors


def write_weights(net: MicaNet, file: Path) -> None:
    """Write the weights of a network for use."""
    with replacing(file, overwrite=True) as stream:
        stream.write(save(tensors_for_use(net)))
