"""Which proposals become rows: the first of every sample's random stream that passes the size filter.

Several threads ask for rows at a time, and what they ask for is searched together, in waves as wide as the backend
likes: the search is advanced by one of those who wait, the others write what they got. A few waves are under way at a
time, so that the device has work while the host judges a wave and prepares the next. A row depends on its own stream
alone, whatever it was searched together with.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.atlas import Atlas
from engine.backends import Backend, Span
from engine.model import Model
from engine.parameters import Parameters
from engine.rows import halve, split_of
from engine.sampling import Prior
from engine.screen import pays, screen
from engine.simulate import Simulated, simulate_stream

LOOK_AHEAD = 6
"""Proposals of a sample that are screened together; which one is accepted does not depend on it."""
FLIGHTS = 2
"""Waves of each kind that are under way at a time: one computes, the next is queued behind it."""

Candidate = tuple[int, Parameters]


@dataclass(eq=False)
class _Search:
    """The way of a sample to its row: which proposal is drawn next, and candidates that are worth a full run."""

    sample: int
    order: _Order
    following: int = 0
    waiting: deque[Candidate] = field(default_factory=deque)


@dataclass(eq=False)
class _Order:
    """What one caller asked for, and what was found of it."""

    rows: range
    found: dict[int, dict[str, Any]] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def is_open(self) -> bool:
        return self.error is None and len(self.found) < len(self.rows)


Judge = Callable[[], None]
"""Waits for the end of a wave and says where its samples go next."""


class Acceptance:
    """Finds rows for any number of threads.

    Args:
        seed: of the random streams.
        scheme: time steps, see `engine.simulate`.
        atlas: the brain.
        prior: what proposals are drawn from, and the size filter.
        backend: where they are simulated.
        model: what grows.
        screened: whether proposals are screened first (default: where that pays, see `engine.screen`).
    """

    def __init__(
        self, seed: int, scheme: str, atlas: Atlas, prior: Prior, backend: Backend, model: Model,
        screened: bool | None = None,
    ) -> None:  # fmt: skip
        self.seed, self.scheme, self.atlas, self.prior, self.backend = seed, scheme, atlas, prior, backend
        self.model = model
        self.screened = pays(atlas, model) if screened is None else screened
        self._turn, self._is_led = threading.Condition(), False
        self._orders: list[_Order] = []
        self._undrawn, self._ready = deque[_Search](), deque[_Search]()
        self._screens, self._runs = deque[tuple[int, Judge]](), deque[tuple[int, Judge]]()
        self._launched = 0
        self._busy: list[Span] = []

    def accept(self, rows: range) -> tuple[list[dict[str, Any]], int]:
        """The first accepted proposal of every sample in `rows`, and how many proposals were drawn up to those."""
        order = _Order(rows)
        with self._turn:
            self._orders.append(order)
            self._undrawn.extend(_Search(sample, order) for sample in rows)
            while order.is_open:
                if self._is_led:
                    self._turn.wait()
                else:
                    self._lead()
            if order in self._orders:
                self._orders.remove(order)
        if order.error is not None:
            raise order.error
        found = [order.found[i] for i in rows]
        return found, sum(int(row["proposal"]) + 1 for row in found)

    def take_busy(self) -> list[Span]:
        """When simulations ran since the last call: on the backend's device, or in this process."""
        with self._turn:
            taken, self._busy = self._busy, []
        on_device = self.backend.take_busy()
        return taken if on_device is None else on_device

    def _lead(self) -> None:
        """Advance the search by a wave; the lock is held by the caller, and given away meanwhile."""
        self._is_led = True
        started = time.monotonic()
        self._turn.release()
        try:
            self._advance()
        except BaseException as error:  # whoever leads, everybody who waits for the same wave must hear of it
            self._abandon(error)
        finally:
            self._turn.acquire()
            self._is_led = False
            self._busy.append((started, time.monotonic()))
            self._turn.notify_all()

    def _abandon(self, error: BaseException) -> None:
        with self._turn:
            for order in self._orders:
                order.error = error
            self._orders = []
            for queue in (self._undrawn, self._ready, self._screens, self._runs):
                queue.clear()

    def _advance(self) -> None:
        """Launch what can be launched, screens first, then judge the oldest wave."""
        self._fill(self._screens, self._undrawn, self._draw)
        self._fill(self._runs, self._ready, self._run)
        if self._screens or self._runs:
            heads = [flights for flights in (self._screens, self._runs) if flights]
            _, judge = min(heads, key=lambda flights: flights[0][0]).popleft()
            judge()

    def _fill(
        self, flights: deque[tuple[int, Judge]], queue: deque[_Search], launch: Callable[[list[_Search]], Judge]
    ) -> None:
        """Launch waves of one kind: full ones, smaller ones only where the device would run out of work."""
        while len(flights) < FLIGHTS and queue:
            is_idle = len(self._screens) + len(self._runs) < FLIGHTS
            if len(queue) < self.backend.width and not is_idle:
                return
            wave = [queue.popleft() for _ in range(min(self.backend.width, len(queue)))]
            flights.append((self._launched, launch(wave)))
            self._launched += 1

    def _draw(self, wave: list[_Search]) -> Judge:
        """Draw proposals for samples that have none, and screen them."""
        ahead = LOOK_AHEAD if self.screened else 1
        drawn = [(search, p) for search in wave for p in range(search.following, search.following + ahead)]
        batch = [self.prior.propose(self.seed, search.sample, p, self.atlas) for search, p in drawn]
        passed: Iterable[bool] = [True] * len(batch)
        if self.screened:
            passed = screen(batch, self.atlas, self.prior, self.model, self.backend, self.scheme)

        def judge() -> None:
            for (search, p), parameters, ok in zip(drawn, batch, passed, strict=True):
                search.following = p + 1
                if ok:
                    search.waiting.append((p, self.model.tumor(parameters, self.seed, search.sample, p)))
            self._enqueue(wave)

        return judge

    def _run(self, wave: list[_Search]) -> Judge:
        """Run one candidate of each sample."""
        tried = [search.waiting.popleft() for search in wave]
        stream = simulate_stream(
            [tumor for _, tumor in tried], self.atlas, backend=self.backend, scheme=self.scheme,
            stop_volume=self.prior.size[1],
        )  # fmt: skip

        def judge() -> None:
            for search, candidate, one in zip(wave, tried, stream, strict=True):
                self._judge(search, candidate, one)
            self._enqueue([search for search in wave if search.sample not in search.order.found])

        return judge

    def _judge(self, search: _Search, candidate: Candidate, one: Simulated) -> None:
        """Keep a tumor that passes the filter."""
        proposal, parameters = candidate
        if one.ended == "duration" and self.prior.accepts(one.volume):
            density = np.zeros(self.atlas.grid.shape, dtype=np.float16)
            one.write(density)
            row = {"density": density, "parameters": parameters, "proposal": proposal}
            row["split"] = split_of(self.seed, search.sample)
            if one.pushed is not None:
                (row["displacement"],) = halve([one.pushed.displacement])
            search.order.found[search.sample] = row
        elif one.ended == "not_converged":
            said = f"sample {search.sample}: proposal {proposal} refused, not converged: {parameters}"
            print(said, file=sys.stderr)

    def _enqueue(self, searches: Sequence[_Search]) -> None:
        with self._turn:
            for search in searches:
                (self._ready if search.waiting else self._undrawn).append(search)


def accept_rows(
    rows: range,
    seed: int,
    scheme: str,
    atlas: Atlas,
    prior: Prior,
    backend: Backend,
    screened: bool | None = None,
    model: Model | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """The first accepted proposal of every sample in `rows`, and how many proposals were drawn up to those.

    Arguments are those of `Acceptance`.
    """
    return Acceptance(seed, scheme, atlas, prior, backend, model or Model(), screened).accept(rows)
