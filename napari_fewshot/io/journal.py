"""What was found so far, in a file that survives a kill: one line of JSON for each finding."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_fewshot.errors import ExportError, SettingsError
from napari_fewshot.io.atomic import make_folder, replacing

Record = dict[str, Any]


class Journal:
    """Findings by key, in memory and, each as soon as it is made, on the disk.

    A line that a kill or a power cut left unfinished is passed over, and its finding made again.

    Parameters
    ----------
    file
        Where; what is there already is read.
    settings
        What the findings depend on; the first line of the file says it.
    fresh
        Whether to forget what is there.

    Raises
    ------
    SettingsError
        If the file was begun with other settings, or is something else.
    ExportError
        If it cannot be written.

    Attributes
    ----------
    records
        Key -> finding.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.file = file
        self.records: dict[str, Record] = {}
        header = json.loads(json.dumps({"settings": dict(settings)}))  # as it reads from the file
        before = [_parsed(line) for line in file.read_bytes().splitlines()] if file.is_file() and not fresh else []
        if not any(before):
            make_folder(file.parent)
            with replacing(file, overwrite=True) as begun:
                begun.write(_line(header))
            return
        self._check(before[0], header["settings"])
        self.records = {record["key"]: record for record in before[1:] if record and "key" in record}

    def add(self, key: str, finding: Mapping[str, Any]) -> Record:
        """Keep a finding, on the disk when this returns.

        Raises
        ------
        ExportError
            If it cannot be written.
        """
        record = {"key": key, **finding}
        try:
            with open(self.file, "r+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - 1))
                cut_short = file.read() != b"\n"
                file.write(b"\n" * cut_short + _line(record))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ExportError(
                f"'{self.file}' was not written: {error.strerror or error}; mend that, and the same command goes on"
            ) from error
        self.records[key] = record
        return record

    def _check(self, first: Record | None, settings: Record) -> None:
        begun = (first or {}).get("settings")
        if not isinstance(begun, dict):
            raise SettingsError(f"'{self.file}' is no journal of this program; choose another folder with --out")
        differing = [name for name in {**begun, **settings} if begun.get(name) != settings.get(name)]
        if differing:
            told = ", ".join(f"{name}: {begun.get(name)}, now {settings.get(name)}" for name in differing)
            raise SettingsError(
                f"'{self.file}' was begun with other settings ({told}); choose another folder with --out, or delete it"
            )


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
