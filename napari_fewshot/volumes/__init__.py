"""Slices that share evidence: stacks along z, movies along t."""
