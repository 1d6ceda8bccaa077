"""The buttons of the dock: what is written on them, and the key that each comes with."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """Something a person can ask for; the value is the name of the method that does it, of the controller or dock."""

    PAINT = "paint"
    BOX = "draw_boxes"
    TEACH = "teach"
    NOTHING_HERE = "nothing_here"
    PROPOSE = "propose"
    CANCEL = "cancel"
    ACCEPT = "accept"
    REJECT = "reject"
    NEXT = "next_to_review"
    BACK = "go_back"
    ACCEPT_ABOVE = "accept_above"
    ACCEPT_SELECTED = "accept_selected"
    REJECT_SELECTED = "reject_selected"
    UNCERTAINTY = "show_uncertainty"
    CHANGE = "show_change"
    PROBABILITY = "show_probability"
    PROVENANCE = "show_provenance"
    UNDO = "undo"
    REDO = "redo"
    MERGE = "merge_objects"
    SPLIT = "split_objects"
    DELETE = "delete_objects"
    LINK = "link_objects"
    EXPORT = "export"
    ADD_CLASS = "add_class"
    REMOVE_CLASS = "remove_brush_class"
    NEXT_CLASS = "next_class"
    IMAGES = "show_images"
    CONTAINS = "show_contains"
    CLEAR_KEPT = "clear_features"
    OPEN_SESSION = "ask_for_session"
    VIEW = "change_view"
    KEYS = "change_keys"
    PREVIEW = "preview_clean_up"
    CLEAN = "clean_up_shown"
    CLEAN_ALL = "clean_up_all"
    CHECK = "check_quality"
    ASIDE = "toggle_aside"
    TOUR = "take_tour"


OF_THE_WINDOW: Final = frozenset(
    {Action.ADD_CLASS, Action.IMAGES, Action.CONTAINS, Action.OPEN_SESSION, Action.VIEW, Action.KEYS}
)
"""Actions that the dock carries out itself; of all others the controller knows how, or a companion of it."""
OF_COMPANIONS: Final = frozenset(
    {Action.PREVIEW, Action.CLEAN, Action.CLEAN_ALL, Action.CHECK, Action.ASIDE, Action.TOUR}
)

# Shift and a letter, or a function key: napari itself uses Shift+A, L, P and V, and single letters, digits and Ctrl
# combinations for its own tools and menus. A key binding of a layer would win over one of the viewer, a shortcut of
# the window wins over both.
DEFAULT_KEYS: Final[Mapping[Action, str]] = {
    Action.PAINT: "Shift+B",
    Action.BOX: "Shift+D",
    Action.TEACH: "Shift+T",
    Action.NOTHING_HERE: "Shift+H",
    Action.PROPOSE: "Shift+G",
    Action.CANCEL: "Shift+Q",
    Action.ACCEPT: "Shift+Y",
    Action.REJECT: "Shift+R",
    Action.NEXT: "Shift+N",
    Action.BACK: "Shift+J",
    Action.ACCEPT_ABOVE: "Shift+M",
    Action.ACCEPT_SELECTED: "Shift+S",
    Action.REJECT_SELECTED: "Shift+O",
    Action.UNCERTAINTY: "Shift+F",
    Action.CHANGE: "Shift+X",
    Action.PROBABILITY: "Shift+C",
    Action.PROVENANCE: "Shift+W",
    Action.UNDO: "Shift+U",
    Action.REDO: "Shift+Z",
    Action.MERGE: "F3",
    Action.SPLIT: "Shift+F3",
    Action.DELETE: "Shift+F8",
    Action.LINK: "F12",
    Action.EXPORT: "Shift+E",
    Action.ADD_CLASS: "Shift+K",
    Action.REMOVE_CLASS: "Shift+F6",
    Action.NEXT_CLASS: "F6",
    Action.IMAGES: "F2",
    Action.CONTAINS: "F4",
    Action.CLEAR_KEPT: "Shift+F9",
    Action.OPEN_SESSION: "Shift+I",
    Action.VIEW: "F7",
    Action.KEYS: "F8",
    Action.PREVIEW: "F5",
    Action.CLEAN: "Shift+F5",
    Action.CLEAN_ALL: "Shift+F2",
    Action.CHECK: "Shift+F7",
    Action.ASIDE: "Shift+F4",
    Action.TOUR: "F1",
}

TITLES: dict[Action, str] = {
    Action.PAINT: "Paint",
    Action.BOX: "Draw boxes",
    Action.TEACH: "Teach this slice",
    Action.NOTHING_HERE: "Nothing here",
    Action.PROPOSE: "Propose",
    Action.CANCEL: "Cancel",
    Action.ACCEPT: "Accept",
    Action.REJECT: "Reject",
    Action.NEXT: "Next to review",
    Action.BACK: "Previous",
    Action.ACCEPT_ABOVE: "Accept all above",
    Action.ACCEPT_SELECTED: "Accept these",
    Action.REJECT_SELECTED: "Reject these",
    Action.UNCERTAINTY: "Uncertainty",
    Action.CHANGE: "Last change",
    Action.PROBABILITY: "Probability of the class",
    Action.PROVENANCE: "Who labelled it",
    Action.UNDO: "Undo",
    Action.REDO: "Redo",
    Action.MERGE: "Merge",
    Action.SPLIT: "Split",
    Action.DELETE: "Delete inside",
    Action.LINK: "Link slices",
    Action.EXPORT: "Export ...",
    Action.ADD_CLASS: "Add class",
    Action.REMOVE_CLASS: "Remove class",
    Action.NEXT_CLASS: "Next class",
    Action.IMAGES: "Images",
    Action.CONTAINS: "Contains ...",
    Action.CLEAR_KEPT: "Clear ...",
    Action.OPEN_SESSION: "Open session ...",
    Action.VIEW: "Advanced",
    Action.KEYS: "Keys ...",
    Action.PREVIEW: "Preview",
    Action.CLEAN: "Tidy this",
    Action.CLEAN_ALL: "Tidy all",
    Action.CHECK: "Check quality",
    Action.ASIDE: "Set this one aside",
    Action.TOUR: "Tour",
}

HINTS: dict[Action, str] = {
    Action.PAINT: "Take the brush of the selected class, for the labels of this slice or to correct its proposal.",
    Action.BOX: "Draw a box around each thing of the selected class instead of painting it: quicker, and nearly as "
    "good. Draw one around every thing on the slice, or say below that the rest is unknown.",
    Action.TEACH: "Learn from what you painted or boxed on this slice.",
    Action.NOTHING_HERE: "Teach that this slice holds none of your classes.",
    Action.PROPOSE: "Propose masks for all slices and images that you have not decided on, the shown one first.",
    Action.CANCEL: "Stop proposing. What is there already stays.",
    Action.ACCEPT: "Take the proposal of this slice, with your corrections, as its labels and as a further example. "
    "Pixels that you painted stay as they are.",
    Action.REJECT: "Throw the proposal of this slice away.",
    Action.NEXT: "Go to the next proposal that waits for a decision, in the order that is chosen above the table.",
    Action.BACK: "Go back to where you were before.",
    Action.ACCEPT_ABOVE: "Accept every open proposal with at least this score. They are not used as examples.",
    Action.ACCEPT_SELECTED: "Accept the proposals of all rows that are selected in the table, in one step. They are "
    "not used as examples.",
    Action.REJECT_SELECTED: "Throw the proposals of all rows that are selected in the table away, in one step.",
    Action.UNCERTAINTY: "Show where the proposal on screen is unsure, or no longer: look there first.",
    Action.CHANGE: "Show what is other than in the proposal before on this slice, or no longer.",
    Action.PROBABILITY: "Show how probable the selected class is on each pixel of the slice on screen, or no longer.",
    Action.PROVENANCE: "Show who says what each pixel of the slice on screen is: you, the model, or both.",
    Action.UNDO: "Take back the last teaching, tag, acceptance or rejection. What you painted stays.",
    Action.REDO: "Do again what you took back last.",
    Action.MERGE: "Put objects together: click one, then the other, or draw a line over all that belong together.",
    Action.SPLIT: "Cut objects in two: draw a line across, from outside to outside.",
    Action.DELETE: "Delete objects: draw a line around them. Those of which more than half lies inside go.",
    Action.LINK: "Give the same object one number on all slices, or times, of this image. Undo takes it back.",
    Action.EXPORT: "Write the label layers to files.",
    Action.ADD_CLASS: "Add one more class of things to look for, and take its brush.",
    Action.REMOVE_CLASS: "Remove the selected class, if it is painted nowhere.",
    Action.IMAGES: "Tick the images that are to be labelled.",
    Action.CONTAINS: "Say which classes are somewhere on this slice, without painting them. Some methods (fsil) learn "
    "from it, as soon as you have painted an example on another slice.",
    Action.CLEAR_KEPT: "Remove what is kept of images in memory and on the disk. Your labels stay.",
    Action.NEXT_CLASS: "Take the brush of the next class in the list; after the last comes background.",
    Action.OPEN_SESSION: "Go on with what was saved: its images, labels, examples, proposals and decisions come back.",
    Action.VIEW: "Show everything that there is, or only what is needed every day. Keys work either way.",
    Action.KEYS: "Change the keys that are printed on the buttons.",
    Action.PREVIEW: "Show what tidying would change on the slice on screen, or no longer: green comes, magenta goes.",
    Action.CLEAN: "Tidy the proposal of the slice on screen in this way. Undo takes it back.",
    Action.CLEAN_ALL: "Tidy all proposals that wait for a decision, in one step. Undo takes it back.",
    Action.CHECK: "Propose each image that you taught from the others and compare, in the background: how good it is, "
    "what one more would bring, and which of them does harm.",
    Action.ASIDE: "Do not learn from what you taught on this slice, or learn from it again. Its labels stay.",
    Action.TOUR: "Two minutes on a sample: what to press, step by step.",
}
