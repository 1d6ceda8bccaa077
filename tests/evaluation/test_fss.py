"""FSS-1000 from its folders of classes."""

from pathlib import Path

import numpy as np
import pytest

from napari_fewshot.errors import SettingsError
from napari_fewshot.evaluation.fss import fss_pools, fss_test_classes
from tests.evaluation.made_up import make_fss


def test_the_published_list_has_240_classes_to_its_last_line() -> None:
    classes = fss_test_classes()
    assert len(classes) == len(set(classes)) == 240
    assert (classes[0], classes[4], classes[-1]) == ("bus", "abe's_flyingfish", "tower_pisa")


@pytest.mark.parametrize("inside", ["", "FSS-1000", "fewshot_data/fewshot_data"])
def test_classes_that_are_there_have_their_pairs(tmp_path: Path, inside: str) -> None:
    make_fss(tmp_path / inside, ("bus", "tower_pisa", "abacus"), images=3)  # abacus is for training
    (tmp_path / inside / "bus" / "2.png").unlink()
    (pool,) = fss_pools(tmp_path)
    assert {c: names for c, names in pool.members.items() if names} == {
        1: ("bus/1", "bus/3"),
        240: ("tower_pisa/1", "tower_pisa/2", "tower_pisa/3"),
    }
    assert pool.fold is None and pool.about == "FSS-1000, 2 of the 240 published test classes"
    labels = pool.labels("bus/1", (240, 1))
    assert (labels == 2).sum() == 18 * 24 and set(np.unique(labels)) == {0, 2}
    assert not pool.labels("bus/1", (240,)).any()
    assert pool.image("bus/1").shape == (40, 56, 3)


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a folder"):
        fss_pools(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"FSS-1000 was not found: none of .*fewshot_data"):
        fss_pools(tmp_path)
