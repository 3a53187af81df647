"""Changed copies of values: what `dataclasses.replace` does, for frozen classes with slots, in half the time.

A device changes its state a dozen times in one step, and its state has thirty fields; copying them was a quarter of what
a step cost.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

ValueT = TypeVar("ValueT")


def replace(value: ValueT, **changes: Any) -> ValueT:
    """A copy of a frozen dataclass with slots (two fields at least, and no `__post_init__`) with these fields changed."""
    cls: Any = type(value)
    read, setters = _fields(cls)
    copy: ValueT = object.__new__(cls)
    for put, content in zip(setters.values(), read(value), strict=True):
        put(copy, content)
    for name, content in changes.items():
        setters[name](copy, content)
    return copy


@functools.cache
def _fields(cls: Any) -> tuple[Callable[[Any], tuple[Any, ...]], Mapping[str, Callable[[Any, Any], None]]]:
    names = [each.name for each in dataclasses.fields(cls)]
    assert len(names) > 1
    assert not hasattr(cls, "__post_init__")
    return operator.attrgetter(*names), {name: cls.__dict__[name].__set__ for name in names}
