"""What the store holds, as the data plane reads it: one sealed file in the data directory.

The platform process writes it whenever the store has changed; the data plane reads and watches it like a configuration
file, so that it starts and runs when the database is away. Inside is an ordinary document (`mcpServers`,
`gateway.tokens`, `gateway.access`) with its secrets, which is why it is sealed (AES-256-GCM with the gateway's key).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moongate.control.compile import compile_documents
from moongate.control.files import Documents, merge
from moongate.control.nodes import STORE, Entry, Mapping, Node, Place, Scalar, Sequence
from moongate.errors import Complaint, ConfigError

NAME = "published"
_CONTEXT = b"moongate published 1"
_NONCE_BYTES = 12
_PLACE = Place(STORE, 0)
_SERVERS = "mcpServers"


class Published(msgspec.Struct, frozen=True):
    """`document` is JSON. `tokens_in_use`: there are, or once were, client tokens; then routes need one unless they say
    otherwise, also when the last token is gone. `store` is the identity of the store it came from ("": not known).
    """

    document: str
    tokens_in_use: bool = False
    store: str = ""

    @property
    def empty(self) -> bool:
        """Nobody would miss it."""
        return not self.tokens_in_use and not any(msgspec.json.decode(self.document).values())


def write_published(
    data_dir: Path, key: bytes, document: dict[str, Any], *, tokens_in_use: bool, store: str = ""
) -> None:
    """Replace the file at once, 0600. Raises OSError."""
    plain = msgspec.json.encode(Published(json.dumps(document), tokens_in_use, store))
    nonce = os.urandom(_NONCE_BYTES)
    beside = data_dir / f".{NAME}-{os.getpid()}-{nonce.hex()}"
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(nonce + AESGCM(key).encrypt(nonce, plain, _CONTEXT))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(data_dir / NAME)
    finally:
        beside.unlink(missing_ok=True)


def read_published(data_dir: Path, *keys: bytes) -> Published | None:
    """None: nothing was published yet. Raises OSError, ValueError if none of the keys (the gateway's, then former
    ones) opens it.
    """
    try:
        sealed = (data_dir / NAME).read_bytes()
    except FileNotFoundError:
        return None
    for key in keys:
        try:
            plain = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _CONTEXT)
            return msgspec.json.decode(plain, type=Published)
        except (InvalidTag, ValueError, msgspec.DecodeError):
            continue
    message = "it was not sealed with this gateway's key, or is damaged; bring the key back (a changed one as "
    raise ValueError(message + "MOONGATE_KEY_OLD), or remove the file: it is made again from the store")


def with_published(documents: Documents, published: Published, without: Collection[str] = ()) -> Documents:
    """The files and the store in one tree. An instance that both have is the files'; a warning says so. Those in
    `without` are left out.
    """
    complaints: list[Complaint] = []
    try:
        root = _parse(published.document)
    except ValueError as error:
        complaint = Complaint(STORE, str(error))
        return replace(documents, complaints=(*documents.complaints, complaint), complete=False)
    for name in without:
        _servers(root).pop(name, None)
    warnings = _give_way(documents.root, root)
    if not _servers(root):  # an empty block would open a port beside those of `binds`
        root.entries.pop(_SERVERS, None)
    access = _take_access(root)
    merged = merge(documents.root, root, complaints)
    return replace(
        documents,
        root=merged,
        complaints=(*documents.complaints, *complaints),
        warnings=(*documents.warnings, *warnings),
        tokens_in_use=published.tokens_in_use,
        access=access,
    )


def unfit(published: Published) -> dict[str, Complaint]:
    """The instances of the store that cannot be served by themselves, and the first reason for each."""
    found: dict[str, Complaint] = {}
    for name, entry in _servers(_parse(published.document)).items():
        alone = Mapping({_SERVERS: Entry(_PLACE, Mapping({name: entry}, _PLACE))}, _PLACE)
        try:
            compile_documents(Documents(alone, (STORE,)))
        except ConfigError as error:
            found[name] = error.complaints[0]
    return found


def _parse(text: str) -> Mapping:
    """Raises ValueError. Not by the reader of files: there are no lines to point at, and this is three times faster.

    However large: a limit here would keep back what was taken away, too.
    """
    node = _node(msgspec.json.decode(text))
    if not isinstance(node, Mapping):
        message = "what it holds is not a document"
        raise ValueError(message)  # noqa: TRY004 - the text is wrong, not the caller
    return node


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Mapping({key: Entry(_PLACE, _node(item)) for key, item in value.items()}, _PLACE)
    if isinstance(value, list):
        return Sequence([_node(item) for item in value], _PLACE)
    return Scalar(value, _PLACE)


def _give_way(files: Mapping, store: Mapping) -> list[Complaint]:
    written, kept = _servers(files), _servers(store)
    twice = sorted(written.keys() & kept.keys())
    for name in twice:
        del kept[name]
    return [
        Complaint(str(written[name].place), f"the instance {name!r} is also in the store; the file's is used")
        for name in twice
    ]


def _take_access(store: Mapping) -> Node | None:
    """The store's rules for the whole gateway; a file may have its own, and both hold."""
    gateway = store.entries.get("gateway")
    if gateway is None or not isinstance(gateway.node, Mapping):
        return None
    found = gateway.node.entries.pop("access", None)
    return None if found is None else found.node


def _servers(root: Mapping) -> dict[str, Entry]:
    entry = root.entries.get(_SERVERS)
    return entry.node.entries if entry is not None and isinstance(entry.node, Mapping) else {}
