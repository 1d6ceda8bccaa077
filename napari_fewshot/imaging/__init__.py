"""Work on pixels in numpy and scikit-image, independent of any model."""
