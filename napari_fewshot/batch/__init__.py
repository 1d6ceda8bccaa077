"""Propagation without a window: from files to files, in pieces that survive a kill, repeatable by a recipe."""
