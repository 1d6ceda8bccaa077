"""The Advanced form: made from the settings dataclasses, so that a new setting shows up by itself."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from magicgui.widgets import Container, create_widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class Option:
    """One value that a setting can have, and what to say about it."""

    value: str
    title: str
    summary: str = ""
    notice: str = ""
    """What a person should know before choosing it."""


class SettingsForm(Generic[SettingsT]):
    """A widget for every field of a settings dataclass.

    Parameters
    ----------
    defaults
        The dataclass instance to show; its fields are ``Annotated[type, "what it means"]``.
    options
        For the fields that have them: the values to choose from.
    titles
        For the fields whose name would not do: what to write in front of them.
    leave_out
        Fields that are chosen elsewhere; settings in settings are always.
    """

    def __init__(
        self,
        defaults: SettingsT,
        options: Mapping[str, Sequence[Option]] | None = None,
        titles: Mapping[str, str] | None = None,
        leave_out: Collection[str] = (),
    ) -> None:
        self._type = type(defaults)
        self._container: Container[Any] = Container(labels=True)
        self._container.margins = (0, 0, 0, 0)
        hints = get_type_hints(self._type, include_extras=True)
        for field in fields(defaults):  # type: ignore[arg-type]
            kind, meaning = get_args(hints[field.name])[:2]
            if field.name in leave_out or is_dataclass(kind):
                continue
            choices = (options or {}).get(field.name, ())
            title = (titles or {}).get(field.name, field.name.replace("_", " ").capitalize())
            value = getattr(defaults, field.name)
            self._container.append(_widget(field.name, title, kind, meaning, value, choices))
        self.changed = self._container.changed

    @property
    def native(self) -> QWidget:
        """The Qt widget."""
        widget: QWidget = self._container.native
        return widget

    def put_below(self, name: str, widget: QWidget) -> None:
        """Put something more below the widget of a field."""
        rows = self.native.layout()
        assert isinstance(rows, QVBoxLayout)
        rows.insertWidget([known.name for known in self._container].index(name) + 1, widget)

    def __getitem__(self, name: str) -> Any:
        """The magicgui widget of a field."""
        return self._container[name]

    def read(self) -> SettingsT:
        """The settings as they stand; fields that are left out have their defaults."""
        return self._type(**self.values())

    def values(self) -> dict[str, Any]:
        """What stands in the form, by the name of the field."""
        return {widget.name: widget.value for widget in self._container}


def _widget(name: str, label: str, kind: Any, meaning: str, value: Any, choices: Sequence[Option]) -> Any:
    options: dict[str, Any] = {"tooltip": meaning}
    if not choices:
        return create_widget(annotation=kind, value=value, name=name, label=label, options=options)
    options["choices"] = [(option.title, option.value) for option in choices]
    widget = create_widget(annotation=kind, value=value, name=name, label=label, options=options)
    box = widget.native
    if isinstance(box, QComboBox):
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        for row, option in enumerate(choices):
            box.setItemData(row, option.summary, Qt.ItemDataRole.ToolTipRole)
    return widget
