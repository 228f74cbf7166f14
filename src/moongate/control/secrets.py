"""The gateway's own key: from the environment, or a file that only its user can read, made at the first start."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from moongate.errors import StartError

log = logging.getLogger("moongate")

KEY_BYTES = 32
VARIABLE = "MOONGATE_KEY"


def load_key(data_dir: Path, environ: Mapping[str, str]) -> bytes:
    """32 bytes: `MOONGATE_KEY` (64 hex digits, or base64), else `<data-dir>/key`. Raises StartError."""
    text = environ.get(VARIABLE)
    if text is not None:
        return _decode(text.strip(), f"the variable {VARIABLE}")
    path = data_dir / "key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _make_key(path)
        text = path.read_text(encoding="ascii", errors="replace")
        warn_if_open(path)
    except OSError as error:
        msg = f"{path}: cannot be read or made: {error.strerror}; choose another --data-dir, or set {VARIABLE}"
        raise StartError(msg) from None
    return _decode(text.strip(), str(path))


def warn_if_open(path: Path) -> None:
    """Say so, once, if others than its user may read or change a file with a key. Raises OSError."""
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _warn(path, stat.filemode(mode))


@cache
def _warn(path: Path, mode: str) -> None:
    log.warning(
        "%s: holds a key, and others can read or change it (%s); make it private: chmod 600 %s", path, mode, path
    )


def _make_key(path: Path) -> None:
    # Written beside and linked, so that a crash leaves no half key and of two first starts one key wins.
    beside = path.with_name(f".key-{secrets.token_hex(8)}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def _decode(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text + "==", altchars=b"-_")
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"{where} does not hold a key of {KEY_BYTES} bytes; make one with: openssl rand -hex {KEY_BYTES}"
        raise StartError(msg)
    return key
