"""PFENet's feature enrichment module by its equations, and in the size of the paper."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_fewshot.models.blocks.enrichment import FeatureEnrichment
from napari_fewshot.models.methods.pfenet_fem import Enrichment, EnrichmentConfig, GuidedEnrichment
from tests.models.toys import noise, pictures, toy_ious


def at_each_cell(layer: nn.Module, x: Tensor) -> Tensor:
    """A 1 x 1 convolution with ReLU, cell by cell: (D, h, w) -> (E, h, w)."""
    convolution = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
    weight, bias = convolution.weight[:, :, 0, 0], convolution.bias
    rows = [[(weight @ x[:, i, j] + bias).relu() for j in range(x.shape[2])] for i in range(x.shape[1])]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def by_the_paper(fem: FeatureEnrichment, query: Tensor, vector: Tensor, prior: Tensor) -> Tensor:
    """Section 3.3, scale by scale, on one query (D, h, w), with one cue (h, w)."""
    finer, scales = None, []
    for i, share in enumerate(fem.bins):
        cells = (round(share * query.shape[1]), round(share * query.shape[2]))
        pooled = F.adaptive_avg_pool2d(query, cells)
        expanded = torch.stack([torch.stack([vector] * cells[1], 1)] * cells[0], 1)
        merged = at_each_cell(fem.enter[i], torch.cat([pooled, expanded, F.adaptive_avg_pool2d(prior[None], cells)]))
        if finer is not None:
            both = torch.cat([merged, F.adaptive_avg_pool2d(finer, cells)])
            merged = merged + at_each_cell(fem.merge[i - 1], both)
        merged = merged + fem.refine[i].second(fem.refine[i].first(merged))
        finer = merged
        scales.append(F.interpolate(merged[None], query.shape[1:], mode="bilinear", align_corners=False)[0])
    joined = at_each_cell(fem.concentrate, torch.cat(scales))
    last = fem.concentrate[-1]
    return joined + last.second(last.first(joined))


def test_it_equals_the_paper_scale_by_scale() -> None:
    fem = FeatureEnrichment(4, 1, (1.0, 0.5, 0.25)).double()
    query, vector, prior = noise(4, 8, 12), noise(4, seed=1), noise(8, 12, seed=2)
    enriched, inner = fem(query[None], vector[None], prior[None, None])
    torch.testing.assert_close(enriched[0], by_the_paper(fem, query, vector, prior))
    assert [tuple(answer.shape) for answer in inner] == [(1, 1, 8, 12), (1, 1, 4, 6), (1, 1, 2, 3)]


def test_a_map_of_vectors_that_are_all_the_same_is_a_vector() -> None:
    fem = FeatureEnrichment(4, 1, (1.0, 0.5)).double()
    query, vector, prior = noise(1, 4, 7, 9), noise(1, 4, seed=1), noise(1, 1, 7, 9, seed=2)
    everywhere = vector[:, :, None, None].expand(-1, -1, 7, 9)
    torch.testing.assert_close(fem(query, everywhere, prior)[0], fem(query, vector, prior)[0])


def test_bins_larger_than_the_map_do_no_harm() -> None:
    fem = FeatureEnrichment(4, 1)
    assert fem(torch.rand(2, 4, 5, 3), torch.rand(2, 4), torch.rand(2, 1, 5, 3))[0].shape == (2, 4, 5, 3)


def test_the_paper_s_size_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        head = Enrichment(EnrichmentConfig.paper())
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 1) == 10.8  # table 1


def test_untrained_it_answers_with_the_calibrated_prior() -> None:
    method = GuidedEnrichment(EnrichmentConfig(16, (1,), width=8))
    method.head.eval()
    with torch.inference_mode():
        assert min(toy_ious(method, shots=2)) > 0.95


def test_each_class_is_answered_for_alone() -> None:
    method = GuidedEnrichment(EnrichmentConfig(16, (1,), width=8, corrects=False))
    method.head.double().eval()
    pyramid, labels = pictures(1, 2)
    from tests.models.toys import whole

    with torch.inference_mode():
        both, _ = method.logits(method.fit([whole(pyramid, labels)], (1, 2)).solution, pyramid)
        alone, _ = method.logits(method.fit([whole(pyramid, labels)], (2,)).solution, pyramid)
    torch.testing.assert_close(both[1:], alone, atol=0.2, rtol=0.2)
