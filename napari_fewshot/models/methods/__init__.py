"""One file per system, named after it."""
