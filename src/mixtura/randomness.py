"""Generators of random numbers that serve one fit after the other: to make one takes a third of a small fit's time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

# Generators that no fit uses at present. Each belongs to whoever took it out, so that threads do not share one.
_SPARE: deque[np.random.RandomState] = deque(maxlen=16)


@contextmanager
def generator(random_state: Any) -> Iterator[np.random.RandomState]:
    """The generator that a user's ``random_state`` stands for, as long as the block lasts.

    It gives the numbers of :func:`sklearn.utils.check_random_state`. For a whole number it is one that an earlier block
    has given back, seeded again, so it must not be kept.

    Parameters
    ----------
    random_state : int, RandomState instance or None
    """
    if not isinstance(random_state, Integral):
        yield check_random_state(random_state)
        return
    try:
        rng = _SPARE.pop()
    except IndexError:
        rng = np.random.RandomState(0)
    rng.seed(int(random_state))
    try:
        yield rng
    finally:
        _SPARE.append(rng)
