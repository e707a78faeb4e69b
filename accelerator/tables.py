"""Values out of a table of TOML or JSON; what is wrong with one is told with its place."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accelerator.errors import ConfigError

COUNT_MOST = 2**62


class Table:
    """A table of the file: values by name, with the place for errors."""

    def __init__(self, values: Any, place: str, known: Iterable[str]) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{place or 'the experiment'}: a table is expected")
        self.values, self.place = values, place
        for name in values:
            if name not in set(known):
                raise ConfigError(f"{self.place_of(name)}: unknown; known are {', '.join(sorted(known))}")

    def place_of(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise ConfigError(f"{self.place_of(name)}: missing")
            return default
        return value

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def count(self, name: str, default: int | None = None, *, least: int = 1, most: int = COUNT_MOST) -> int:
        value = self.value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            to = f"to {most:,}" if most < COUNT_MOST else "on"
            raise ConfigError(
                f"{self.place_of(name)}: a whole number from {least} {to} is expected, not {_shown(value)}"
            )
        return value

    def amount(self, name: str, default: float | None = None, *, positive: bool = False) -> float:
        value = self.value(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not value >= 0 or (value == 0 and positive) or sys.float_info.max < value < math.inf:
            wanted = "a number above 0" if positive else "a number from 0 on"
            raise ConfigError(f"{self.place_of(name)}: {wanted} is expected, not {_shown(value)}")
        return float(value)

    def truth(self, name: str) -> bool:
        value = self.value(name, default=False)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.place_of(name)}: true or false is expected, not {_shown(value)}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self.value(name, default)
        if not isinstance(value, str):
            raise ConfigError(f"{self.place_of(name)}: a text is expected, not {_shown(value)}")
        if not value.isprintable():
            raise ConfigError(f"{self.place_of(name)}: a text without control characters is expected")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise ConfigError(f"{self.place_of(name)}: one of {', '.join(choices)} is expected, not {_shown(value)}")
        return value

    def table(self, name: str) -> Any:
        return self.values.get(name, {})

    def tables(self, name: str) -> list[Any]:
        value = self.values.get(name, [])
        if not isinstance(value, list):
            raise ConfigError(f"{self.place_of(name)}: a list of tables is expected ([[{name}]])")
        return value


def _shown(value: Any) -> str:
    """Return a value for a message, cut short; Python refuses to print numbers of thousands of digits."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):
        return f"such a {type(value).__name__}"
