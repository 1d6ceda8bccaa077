"""From classes to objects: what touches is told apart, with ids that stay from frame to frame."""
