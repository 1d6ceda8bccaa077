"""The part of the dock about stacks and movies."""

import pytest

pytest.importorskip("qtpy")

from napari_fewshot.ui.volume_box import VolumeBox
from napari_fewshot.volumes.settings import VolumeSettings


def test_what_is_chosen_is_told_once_somebody_stops_choosing(qtbot):
    box = VolumeBox()
    qtbot.addWidget(box)
    box.show_volumes(VolumeSettings(), "TZ")
    assert not box.along.isVisibleTo(box)
    told = []
    box.chosen.connect(told.append)
    box.neighbours.setChecked(True)
    box.along.setCurrentIndex(1)
    box.first.setValue(4)
    box.last.setValue(2)
    box.min_extent.setValue(3)
    box.interpolate.setChecked(True)
    qtbot.waitUntil(lambda: bool(told), timeout=5000)
    assert told == [VolumeSettings("Z", first=4, last=4, min_extent=3, interpolate=True)]
    assert box.along.isVisibleTo(box)


def test_where_there_is_no_stack_there_is_nothing_to_choose(qtbot):
    box = VolumeBox()
    qtbot.addWidget(box)
    box.show_volumes(VolumeSettings(), "")
    assert box.isHidden()
    box.show_volumes(VolumeSettings("Z"), "")
    assert not box.isHidden()


def test_settings_are_drawn_without_being_told_again(qtbot):
    box = VolumeBox()
    qtbot.addWidget(box)
    told = []
    box.chosen.connect(told.append)
    wanted = VolumeSettings("T", first=1, last=7, min_extent=2, fill_gaps=1, interpolate=True)
    box.show_volumes(wanted, "Z")
    assert (box.neighbours.isChecked(), box.along.currentData()) == (True, "T")
    assert (box.first.value(), box.last.value(), box.min_extent.value(), box.fill_gaps.value()) == (1, 7, 2, 1)
    qtbot.wait(400)
    assert not told
    box._tell()
    assert told == [wanted]
