"""The dock in napari: the only folder that may import napari, Qt and magicgui."""
