"""Everything accelerator/ can refuse, in one tree.

AcceleratorError
    UnknownNameError
        UnknownChipError
        UnknownModelError
        UnknownProfileError
    TraceError
    ConfigError
        PrecisionError
        ModelDoesNotFitError
        MissingFigureError
    DataFileError
    KernelMissingError

TraceWarning stands beside it: a trace that can be read, but not all of it is used.
"""

import difflib
from collections.abc import Iterable


class AcceleratorError(ValueError):
    """Root of the tree; its text is a sentence for the person who gave the input."""


class UnknownNameError(AcceleratorError):
    """A name that is neither a slug nor an alias."""

    kind = "name"

    def __init__(self, name: str, known: Iterable[str] = (), reason: str = "") -> None:
        self.name = name
        known = sorted(known)
        by_lower = {slug.lower(): slug for slug in known}
        self.close = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
        if reason:
            hint = f" ({reason})"
        elif self.close:
            hint = f"; did you mean {', '.join(self.close)}?"
        else:
            hint = f"; known are {', '.join(known)}" if known else ""
        super().__init__(f'unknown {self.kind} "{name}"{hint}')


class UnknownChipError(UnknownNameError):
    """No chip of this name in data/chips.csv."""

    kind = "chip"


class UnknownModelError(UnknownNameError):
    """No model of this name in data/models.csv."""

    kind = "model"


class UnknownProfileError(UnknownNameError):
    """No workload profile of this name in data/profiles.csv."""

    kind = "workload profile"


class TraceError(AcceleratorError):
    """A trace that cannot be used, with the place.

    Parameters
    ----------
    path : str
        File, or the name of the upload.
    line : int or None
        1-based; the header is line 1. None if the whole file is meant.
    column : str or None
        Name of the column.
    reason : str
        What is wrong there.
    """

    def __init__(self, path: str, line: int | None, column: str | None, reason: str) -> None:
        self.path, self.line, self.column, self.reason = path, line, column, reason
        place = path if line is None else f"{path}:{line}"
        what = reason if column is None else f"column {column}: {reason}"
        super().__init__(f"{place}: {what}")


class ConfigError(AcceleratorError):
    """A deployment config that the chip and the model do not allow."""


class PrecisionError(ConfigError):
    """The chip does not compute in this precision."""


class ModelDoesNotFitError(ConfigError):
    """Weights and activations leave no room for a KV cache."""


class MissingFigureError(ConfigError):
    """A figure of a chip that the question needs and nobody has published.

    Parameters
    ----------
    chip, quantity : str
        Slug; name of the figure as in ``ChipSpec.figures``: ``memory_byte_s``, ``idle_w``.
    row : str
        What the figure is called in a file.
    """

    def __init__(self, chip: str, quantity: str, row: str = "") -> None:
        self.chip, self.quantity = chip, quantity
        super().__init__(
            f"{chip} has no {quantity}: no figure is published; "
            f'give one as "{chip},{row or quantity},..." in a file (--chips FILE)'
        )


class DataFileError(AcceleratorError):
    """A file of accelerator/data that breaks its own rules."""


class KernelMissingError(AcceleratorError):
    """The compiled kernel is not there."""


class TraceWarning(UserWarning):
    """A trace was read, but part of it is not used."""
