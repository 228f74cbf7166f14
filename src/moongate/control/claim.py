"""One gateway for one data directory: two would write one journal, and the one's records could be lost to the other."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from moongate.errors import StartError

NAME = "lock"


def claim(data_dir: Path) -> None:
    """Keep the directory for this process until it ends, however it ends. Raises StartError if another one has it."""
    path = data_dir / NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # never closed: the lock goes with it
    except OSError as error:
        raise StartError(f"{path}: cannot be made: {error.strerror}; choose another --data-dir") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(file)
        text = f"{data_dir} is used by another gateway (process {holder})"
        raise StartError(f"{text}; give this one a directory of its own: --data-dir") from None
    except OSError as error:
        os.close(file)
        raise StartError(f"{path}: cannot be locked: {error.strerror}; choose another --data-dir") from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
