"""What was taught, proposed and decided, in one object; how it is taken back, and how it lies on the disk."""

from napari_fewshot.session.run import Run
from napari_fewshot.session.session import Session, open_session
from napari_fewshot.session.state import FrameState, OpenProposal

__all__ = ["FrameState", "OpenProposal", "Run", "Session", "open_session"]
