"""What there is to choose from: a card for every method and backbone. Imports no torch.

A method is added with its file in ``methods/`` and one entry here; the contract suite runs over all entries.
"""

from dataclasses import dataclass
from typing import Final

from napari_fewshot.errors import SettingsError

_SHOTS: Final = ("dense", "partial", "boxes", "nothing here")


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
        Kinds of shot: "dense", "partial" (strokes), "boxes", "nothing here"; and "tags", images that are only known to
        show a class, which methods that do not say so leave aside.
    home
        ``module:factory`` below ``napari_fewshot.models.methods``; the factory takes the backbone.
    seconds
        The same cost as a number, for estimates: per megapixel, on two CPU cores, features not included.
    levels
        Which features it works on, in words.
    trained
        What was trained for it beside the backbone, and what of the paper is missing for want of training, in words.
    head
        ``module:class`` of the `TrainedMethod` with that head, below ``napari_fewshot.models.methods``; "" for none.
    needs_head
        Whether the method is nothing without that head, so that it works only on backbones that one was trained for.
    """

    name: str
    title: str
    summary: str
    cost: str
    home: str
    paper: str = ""
    year: int = 0
    accepts: tuple[str, ...] = _SHOTS
    seconds: float = 0.1
    levels: str = "all levels of the backbone"
    trained: str = "nothing"
    head: str = ""
    needs_head: bool = False

    @property
    def inside(self) -> str:
        """What it works on and what of it was trained, in two short sentences for users."""
        return f"Features: {self.levels}. Trained for it: {self.trained}."


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
        ``module:factory`` below ``napari_fewshot.models.backbones``; the factory takes the name. Where weights are
        needed, the module has a function ``weights_of`` as well, from the name to the `WeightsSource`.
    licence
        Of the weights, in a few words; "" where none are needed.
    notice
        What a person should know of that licence before the first use; "" where none are needed, or where only the
        library that offers them can tell: ask `licence_notice`.
    seconds
        What its features cost, for estimates: per megapixel, on two CPU cores.
    feature_bytes
        Size of its features, for estimates: per pixel.
    per_channel
        Whether both grow with the number of channels.
    """

    name: str
    summary: str
    needs_weights: bool
    home: str
    licence: str = ""
    notice: str = ""
    seconds: float = 0.5
    feature_bytes: float = 40.0
    per_channel: bool = False


_MATCHING: Final = "those that the backbone recommends for comparing"
_FROM_FINEST: Final = f"{_MATCHING}, and coarser ones"

_METHODS: Final = (
    MethodCard(
        "auto",
        "Best by measurement",
        "The default: what did best over many kinds of images, see docs/benchmarks.md.",
        "about 0.1 s per megapixel on two CPU cores",
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
        "logistic",
        "Logistic regression on multi-level features",
        "Fast; steadier than ridge where little is painted, with a whole mask or a few strokes.",
        "about 0.1 s per megapixel on two CPU cores",
        "logistic:make",
    ),
    MethodCard(
        "panet",
        "Prototype alignment network (without training)",
        "Compares every pixel with the average of what you painted; needs features that know objects.",
        "about 0.1 s per megapixel on two CPU cores",
        "panet:make",
        "Wang et al., ICCV 2019, arXiv 1908.06391",
        2019,
        levels=_MATCHING,
        trained="nothing; the paper trains the backbone with an alignment loss",
    ),
    MethodCard(
        "panet-par",
        "Prototype alignment network, trained",
        "panet on features that were trained to be compared: what it finds has to find your shots again.",
        "about 0.2 s per megapixel on two CPU cores",
        "panet_par:make",
        "Wang et al., ICCV 2019, arXiv 1908.06391",
        2019,
        seconds=0.2,
        levels=_MATCHING,
        trained="an embedding of each feature, by the paper's losses, on mica; 'panet' is the method without it",
        head="panet_par:AlignedPANet",
        needs_head=True,
    ),
    MethodCard(
        "pl",
        "Prototype learning",
        "Learnt averages, weighed by how well an image goes with each; for several classes at once.",
        "about 0.4 s per megapixel and class on two CPU cores",
        "pl:make",
        "Dong & Xing, BMVC 2018",
        2018,
        seconds=0.4,
        levels=_FROM_FINEST,
        trained="prototype learner and segmenter, on mica; elsewhere plain averages and their cosine",
        head="pl:PrototypeLearning",
    ),
    MethodCard(
        "fsil",
        "Image-level labels beside the shots (without training)",
        "panet that learns as well from images you tagged as containing a class; for few shots and many images.",
        "about 0.1 s per megapixel on two CPU cores",
        "fsil:make",
        "Lei et al., 2020, arXiv 2007.01496",
        2020,
        accepts=(*_SHOTS, "tags"),
        levels=_MATCHING,
        trained="nothing; the paper trains the backbone with an alignment loss",
    ),
    MethodCard(
        "knn",
        "Nearest painted pixels",
        "Compares every pixel with pixels that you painted, none averaged away; the plain baseline of all comparing.",
        "about 0.6 s per megapixel on two CPU cores",
        "knn:make",
        seconds=0.6,
        levels=_MATCHING,
    ),
    MethodCard(
        "oslsm",
        "Classifier written by a second network",
        "Each shot gets a classifier of its own, and what any of them finds is proposed; for things of several looks.",
        "about 0.4 s per megapixel on two CPU cores",
        "oslsm:make",
        "Shaban et al., BMVC 2017, arXiv 1709.03410",
        2017,
        seconds=0.4,
        levels=_FROM_FINEST,
        trained="both branches on features that stay as they are, on mica; there is nothing without it",
        head="oslsm:OSLSM",
        needs_head=True,
    ),
    MethodCard(
        "sgone",
        "Similarity guidance",
        "One average of what you painted per class, cut where it fits your mask best; for things of one look.",
        "about 0.5 s per megapixel and class on two CPU cores",
        "sgone_branch:make",
        "Zhang et al., IEEE Transactions on Cybernetics 2020, arXiv 1810.09091",
        2020,
        seconds=0.5,
        levels=_FROM_FINEST,
        trained="the segmentation branch that the map guides, on mica; elsewhere the map proposes alone",
        head="sgone_branch:GuidedBranch",
    ),
    MethodCard(
        "canet",
        "Dense comparison with iterative refinement",
        "Compares every pixel with the average of each shot, then improves its own answer; for whole, compact things.",
        "about 0.7 s per megapixel on two CPU cores",
        "canet:make",
        "Zhang et al., CVPR 2019, arXiv 1903.02351",
        2019,
        seconds=0.7,
        levels=_FROM_FINEST,
        trained="all of the paper's head, on mica; there is nothing without it",
        head="canet:CANet",
        needs_head=True,
    ),
    MethodCard(
        "fss1000",
        "Relation network of FSS-1000",
        "Sees your shots and the image at several scales side by side, and relates them; for whole things of one look.",
        "about 0.7 s per megapixel on two CPU cores",
        "fss1000:make",
        "Li et al., CVPR 2020, arXiv 1907.12347",
        2020,
        seconds=0.7,
        levels="the finest that the backbone recommends for comparing, and all coarser ones",
        trained="encoder, relation and decoder, on features of mica that stay; there is nothing without them",
        head="fss1000:FSS1000",
        needs_head=True,
    ),
    MethodCard(
        "pmm",
        "Prototype mixtures",
        "Several prototypes for the parts of things and the kinds of background; for things of more than one look.",
        "about 0.4 s per megapixel and class on two CPU cores",
        "pmm_match:make",
        "Yang et al., ECCV 2020, arXiv 2008.03898",
        2020,
        seconds=0.4,
        levels=_MATCHING,
        trained="P-Match and what follows it, on mica; elsewhere P-Conv proposes alone",
        head="pmm_match:MatchedPMM",
    ),
    MethodCard(
        "rpmm",
        "Stack of prototype mixtures",
        "Prototype mixtures of three degrees of fineness, averaged; steadier than one where you do not know how many.",
        "about 0.9 s per megapixel and class on two CPU cores",
        "pmm_match:make_stack",
        "Yang et al., ECCV 2020, arXiv 2008.03898",
        2020,
        seconds=0.9,
        levels=_MATCHING,
        trained="P-Match and what passes a prediction on, on mica; elsewhere P-Conv proposes alone",
        head="pmm_match:MatchedRPMM",
    ),
    MethodCard(
        "pfenet",
        "Prior guided feature enrichment",
        "Finds all that is like any pixel of the class you painted, then looks at what is around it at several scales.",
        "about 2 s per megapixel on two CPU cores",
        "pfenet_fem:make",
        "Tian et al., TPAMI 2020, arXiv 2008.01449",
        2020,
        seconds=2.0,
        levels=_MATCHING,
        trained="the feature enrichment module, on mica; elsewhere the prior proposes alone",
        head="pfenet_fem:GuidedEnrichment",
    ),
    MethodCard(
        "hsnet",
        "Hypercorrelation squeeze",
        "Looks at how every place goes with every place of each shot; your shots vote. For things with a shape.",
        "about 2 s per megapixel, shot and class on two CPU cores",
        "hsnet:make",
        "Min et al., ICCV 2021, arXiv 2104.01538",
        2021,
        seconds=2.0,
        levels="all that are no finer than those for comparing",
        trained="all 4-D convolutions, on mica; there is nothing without them",
        head="hsnet:HSNet",
        needs_head=True,
    ),
    MethodCard(
        "cyctr",
        "Cycle-consistent transformer",
        "Asks what you painted, thing and ground, place by place, leaving out what confuses; for things of many looks.",
        "about 5 s per megapixel and class on two CPU cores",
        "cyctr:make",
        "Zhang et al., NeurIPS 2021, arXiv 2106.02320",
        2021,
        seconds=5.0,
        levels=_MATCHING,
        trained="the transformer and what is around it, on mica; there is nothing without them",
        head="cyctr:CyCTR",
        needs_head=True,
    ),
    MethodCard(
        "mmnet",
        "Meta-class memory",
        "Says of every place what it is made of, in learnt words, and looks for what your things are made of.",
        "about 3 s per megapixel and class on two CPU cores",
        "mmnet:make",
        "Wu et al., ICCV 2021, arXiv 2108.02958",
        2021,
        seconds=3.0,
        levels=_MATCHING,
        trained="the memory and the module that decides, on mica; there is nothing without them",
        head="mmnet:MMNet",
        needs_head=True,
    ),
    MethodCard(
        "fwb",
        "Feature weighting and boosting",
        "One average per class, on the features that tell it apart, improved step by step on your shots.",
        "about 0.6 s per megapixel and class on two CPU cores",
        "fwb_boosted:make",
        "Nguyen & Todorovic, ICCV 2019, arXiv 1909.13140",
        2019,
        seconds=0.6,
        levels=_FROM_FINEST,
        trained="two convolutions on the similarity map, on mica; elsewhere a logistic curve",
        head="fwb_boosted:BoostedFWB",
    ),
    MethodCard(
        "repri",
        "Region proportion regularised inference",
        "Learns from the image that it proposes for as well; for images that look a little different from your shots.",
        "about 0.1 s per megapixel and 0.2 s per image on two CPU cores",
        "repri:make",
        "Boudiaf et al., CVPR 2021, arXiv 2012.06166",
        2021,
        seconds=0.2,
        levels=_MATCHING,
        trained="nothing; the paper trains the backbone as a plain segmenter of other classes",
    ),
    MethodCard(
        "asgnet",
        "Superpixel prototypes (without their trained decoder)",
        "A prototype for every part of a thing, the more the larger it is; for large things made of parts.",
        "about 0.1 s per megapixel on two CPU cores",
        "asgnet:make",
        "Li et al., CVPR 2021, arXiv 2104.01893",
        2021,
        levels=_MATCHING,
        trained="nothing; the paper's decoder, which allocated prototypes go into, is missing",
    ),
    MethodCard(
        "scl",
        "Self- and cross-guidance (without a trained decoder)",
        "Your shots judge each other, and a careless one is hardly heard; for several shots of mixed quality.",
        "about 0.1 s per megapixel on two CPU cores",
        "scl:make",
        "Zhang et al., CVPR 2021, arXiv 2103.16129",
        2021,
        levels=_MATCHING,
        trained="nothing; the paper's decoders, those of CANet or PFENet, are missing",
    ),
    MethodCard(
        "asr",
        "Semantic reconstruction (without trained groups and decoder)",
        "Filters out of every pixel what is not like the average of the class; an alternative to sgone.",
        "about 0.2 s per megapixel on two CPU cores",
        "asr:make",
        "Liu et al., CVPR 2021, arXiv 2106.00184",
        2021,
        seconds=0.2,
        levels=_MATCHING,
        trained="nothing; groups of channels that know classes and the decoder are missing",
    ),
    MethodCard(
        "cwt",
        "Classifier on frozen features (without its trained transformer)",
        "A linear classifier on the direction of features alone; strong with a few whole masks.",
        "about 0.1 s per megapixel on two CPU cores",
        "cwt:make",
        "Lu et al., ICCV 2021, arXiv 2108.03032",
        2021,
        levels=_MATCHING,
        trained="nothing; the transformer that adapts the classifier to each image is missing",
    ),
    MethodCard(
        "mmformer",
        "Mask matching transformer",
        "Cuts an image into proposals, and compares each with what you painted; for things with clear outlines.",
        "about 4 s per megapixel on two CPU cores",
        "mmformer:make",
        "Jiao et al., NeurIPS 2022, arXiv 2301.01208",
        2022,
        seconds=4.0,
        levels=_FROM_FINEST,
        trained="mask matching, on mica, and what proposes objects (off by default); elsewhere plain averages",
        head="mmformer:MaskMatching",
    ),
)

_IMAGENET_NOTICE: Final = (
    "The weights of {} come from torchvision and were trained on ImageNet. torchvision's code is under BSD-3-Clause, "
    "but it states no licence for the weights and says that terms of the training data may apply to them; ImageNet "
    "gives its images for non-commercial research and education only. Whether your use is permitted is yours to judge."
)
TIMM_PREFIX: Final = "timm:"
"""What the names of backbones of the timm library begin with."""

MICA_PREFIX: Final = "mica:"
"""What the names of backbones with weights of the user's own begin with, see docs/training.md."""


def _torchvision(name: str, megabytes: int, seconds: float, feature_bytes: float) -> BackboneCard:
    return BackboneCard(
        name,
        f"A network trained on photographs (ImageNet); downloaded once, about {megabytes} MB.",
        True,
        "torchvision_trunks:make",
        "not stated; trained on ImageNet",
        _IMAGENET_NOTICE.format(name),
        seconds,
        feature_bytes,
    )


def _mica(name: str, summary: str, needs_weights: bool, licence: str = "") -> BackboneCard:
    return BackboneCard(name, summary, needs_weights, "mica:make", licence, seconds=0.35, feature_bytes=58.5)


_BACKBONES: Final = (
    _mica(
        "mica",
        "A small network trained for this plugin on micrographs, medical and everyday images; needs no download.",
        False,
    ),
    BackboneCard(
        "scale-space",
        "Edges, blobs and texture at ten scales; needs no weights and no download.",
        False,
        "scale_space:make",
        seconds=0.7,
        feature_bytes=39.3,
        per_channel=True,
    ),
    _torchvision("resnet18", 45, 0.4, 46),
    _torchvision("resnet50", 98, 1.0, 88),
    _torchvision("mobilenet_v2", 14, 0.4, 12.75),
    _torchvision("vgg16", 528, 3.0, 244),
)

AUTO_BACKBONE: Final = "mica"
"""What "auto" stands for: the best that needs no download."""


def list_segmenters() -> tuple[MethodCard, ...]:
    """Return the card of every method, the default first."""
    return _METHODS


def list_backbones() -> tuple[BackboneCard, ...]:
    """Return the card of every backbone, the default first."""
    return _BACKBONES


def backbone_card(name: str) -> BackboneCard:
    """Return the card of a backbone by name: "auto", one of `list_backbones`, or one of two families.

    These are ``timm:<model>[@levels]``, any model of timm, and ``mica:<name>``, weights that the user trained.

    Raises
    ------
    SettingsError
        If there is none; whether there is such a model, or such weights, is found out when it is loaded.
    """
    if name.startswith(TIMM_PREFIX):
        return BackboneCard(name, "A network of the timm library.", True, "timm_models:make", "as its authors state it")
    if name.startswith(MICA_PREFIX):
        return _mica(name, "A network that you trained yourself.", True, "your own")
    wanted = AUTO_BACKBONE if name == "auto" else name
    for card in _BACKBONES:
        if card.name == wanted:
            return card
    known = ", ".join(card.name for card in _BACKBONES)
    raise SettingsError(
        f"there is no backbone '{name}'; choose one of: {known}; or {TIMM_PREFIX}<model>, for any model of timm, "
        f"or {MICA_PREFIX}<name>, for weights that you trained"
    )
