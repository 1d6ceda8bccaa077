"""Any model of timm (PyTorch Image Models, R. Wightman) as a backbone: ``timm:<model>[.<tag>][@<numbers>]``.

Networks that get coarser on their way (ResNet, ConvNeXt, Swin, SAM 2) give a level per stride, by default all up to 16.
Plain transformers (ViT, DINOv2, DINOv3, SAM) see one grid of patches from the first block to the last and give one
level, at their native patch size, in which the features of several blocks are joined; by default of those after
half, three quarters and all of the depth. Numbers after ``@`` choose otherwise: stages or blocks, counted from 1.

Position embeddings are resampled to the grid of the image by timm. What cannot be known from a model's description
(does it take images of this size, where do its cells lie, how large are its features) is found out by
letting a small picture through.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import getmodule, signature
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.errors import SettingsError, WeightsError
from napari_fewshot.models.backbones.base import Level
from napari_fewshot.models.backbones.probing import typical_picture, unit_scale
from napari_fewshot.models.backbones.rgb import three_channels
from napari_fewshot.models.beside_opengl import without_triton
from napari_fewshot.models.registry import TIMM_PREFIX
from napari_fewshot.models.weights import WeightsSource, fingerprint, obtain

_COARSEST: Final = 16
"""Stride of the last level by default: coarser ones cost most of the time and say little about single pixels."""

_AFTER_THE_TRUNK: Final = (
    "attn_pool.", "classifier.", "downsamp_modules.", "fc.", "fc_norm.", "final_layer.", "head.", "head_dist.",
    "incre_modules.", "mask_token", "pre_logits.",
)  # fmt: skip
"""Beginnings of the names of tensors that a checkpoint may have more than the network: they come after all features."""

_LICENCES: Final = {
    "cc-by-nc-4.0": "non-commercial use only",
    "fair-noncommercial-research-license": "non-commercial research only",
    "apple-amlr": "research only",
    "seer-license": "non-commercial research only",
    "dinov3-license": "Meta's own terms, which you accept by using them",
}


class TimmTrunk:
    """A trained network of timm.

    Gray images go in as three equal channels, images of another number of channels as `three_channels` has it.
    Features of every stage or block are divided by one number, so that they have about unit standard deviation.

    Parameters
    ----------
    name
        ``timm:<model>``, see above.
    weights
        Named tensors of the network; by default those of `weights_of`, downloaded where they are not here.

    Raises
    ------
    SettingsError
        If timm is not installed, has no such model, or the model has no features at a fixed stride.
    WeightsError
        If weights are missing or do not fit.
    """

    mixed_precision = True
    linear = False
    halo = 192
    """Enough for convolutions. Averages over all that is seen (squeeze and excitation) make the features of a tile
    differ from those of its image by some percent, up to 15 in MobileNetV3. A transformer looks everywhere, and its
    position embeddings span what it is given: the features of a tile are those of the tile. On a tissue section of
    1024 x 1024 pixels, proposals in 16 or 36 tiles and in one piece have the same label on 93 to 95 % of the pixels,
    and are right equally often (ViT-tiny).
    """

    def __init__(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        asked = _understand(name)
        net = _build(asked)
        strides = [int(stage["reduction"]) for stage in _stages(net, name)]
        self._numbers = asked.numbers or _default_numbers(strides)
        if max(self._numbers) > len(strides):
            raise SettingsError(f"'{asked.model}' has {len(strides)} blocks or stages; '{name}' asks for more")
        self._strides = [strides[number - 1] for number in self._numbers]
        self._norm = _has_final_norm(net) and len(set(strides)) == 1
        tensors = obtain(weights_of(name)) if weights is None else weights
        missing = _load(net, tensors, asked)
        # What lies behind the last feature is not needed: neither its memory nor its weights.
        net.prune_intermediate_layers([n - 1 for n in self._numbers], prune_norm=not self._norm, prune_head=True)
        lacking = sorted(missing & net.state_dict().keys())
        if lacking:
            raise _unfit(asked.model, f"{len(lacking)} tensor(s) missing ({', '.join(lacking[:3])} ...)")
        self._net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._mean = torch.tensor(asked.settings["mean"])[:, None, None]
        self._std = torch.tensor(asked.settings["std"])[:, None, None]
        self._scales = [1.0] * len(self._numbers)
        self._grain = 1
        self._explore(name, max(strides), int(asked.settings["input_size"][-1]))
        self.key = f"{TIMM_PREFIX}{asked.model}@{','.join(map(str, self._numbers))}-{fingerprint(tensors)}-2"

    @property
    def matching_strides(self) -> tuple[int, ...]:
        """Strides of the two coarsest levels."""
        return tuple(level.stride for level in self.levels[-2:])

    def to(self, device: str) -> "TimmTrunk":
        """Move the network, in place."""
        self._net.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def __call__(self, image: Tensor) -> dict[Level, Tensor]:
        """Compute features; see `Backbone`."""
        height, width = image.shape[-2:]
        scaled = [f[0] * scale for f, scale in zip(self._forward(image), self._scales, strict=True)]
        levels: dict[Level, Tensor] = {}
        for level in self.levels:
            parts = [f for f, stride in zip(scaled, self._strides, strict=True) if stride == level.stride]
            cells = (slice(None), slice(height // level.stride), slice(width // level.stride))
            levels[level] = torch.cat(parts)[cells]
        return levels

    def _forward(self, image: Tensor) -> list[Tensor]:
        """Features of every chosen stage (1, C, h, w), of the image padded to what the network takes."""
        x = ((three_channels(image) - self._mean) / self._std)[None]
        below, beside = (-side % self._grain for side in x.shape[-2:])
        if below or beside:
            x = F.pad(x, (0, beside, 0, below), mode="replicate")
        features: list[Tensor] = self._net.forward_intermediates(
            x.contiguous(memory_format=torch.channels_last),
            indices=[n - 1 for n in self._numbers],
            norm=self._norm,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return features

    def _explore(self, name: str, total_stride: int, native_size: int) -> None:
        """Find out sizes, alignments and scales with a picture."""
        coarsest = max(self._strides)
        if any(coarsest % stride for stride in self._strides):
            raise SettingsError(
                f"the strides of '{name}', {self._strides}, do not divide each other; choose other stages"
            )
        reason = ""
        for grain in dict.fromkeys((coarsest, math.lcm(coarsest, total_stride), math.lcm(coarsest, native_size))):
            self._grain = grain
            rows = _odd_multiple(128, grain)
            picture = typical_picture(rows, _odd_multiple(max(192, rows + 1), grain))
            try:
                with torch.inference_mode(), _Watch(self._net) as watch:
                    features = self._forward(picture)
                _check_shapes(features, self._strides, picture)
            except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
                reason = reason or str(error).strip().partition("\n")[0]
                continue
            self._scales = [unit_scale(f[0]) for f in features]
            strides = sorted(set(self._strides))
            self.levels = tuple(Level(s, watch.alignment(picture.shape[-2], s, strides)) for s in strides)
            return
        raise SettingsError(f"'{name}' does not take images of any size ({reason}); choose another model of timm")


def make(name: str) -> TimmTrunk:
    """Make the backbone of this name with the weights found for it."""
    return TimmTrunk(name)


def names() -> tuple[str, ...]:
    """Return the models that there are trained weights for, without tags.

    Raises
    ------
    SettingsError
        If timm is not installed.
    """
    return tuple(_timm().list_models(pretrained=True, include_tags=False))


def weights_of(name: str) -> WeightsSource:
    """Return where timm has the weights of a model, and under which licence.

    Raises
    ------
    SettingsError
        If timm is not installed or has no such model.
    """
    asked = _understand(name)
    settings = asked.settings
    repository = str(settings.get("hf_hub_id") or "")
    address = settings.get("url") or ""
    url = "" if repository or not isinstance(address, str) else address
    licence = str(settings.get("license") or "not stated")
    source = WeightsSource(
        f"{TIMM_PREFIX}{asked.model}", _stems(asked), "", _licence_in_words(licence), url=url, repository=repository
    )
    return WeightsSource(**{**vars(source), "notice": _notice(asked, source)})


# ---------------------------------------------------------------------------- names
@dataclass(frozen=True)
class _Asked:
    """What a name means.

    Attributes
    ----------
    model
        Architecture and tag as timm writes them: ``resnet18.a1_in1k``.
    architecture
        Without the tag.
    default
        Whether the tag is the one that the architecture has by default.
    numbers
        Chosen stages or blocks, counted from 1; empty for the default.
    settings
        timm's description of the weights.
    """

    model: str
    architecture: str
    default: bool
    numbers: tuple[int, ...]
    settings: Mapping[str, Any]


def _understand(name: str) -> _Asked:
    timm = _timm()
    model, at, chosen = name.removeprefix(TIMM_PREFIX).partition("@")
    architecture, _, tag = model.partition(".")
    if architecture not in timm.list_models():
        close = get_close_matches(architecture, timm.list_models(), 4, 0.5)
        hint = f"did you mean {', '.join(TIMM_PREFIX + c for c in close)}?" if close else "see timm.list_models()"
        raise SettingsError(f"timm {timm.__version__} has no model '{architecture}'; {hint}")
    default = timm.get_pretrained_cfg(architecture)
    try:
        settings = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = ", ".join(m.partition(".")[2] for m in timm.list_pretrained(f"{architecture}.*"))
        raise SettingsError(f"timm has no weights '{tag}' for '{architecture}'; there are: {tags}") from error
    full = f"{architecture}.{settings.tag}" if settings.tag else architecture
    is_default = settings.tag == default.tag
    return _Asked(full, architecture, is_default, _numbers(name, chosen) if at else (), settings.to_dict())


def _numbers(name: str, chosen: str) -> tuple[int, ...]:
    parts = [part.strip() for part in chosen.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise SettingsError(f"'{name}' must end in numbers from 1, such as @6,9,12")
    return tuple(sorted({int(part) for part in parts}))


def _default_numbers(strides: Sequence[int]) -> tuple[int, ...]:
    """Stages up to stride 16; blocks of a plain transformer after half, three quarters and all of its depth."""
    if len(set(strides)) == 1:
        return tuple(sorted({-(-len(strides) * quarters // 4) for quarters in (2, 3, 4)}))
    return tuple(n for n, stride in enumerate(strides, 1) if stride <= _COARSEST) or (1,)


def _timm() -> Any:
    try:
        with without_triton():
            import timm
    except ImportError as error:
        raise SettingsError(
            f"backbones '{TIMM_PREFIX}...' need timm, which is not installed: pip install \"napari-fewshot[timm]\""
        ) from error
    return timm


# ---------------------------------------------------------------------------- weights
def _stems(asked: _Asked) -> tuple[str, ...]:
    """Names of files; one without a tag is taken for the default weights of its architecture."""
    return (asked.model, f"{asked.model}-*", *((asked.architecture,) if asked.default else ()))


def _licence_in_words(licence: str) -> str:
    words = _LICENCES.get(licence)
    return "not stated" if licence == "unknown" else licence if words is None else f"{licence} ({words})"


def _notice(asked: _Asked, source: WeightsSource) -> str:
    stated = "states no licence" if source.licence == "not stated" else f"gives their licence as {source.licence}"
    page = source.url or f"https://huggingface.co/{source.repository}"
    origin = f"; read it at {page}" if source.url or source.repository else ""
    tag = asked.model.partition(".")[2]
    imagenet = any(part in tag for part in ("in1k", "in12k", "in21k", "in22k"))
    return f"The weights of {asked.model}: timm {stated}{origin}." + (
        " They were trained on ImageNet, which gives its images for non-commercial research and education only; "
        "whether your use is permitted is yours to judge."
        if imagenet
        else ""
    )


def _load(net: Any, tensors: Mapping[str, Tensor], asked: _Asked) -> set[str]:
    """Load weights and return the names of tensors that got none; anything odd is refused.

    timm's own loader overlooks missing tensors for some models, and would leave random values in their place.
    """
    fitting = dict(tensors)
    if not fitting.keys() >= net.state_dict().keys():  # of another program; timm knows how to translate
        translate = getattr(getmodule(type(net)), "checkpoint_filter_fn", None)
        try:
            fitting = fitting if translate is None else dict(translate(fitting, net))
        except Exception as error:
            raise _unfit(asked.model, f"they cannot be translated ({error})") from error
    own = net.state_dict()
    classifier = asked.settings.get("classifier") or ()
    heads = (*((classifier,) if isinstance(classifier, str) else classifier), *_AFTER_THE_TRUNK)
    for name in [name for name in fitting if name.startswith(heads)]:
        if name not in own or own[name].shape != fitting[name].shape:  # another number of classes
            del fitting[name]
    try:
        missing, unexpected = net.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise _unfit(asked.model, str(error).partition("\n")[2].strip().partition("\n")[0]) from error
    if unexpected:
        raise _unfit(asked.model, f"{len(unexpected)} tensor(s) unknown ({', '.join(unexpected[:3])} ...)")
    return set(missing)


def _unfit(model: str, reason: str) -> WeightsError:
    return WeightsError(f"the weights do not fit '{model}' of timm: {reason}; use the file that timm offers for it")


# ---------------------------------------------------------------------------- networks
def _build(asked: _Asked) -> Any:
    """Build a network that takes images of any size, with what its family offers for that."""
    timm = _timm()
    for any_size in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(asked.model, pretrained=False, **any_size)
        except TypeError:  # no such parameter
            if not any_size:
                raise
    raise AssertionError


def _stages(net: Any, name: str) -> list[Mapping[str, Any]]:
    """timm's description of what a network can give."""
    info = getattr(net, "feature_info", None)
    stages = getattr(info, "info", info)
    if not stages or not hasattr(net, "forward_intermediates") or not hasattr(net, "prune_intermediate_layers"):
        raise SettingsError(f"timm cannot give what is inside of '{name}'; choose another model of timm")
    return list(stages)


def _has_final_norm(net: nn.Module) -> bool:
    """Whether blocks should be read through the final norm, as DINOv2 does it; that of SAM is a convolution."""
    norm = getattr(net, "norm", None)
    wanted = "norm" in signature(getattr(net, "forward_intermediates")).parameters  # noqa: B009
    return wanted and isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity) and not hasattr(net, "neck")


def _check_shapes(features: Sequence[Tensor], strides: Sequence[int], picture: Tensor) -> None:
    for f, stride in zip(features, strides, strict=True):
        expected = tuple(side // stride for side in picture.shape[-2:])
        if f.ndim != 4 or tuple(f.shape[-2:]) != expected:
            raise ValueError(f"features are {tuple(f.shape[1:])} and not on a grid of stride {stride}")


class _Watch:
    """Looks on while a picture goes through a network, to find out by how much every step to a coarser grid shifts.

    A convolution with kernel k, stride s and p pixels of padding in front centres its first cell on (k - 1) / 2 - p:
    0 for the padded ones of a ResNet, (s - 1) / 2 for patches side by side.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._steps: list[tuple[int, float, float]] = []  # rows before, rows before / rows after, shift in rows
        self._hooks: list[Any] = []

    def __enter__(self) -> "_Watch":
        kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
        self._hooks = [m.register_forward_hook(self._note) for m in self._net.modules() if isinstance(m, kinds)]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        rows, after = inputs[0].shape[-2], output.shape[-2]
        stride = _first(module.stride)
        if stride == 1:
            return
        kernel = (_first(module.kernel_size) - 1) * _first(getattr(module, "dilation", 1)) + 1
        padding = module.padding if isinstance(module.padding, int | tuple) else 0
        front = _first(padding) or max(0, (after - 1) * stride + kernel - rows) // 2  # timm pads "same" by itself
        self._steps.append((rows, rows / after, (kernel - 1) / 2 - front))

    def alignment(self, rows: int, stride: int, strides: Sequence[int]) -> Any:
        """Return the alignment that is nearer to where cell 0 of this stride lies on a picture of so many rows."""
        at, origin = 1, 0.0
        while at < stride:
            seen = [(f, shift) for before, f, shift in self._steps if before == rows // at and at * f <= stride]
            if seen:
                factor = round(seen[0][0])
                shift = sum(s for f, s in seen if round(f) == factor) / sum(1 for f, _ in seen if round(f) == factor)
            else:  # cells joined by reshaping, as in Swin
                factor = next(s for s in strides if s > at) // at
                shift = (factor - 1) / 2
            origin += at * shift
            at *= factor
        return "corner" if abs(origin) < abs(origin - (stride - 1) / 2) else "centre"


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _odd_multiple(side: int, grain: int) -> int:
    """The least odd multiple of a grain from a side on: what a network takes of that size, it takes of any multiple."""
    times = -(-side // grain)
    return (times + 1 - times % 2) * grain
