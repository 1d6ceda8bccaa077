"""What can go wrong in a way that a person can mend.

Every message of these errors says what is wrong and what to do about it; the dock and the command line
show it as it is. Anything else that is raised is a defect of this package.
"""


class FewShotError(Exception):
    """Base of every error that a user can act on."""


class ImageError(FewShotError):
    """An image cannot be used: its shape, its data type or its values."""


class MaskError(FewShotError):
    """A painted mask does not fit its image, or holds values that mean nothing."""


class SupportError(FewShotError):
    """There is nothing to learn from: no shot, or no class painted on any of them."""


class SettingsError(FewShotError):
    """A name that was asked for does not exist here: a method, a backbone or a device."""


class WeightsError(FewShotError):
    """Trained weights are missing, damaged, or do not fit their network."""


class ReadError(FewShotError):
    """A file could not be read: it is missing, damaged, or of a kind that is not known here."""


class ExportError(FewShotError):
    """A file could not be written; what was there before is untouched."""
