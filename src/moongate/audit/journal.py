"""The append-only file of records: one `write` per loop turn, and no answer leaves before its record.

`commit` takes a record and what is to happen once it is written (the bytes that complete the answer leave then).
Everything that was committed in one turn of the event loop shares one write. The file survives `kill -9`; a power cut
may cost its end, unless `sync` sends each write to the disk. A full disk or a lost directory does not stop the gateway:
it says so, goes on, and counts in `lost` what was not kept; once it can be written again, a line of the journal says so
too: `{"time": ..., "lost": 7}`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from moongate.audit.segments import journal_id, segment_number, segment_path, segments

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
KEEP_BYTES = 1024 * 1024 * 1024
_COMPLAIN_SECONDS = 10.0


class Journal:
    """Segments `journal-<number>.jsonl` in a directory; the oldest are removed when all exceed `keep_bytes`.

    `directory` None keeps nothing (nothing is counted as lost then either). `failing`: the last write was in vain.
    """

    def __init__(
        self, directory: Path | None, *, segment_bytes: int = SEGMENT_BYTES, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.written = 0
        self.lost = 0
        self.removed_segments = 0
        self.failing = False
        self.sync = False
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._keep_bytes = keep_bytes
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._then: list[Callable[[], None]] = []
        self._file = -1
        self._size = 0
        self._number = 0
        self._complained = 0.0
        self._unsaid = 0
        if directory is not None:
            journal_id(directory)
            self._number = max(map(segment_number, segments(directory)), default=0)
            self._open_segment()

    def commit(self, line: bytes, then: Callable[[], None]) -> None:
        """Write `line` in this turn, call `then` after it."""
        if not self._then:
            self._loop.call_soon(self.flush)
        self._lines.append(line)
        self._then.append(then)

    def flush(self) -> None:
        """Write what was committed, then let the answers leave."""
        lines, self._lines = self._lines, []
        waiting, self._then = self._then, []
        if self._directory is not None and lines:
            self._write(lines)
        for then in waiting:
            try:
                then()
            except Exception:
                log.exception("an answer could not be sent after its record was written")

    def _write(self, lines: list[bytes]) -> None:
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        wanted = data.count(b"\n")
        said = self._unsaid
        if said:
            data = b'{"time":%.6f,"lost":%d}\n%b' % (time.time(), said, data)
        try:
            if self._file < 0 or self._size >= self._segment_bytes or not os.fstat(self._file).st_nlink:
                self._open_segment()
            written = os.write(self._file, data)
            if self.sync:
                os.fdatasync(self._file)
        except OSError as error:
            self._give_up(wanted, error.strerror or str(error))
            return
        self._size += written
        kept = data.count(b"\n", 0, written)
        if said and kept:
            self._unsaid -= said
            kept -= 1
        self.written += kept
        self.failing = kept < wanted
        if self.failing:
            self._give_up(wanted - kept, "the disk is full")

    def _give_up(self, count: int, reason: str) -> None:
        self.lost += count
        self._unsaid += count
        self.failing = True
        self._close_file()
        now = time.monotonic()
        if not self._complained or now - self._complained >= _COMPLAIN_SECONDS:
            self._complained = now
            log.error(
                "audit journal in %s cannot be written: %s; records lost so far: %d", self._directory, reason, self.lost
            )

    def _open_segment(self) -> None:
        if self._directory is None:
            return
        # A segment that was removed would take records that nobody can find again, and its number is spent.
        removed = self._file >= 0 and not os.fstat(self._file).st_nlink
        if not self._number or self._size >= self._segment_bytes or removed:
            self._number += 1
        self._close_file()
        journal_id(self._directory)
        path = segment_path(self._directory, self._number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
            # The line that a full disk or a crash tore is ended, so that the next record has a line of its own.
            self._size += os.write(self._file, b"\n")
        if self.sync:
            _sync_directory(self._directory)
        self._remove_oldest(self._directory)

    def _remove_oldest(self, directory: Path) -> None:
        found = segments(directory)
        sizes = [_size(path) for path in found]
        total = sum(sizes)
        for path, size in zip(found[:-1], sizes, strict=False):
            if total <= self._keep_bytes:
                break
            path.unlink(missing_ok=True)
            log.warning("the oldest audit records were removed to stay below %d bytes: %s", self._keep_bytes, path)
            total -= size
            self.removed_segments += 1

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        self._close_file()


def _size(path: Path) -> int:
    """The ingester may remove a segment at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_directory(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
