"""What a person should know about how things go: each told once, and kept until it was read."""


class Notices:
    """Collects notices; those that differ only in the image that they speak of become one."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._names: dict[str, set[str]] = {}
        self._read: set[str] = set()

    def add(self, text: str, image: str = "") -> None:
        """Take in a notice.

        Parameters
        ----------
        text
            What is to be told; "" is nothing.
        image
            Name of the image that it came with; it counts where the text speaks of it.
        """
        if not text:
            return
        if f"'{image}'" not in text:
            image = ""
        kind = text.replace(f"'{image}'", "''") if image else text
        if kind not in self._read:
            self._lines.setdefault(kind, text[:1].upper() + text[1:])
            self._names.setdefault(kind, set()).add(image)

    def lines(self) -> tuple[str, ...]:
        """What is to be shown."""
        return tuple(
            line if len(self._names[kind]) == 1 else f"{line} (and {len(self._names[kind]) - 1} more like it)"
            for kind, line in self._lines.items()
        )

    def dismiss(self) -> None:
        """They were read; none of them comes again."""
        self._read.update(self._lines)
        self._lines.clear()
        self._names.clear()
