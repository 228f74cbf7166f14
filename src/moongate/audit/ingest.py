"""Moves records from the journal to the database: each exactly once, whatever is killed when.

The place up to which the journal was read is written in the same transaction as the records. Segments that are wholly
in the database are deleted, but never the one that is being written. A file lock keeps two processes from reading one
journal at once; if both did all the same, the place would tell them, and one of them would write nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from moongate.audit.batch import Batch, Position, make_batch
from moongate.audit.segments import journal_begin, journal_id, segment_number, segment_path, segments
from moongate.audit.storing import RacedError, TokenUse, begin_journal, read_position, touch_tokens, write_batch
from moongate.audit.zones import Zones
from moongate.store.engine import Store
from moongate.store.failing import StoreAway

log = logging.getLogger(__name__)

# What one transaction takes at most: some 9,000 records.
CHUNK = 1 << 22
IDLE_SECONDS = 0.2
_WAITING_SECONDS = 0.02
_LONGEST_PAUSE = 5.0
_COMPLAIN_SECONDS = 30.0
_LINES_SAID = 10
# A token's last use is written again when it is so much later; of so many tokens it is known when that was.
_USED_SECONDS = 30.0
_USED_TOKENS = 100_000


@dataclass(slots=True)
class Counts:
    """What this process has moved, and what hindered it. `away`: the database cannot be used now."""

    ingested: int = 0
    damaged: int = 0
    failures: int = 0
    behind_bytes: int = 0
    away: bool = False


class Ingester:
    """Reads one journal into one store. `key` is the chain's; `used` is told which tokens were used."""

    def __init__(self, store: Store, directory: Path, key: bytes, used: TokenUse = touch_tokens) -> None:
        self.counts = Counts()
        self._store = store
        self._directory = directory
        self._key = key
        self._used = used
        self._position: Position | None = None
        self._zones = Zones()
        self._touched: dict[str, float] = {}
        self._complained = 0.0
        self._careful = 0
        self._warned = False
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled: waits for the lock, for the database, for records."""
        pause = IDLE_SECONDS
        while True:
            try:
                with self._lock() as locked:
                    while locked and not self._moved_away():
                        moved = await self.step()
                        self._worked()
                        pause = IDLE_SECONDS
                        if not moved:
                            await self._idle()
            except (StoreAway, OSError) as error:
                self._complain(str(error))
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception as error:
                log.exception("audit records could not be moved to the store; trying again")
                self._complain(type(error).__name__)
                pause = _LONGEST_PAUSE
            await asyncio.sleep(pause)

    async def _idle(self) -> None:
        """A moment, or until somebody wants to see what is there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._wanted.wait()
        self._wanted.clear()

    async def catch_up(self, seconds: float = 30.0) -> None:
        """Until all that was in the journal at the call is in the store, by this process or by another.

        Raises StoreAway, OSError, TimeoutError.
        """
        goal = await asyncio.to_thread(_end, self._directory)
        if goal is None:
            return
        async with asyncio.timeout(seconds):
            while True:
                with self._lock() as locked:
                    while locked and await self.step():
                        if self._position is not None and _is_at(self._position, goal):
                            return
                # What another process moves is known by its place in the store.
                if locked or await self._reached(goal):
                    return
                self._wanted.set()
                await asyncio.sleep(_WAITING_SECONDS)

    async def step(self) -> bool:
        """Move one batch; False if there was nothing to move. Raises StoreAway, OSError."""
        try:
            if self._position is None:
                self._position = await self._read_position()
            before = self._position
            batch = await asyncio.to_thread(self._next, before)
            if batch is None:
                return False
            # Whatever happens in between: where we are is then read again.
            self._position = None
            written = await self._write(before, batch)
        except RacedError:
            log.info("another process moves the records of %s too", self._directory)
            return True
        if written is not None:
            await self._settle(before, written)
        return True

    async def _read_position(self) -> Position:
        self._zones = Zones()
        name = await asyncio.to_thread(journal_id, self._directory)
        known = await read_position(self._store, name)
        if known is None:
            begin = await asyncio.to_thread(journal_begin, self._directory)
            return await begin_journal(self._store, name, self._key, begin)
        checked = known.checked(self._key)
        if not checked.intact and not self._warned:
            self._warned = True
            log.error("somebody has changed in the database how far the journal in %s was read", self._directory)
        return checked

    async def _write(self, before: Position, batch: Batch) -> Batch | None:
        """What was written. None: nothing, because something in it cannot be stored; the lines come one by one then."""
        touched = self._touched
        batch.used = {
            token: at
            for token, at in batch.used.items()
            if token not in touched or at >= touched[token] + _USED_SECONDS
        }
        try:
            await write_batch(self._store, before, batch, self._key, self._used)
        except (RacedError, StoreAway, OSError):
            raise
        except Exception:
            if not self._careful:
                log.exception("%d audit records cannot be stored at once; trying one after the other", len(batch.rows))
                self._careful = len(batch.rows)
                return None
            log.exception("an audit record cannot be stored")
            after = replace(before, place=batch.after.place, damaged=before.damaged + 1)
            batch = Batch(after, damaged=[before.place])
            await write_batch(self._store, before, batch, self._key, self._used)
        self._careful = max(0, self._careful - 1)
        return batch

    async def _settle(self, before: Position, batch: Batch) -> None:
        self._position = batch.after
        if len(self._touched) > _USED_TOKENS:
            self._touched.clear()
        self._touched.update(batch.used)
        self.counts.ingested += len(batch.rows)
        self.counts.damaged += len(batch.damaged)
        path = segment_path(self._directory, before.segment)
        for place in batch.damaged[:_LINES_SAID]:
            log.error("%s: the line at byte %d is no record, and was left out", path, place)
        if len(batch.damaged) > _LINES_SAID:
            log.error("%s: and so were %d more", path, len(batch.damaged) - _LINES_SAID)
        if batch.after.segment != before.segment:
            await asyncio.to_thread(self._remove, batch.after.segment)

    def _next(self, before: Position) -> Batch | None:
        """The next batch of the journal; None if there is none yet."""
        # Listed before reading: a segment that has a successor is written no more.
        numbers = [segment_number(path) for path in segments(self._directory)]
        if not numbers:
            return None
        if before.segment not in numbers:
            return self._begin(before, numbers)
        path = segment_path(self._directory, before.segment)
        later = min((number for number in numbers if number > before.segment), default=None)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.counts.behind_bytes = max(0, size - before.place)
            if size < before.place:  # a power cut has taken its end; all that is left of it was read before
                if later is not None:
                    log.error("%s is shorter than it was; reading goes on with segment %d", path, later)
                return None if later is None else _next_segment(before, later, damaged=1)
            data = os.pread(file.fileno(), CHUNK, before.place)
        end = (data.find(b"\n") if self._careful else data.rfind(b"\n")) + 1
        if end:
            return make_batch(before, data[:end], self._key, self._zones)
        if len(data) == CHUNK:  # nothing of ours is as long
            damaged = replace(before, place=before.place + CHUNK, damaged=before.damaged + 1)
            return Batch(damaged, damaged=[before.place])
        if later is None:
            return None
        batch = _next_segment(before, later, damaged=int(bool(data)))
        batch.damaged = [before.place] if data else []
        return batch

    def _begin(self, before: Position, numbers: list[int]) -> Batch:
        """The first segment of all, or the first after one that is gone."""
        later = min((number for number in numbers if number > before.segment), default=min(numbers))
        missing = max(0, later - max(before.segment, 1))
        if before.segment and later < before.segment:
            log.error("the journal in %s begins anew with segment %d", self._directory, later)
            missing = 1
        if missing:
            log.error("%d segments of the journal in %s were gone before they were read", missing, self._directory)
        return Batch(replace(before, segment=later, place=0, missing_segments=before.missing_segments + missing))

    def _remove(self, kept: int) -> None:
        for path in segments(self._directory):
            if segment_number(path) < kept:
                path.unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether no other process reads this journal meanwhile."""
        journal_id(self._directory)
        file = os.open(self._directory / "ingest.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locked = os.fstat(file)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                self._position = None
                yield True
        finally:
            os.close(file)

    def _moved_away(self) -> bool:
        """Whether the directory of the lock was removed, and maybe made anew."""
        try:
            found = (self._directory / "ingest.lock").stat()
        except FileNotFoundError:
            return True
        return found.st_ino != self._locked.st_ino

    async def _reached(self, goal: tuple[str, int, int]) -> bool:
        position = await read_position(self._store, goal[0])
        return position is not None and _is_at(position, goal)

    def _complain(self, reason: str) -> None:
        self.counts.failures += 1
        self.counts.away = True
        self._position = None
        now = time.monotonic()
        if not self._complained or now - self._complained >= _COMPLAIN_SECONDS:
            self._complained = now
            log.error("audit records wait in %s: %s", self._directory, reason)

    def _worked(self) -> None:
        if self.counts.away:
            self.counts.away = False
            self._complained = 0.0
            log.warning("audit records are moved to the store again")


def _next_segment(before: Position, later: int, damaged: int) -> Batch:
    missing = before.missing_segments + later - before.segment - 1
    return Batch(replace(before, segment=later, place=0, damaged=before.damaged + damaged, missing_segments=missing))


def _is_at(position: Position, goal: tuple[str, int, int]) -> bool:
    return (position.segment, position.place) >= goal[1:]


def _end(directory: Path) -> tuple[str, int, int] | None:
    """Journal, last segment, and the end of its last whole line."""
    found = segments(directory)
    if not found:
        return None
    with found[-1].open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while end:
            begin = max(0, end - CHUNK)
            last = os.pread(file.fileno(), end - begin, begin).rfind(b"\n")
            if last >= 0:
                end = begin + last + 1
                break
            end = begin
    return journal_id(directory), segment_number(found[-1]), end
