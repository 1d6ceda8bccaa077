"""A job beside the main one, of which a line in the dock tells how far it is. No Qt in here."""

from psygnal import Signal

from napari_fewshot.ui.jobs import Failed, Finished, Stage
from napari_fewshot.ui.ports import Job, Runner
from napari_fewshot.ui.reporting import Reporter


class LineJob:
    """Runs one job at a time, and puts its stages into words.

    Parameters
    ----------
    runner
        A thread.
    reporter
        Told what went wrong.
    """

    changed = Signal()
    """There is something new to show."""

    def __init__(self, runner: Runner, reporter: Reporter) -> None:
        self.line = ""
        """How far it is, in words; "" where nothing runs."""
        self._runner, self._reporter = runner, reporter

    @property
    def runs(self) -> bool:
        """Whether it is at work."""
        return bool(self.line)

    def cancel(self) -> None:
        """Stop; what is there stays as it is."""
        self._runner.stop()
        self._end()

    def _begin(self, line: str, job: Job, total: int) -> None:
        """Run a job; one that is at work is given up."""
        self.line = line
        self._runner.start(job, self._receive, total)
        self.changed.emit()

    def _end(self) -> None:
        self.line = ""
        self.changed.emit()

    def _receive(self, item: object) -> None:
        match item:
            case Stage():
                self.line = item.text
            case Failed():
                self.line = ""
                self._reporter.fail(item.error)
            case Finished():
                self.line = ""
            case _:
                self._take(item)
        self.changed.emit()

    def _take(self, item: object) -> None:
        """Take in anything else that the job yields."""
