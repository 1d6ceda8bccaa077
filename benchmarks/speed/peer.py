"""What is compared with: a random forest on multi-scale features, as in Labkit, ilastik or Trainable Weka."""

import numpy as np
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from napari_fewshot.frames import Image, Labels

_PIXELS_PER_LABEL = 20_000


class Peer:
    """Pixel classifier.

    Parameters
    ----------
    threads
        How many it may use.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._forest = RandomForestClassifier(100, max_depth=12, max_samples=0.5, n_jobs=threads, random_state=0)

    def learn(self, image: Image, labels: Labels) -> None:
        """Fit the forest to some pixels of each label."""
        features, flat, rng = self._features(image), labels.ravel(), np.random.default_rng(0)
        chosen = [rng.permutation(np.flatnonzero(flat == v))[:_PIXELS_PER_LABEL] for v in np.unique(flat)]
        at = np.concatenate(chosen)
        self._forest.fit(features[at], flat[at])

    def propose(self, image: Image) -> Labels:
        """Return the label map of an image."""
        probabilities = self._forest.predict_proba(self._features(image))
        return self._forest.classes_[probabilities.argmax(1)].reshape(image.shape).astype(np.int32)

    def _features(self, image: Image) -> np.ndarray:
        """(H W, C) float32."""
        scaled = image.astype(np.float32) / np.iinfo(image.dtype).max
        # In order: scikit-image has changed the name of the last one, the number of threads.
        features = multiscale_basic_features(scaled, True, True, True, 0.5, 16, None, self._threads)
        return features.reshape(-1, features.shape[-1]).astype(np.float32)
