"""The files that a stored instance names under `tls`: for admins, and only such that can be used.

A file that cannot be used keeps the instance out of force. And whoever may name files of the gateway's machine learns
from the answers which there are, and calls servers with their certificates.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moongate.control.platform.failures import Forbidden
from moongate.control.platform.masks import origin
from moongate.control.platform.shapes import Actor
from moongate.errors import Complaint

MAX_FILE = 4 * 1024 * 1024
_FILES = ("ca", "cert", "key")


def may_name_files(by: Actor, config: dict[str, Any], kept: dict[str, Any] | None) -> None:
    """Raises Forbidden, unless it is an admin, or what an admin has written stays, for the same server."""
    written = config.get("tls")
    if by.role == "admin" or not written:
        return
    if kept is None or written != kept.get("tls") or origin(config) != origin(kept):
        raise Forbidden("tls names files of the gateway's machine: only an admin may write it, or change its server")


def judge_files(config: dict[str, Any]) -> list[Complaint]:
    """What is wrong about the files of an entry that is fine otherwise; `where` is the field."""
    written = config.get("tls") or {}
    paths = {key: Path(written[key]) for key in _FILES if written.get(key)}
    complaints = [Complaint(f"tls.{key}", reason) for key, path in paths.items() for reason in _unreadable(path)]
    return complaints or list(_unusable(paths))


def _unreadable(path: Path) -> Iterator[str]:
    if not path.is_absolute():
        yield "must be an absolute path: what is stored belongs to no folder"
        return
    try:
        if not path.is_file():
            yield "there is no such file on the gateway's machine"
        elif path.stat().st_size > MAX_FILE:
            yield f"is larger than {MAX_FILE} bytes, which no certificate is"
        else:
            path.open("rb").close()
    except OSError as error:
        yield f"cannot be read by the gateway: {error.strerror}"


def _unusable(paths: dict[str, Path]) -> Iterator[Complaint]:
    context = ssl.create_default_context()
    if "ca" in paths:
        try:
            context.load_verify_locations(cafile=paths["ca"])
        except (OSError, ssl.SSLError):
            yield Complaint("tls.ca", "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    if "cert" in paths:
        try:
            # A key with a password would be asked for on the terminal.
            context.load_cert_chain(paths["cert"], paths.get("key"), password=lambda: "")
        except (OSError, ValueError, ssl.SSLError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else "no PEM"
            text = f"cannot be used with tls.key ({reason.lower().replace('_', ' ')}); both are files in PEM form"
            yield Complaint("tls.cert", f"{text}, the key without a password, and they belong together")
