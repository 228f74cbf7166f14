"""A changed configuration takes effect: the new is built beside the old, then swapped in; if anything fails, the old
stays.

Files are watched by looking at their stamps several times a second: that also sees what inotify does not (bind mounts,
network file systems, links that are swapped under a directory).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from moongate.errors import ConfigError, StartError
from moongate.model.snapshot import Snapshot

log = logging.getLogger("moongate")

LOOK_SECONDS = 0.15

Stamp = tuple[tuple[int, int, int], ...]


def stamp(paths: Iterable[Path]) -> Stamp:
    """What tells that a file has changed, of the file that a link leads to: time, size, inode. All 0: it is missing."""
    found: list[tuple[int, int, int]] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _is_missing(path: Path) -> bool:
    """Nothing else than that: what cannot be looked at is there."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _nobody_asks(_fine: bool) -> None:
    """Nobody wants to know."""


class Publisher:
    """Reads with `build` (raises ConfigError), puts into force with `apply` (raises StartError, and then has changed
    nothing). `later` is a file that need not be there at first; once it was, it must not be missing.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        build: Callable[[], Snapshot],
        apply: Callable[[Snapshot], Awaitable[None]],
        refresh: Callable[[], None],
        later: Path | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._later = later
        # Those that were there, and are not files of the operator.
        self._needed: tuple[Path, ...] = ()
        self._build = build
        self._apply = apply
        self._refresh = refresh
        # Said once, and again when they were gone meanwhile.
        self.warned: frozenset[str] = frozenset()
        # Called after each try: whether it is in force.
        self.tried: Callable[[bool], None] = _nobody_asks
        self._turn = asyncio.Lock()
        self._poked = asyncio.Event()
        # Of what is read first, which is after this: a change meanwhile is seen.
        self._used = self._stamp()

    async def publish(self) -> bool:
        """Read again and put into force. False: the old configuration stays, and the log says why."""
        async with self._turn:
            fine = False
            try:
                snapshot = await asyncio.to_thread(self._read)
                await self._apply(snapshot)
                fine = True
            except ConfigError as error:
                log.error("the changed configuration is not used, the old one stays in force:\n%s", error)  # noqa: TRY400 - no trace: it is the operator's text that is wrong
                return False
            except StartError as error:
                log.error("the changed configuration cannot be put into force, the old one stays: %s", error)  # noqa: TRY400 - no trace: nothing of ours failed
                return False
            finally:
                self.tried(fine)
            for warning in snapshot.warnings:
                if warning not in self.warned:
                    log.warning("%s", warning)
            self.warned = frozenset(snapshot.warnings)
            log.info("configuration reloaded")
            return True

    def _read(self) -> Snapshot:
        for path in self._paths:
            with suppress(OSError):  # whoever reads it says so
                if not path.read_bytes().strip():
                    raise StartError(f"{path} is empty, like a file that was cut")
        self._expect()
        self._check_needed()
        snapshot = self._build()
        self._expect()
        self._check_needed()  # what went meanwhile was taken for nothing
        return snapshot

    def _check_needed(self) -> None:
        for path in self._needed:
            if _is_missing(path):
                raise StartError(f"{path} is missing; it is made again from the store")

    def _expect(self) -> None:
        later = self._later
        if later is not None and not _is_missing(later):
            self._paths, self._later, self._needed = (*self._paths, later), None, (later,)

    def _stamp(self) -> Stamp:
        self._expect()
        return stamp(self._paths)

    def poke(self) -> None:
        """A file was replaced as a whole just now: need not be found out."""
        self._poked.set()

    async def _pause(self) -> bool:
        """Until it is time to look; whether somebody said so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._poked.wait()
        poked = self._poked.is_set()
        self._poked.clear()
        return poked

    async def watch(self) -> None:
        """Publish whenever a file has changed, and `refresh` what else is read from files. Runs until cancelled."""
        last = self._used
        while True:
            poked = await self._pause()
            now = self._stamp()
            # A file that is being written, or is missing between unlink and rename, is not read until it holds still.
            still, last = poked or now == last, now
            try:
                self._refresh()
                if still and now != self._used and all(any(part) for part in now):
                    self._used = now
                    await self.publish()
            except Exception:
                log.exception("the configuration could not be reloaded, the old one stays in force")
