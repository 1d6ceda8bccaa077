"""The buttons of the dock: what is written on them, and the key that presses each."""

from enum import StrEnum


class Action(StrEnum):
    """Something a person can ask for; the value is the name of the controller's method."""

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
    UNDO = "undo"
    EXPORT = "export"


# Shift and a letter: napari itself uses Shift+A, L, P and V, and single letters, digits and Ctrl combinations
# for its own tools and menus. A key binding of a layer would win over one of the viewer, a shortcut of the
# window wins over both.
KEYS: dict[Action, str] = {
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
    Action.UNDO: "Shift+U",
    Action.EXPORT: "Shift+E",
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
    Action.UNDO: "Undo",
    Action.EXPORT: "Export ...",
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
    Action.UNDO: "Take back the last teaching, tag, acceptance or rejection. What you painted stays.",
    Action.EXPORT: "Write the label layers to TIFF files.",
}


def with_key(action: Action, title: str | None = None) -> str:
    """Write an action with its key, for buttons and sentences.

    >>> with_key(Action.TEACH)
    'Teach this slice (Shift+T)'
    """
    return f"{(title or TITLES[action]).removesuffix(' ...')} ({KEYS[action]})"
