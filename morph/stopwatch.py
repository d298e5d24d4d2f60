"""Times the stages of a run and says which one begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Announce = Callable[[str], None]


@dataclass
class Stopwatch:
    """Times stages and says which one begins."""

    announce: Announce
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, sentence: str) -> Iterator[None]:
        """Time what happens inside, without the stages inside, which count for themselves."""
        self.announce(sentence)
        start, before = time.perf_counter(), sum(self.seconds.values())
        yield
        inside = sum(self.seconds.values()) - before
        self.seconds[name] = max(round(time.perf_counter() - start - inside, 2), 0.0)
