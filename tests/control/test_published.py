"""What the store publishes, merged with the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moongate.control.compile import CompileOptions
from moongate.control.published import NAME, read_published, write_published
from moongate.control.secrets import load_key
from moongate.control.source import Source
from moongate.errors import ConfigError
from moongate.model.snapshot import Route, Snapshot

FILE = "mcpServers:\n  time: {url: http://127.0.0.1:9000/mcp}\n"
DIGEST = "ab" * 32


def _source(directory: Path, text: str = FILE) -> Source:
    file = directory / "moongate.yaml"
    file.write_text(text, "utf-8")
    return Source((file,), CompileOptions(), {"SECRET_NAME": "from-the-environment"}, data_dir=directory)


def _publish(directory: Path, document: dict[str, object], *, tokens_in_use: bool = False) -> None:
    write_published(directory, load_key(directory, {}), document, tokens_in_use=tokens_in_use)


def _routes(snapshot: Snapshot) -> dict[str, Route]:
    return {route.name: route for bind in snapshot.binds for listener in bind.listeners for route in listener.routes}


def test_instances_and_tokens_of_the_store_stand_beside_those_of_files(tmp_path: Path) -> None:
    """Both are routes; a stored one says that it is from the store."""
    token = {"name": "tok_1", "user": "alice", "groups": ["readers"], "sha256": DIGEST}
    document = {"gateway": {"tokens": [token]}, "mcpServers": {"search": {"url": "http://127.0.0.1:9001/mcp"}}}
    _publish(tmp_path, document, tokens_in_use=True)

    snapshot = _source(tmp_path).read()

    routes = _routes(snapshot)
    assert {"search", "time"} == routes.keys()
    assert routes["search"].where == "store"
    assert routes["time"].auth
    assert [("alice", "tok_1", {"readers"})] == [
        (entry.principal.name, entry.principal.token, set(entry.principal.groups)) for entry in snapshot.tokens
    ]


def test_the_file_wins_where_both_have_an_instance(tmp_path: Path) -> None:
    """With a warning; a gateway that does not start would be worse."""
    _publish(tmp_path, {"mcpServers": {"time": {"url": "http://127.0.0.1:9001/mcp"}}})

    snapshot = _source(tmp_path).read()

    assert _routes(snapshot)["time"].where.endswith("moongate.yaml:2")
    assert any("'time' is also in the store" in warning for warning in snapshot.warnings)


def test_a_reference_in_the_store_is_only_text(tmp_path: Path) -> None:
    """Who may write to the store must not read the gateway's environment."""
    entry = {"url": "http://127.0.0.1:9001/mcp", "headers": {"X-Key": "${SECRET_NAME}"}}
    _publish(tmp_path, {"mcpServers": {"search": entry}})

    target = _routes(_source(tmp_path).read())["search"].target

    assert "from-the-environment" not in repr(target)


def test_the_last_token_that_goes_does_not_open_the_gateway(tmp_path: Path) -> None:
    """Once tokens were in use, routes need one unless they say otherwise."""
    _publish(tmp_path, {"gateway": {"tokens": []}}, tokens_in_use=True)

    assert _routes(_source(tmp_path).read())["time"].auth


def test_what_is_wrong_in_the_store_is_left_out_with_its_name(tmp_path: Path) -> None:
    """All else of the store is in force: what was taken away there must be."""
    servers = {"search": {"url": "ftp://127.0.0.1/"}, "fine": {"url": "http://127.0.0.1:9001/mcp"}}
    _publish(tmp_path, {"mcpServers": servers}, tokens_in_use=True)

    snapshot = _source(tmp_path).read()

    assert {"fine", "time"} == _routes(snapshot).keys()
    assert _routes(snapshot)["time"].auth
    [warning] = [warning for warning in snapshot.warnings if "left out" in warning]
    assert warning.startswith("store: the instance 'search' cannot be served")


def test_what_is_wrong_in_a_file_is_refused_beside_a_store(tmp_path: Path) -> None:
    """With the complaint about the file; nothing is left out there."""
    _publish(tmp_path, {"mcpServers": {"search": {"url": "http://127.0.0.1:9001/mcp"}}})

    with pytest.raises(ConfigError) as caught:
        _source(tmp_path, "mcpServers: {time: {url: 'ftp://127.0.0.1/'}}").read()

    [complaint] = caught.value.complaints
    assert complaint.where.endswith("moongate.yaml:1")


def test_a_publication_that_cannot_be_looked_at_is_not_taken_for_none(tmp_path: Path) -> None:
    """Only a file that is not there means that nothing was published: a gateway without its tokens would be open."""
    (tmp_path / NAME).symlink_to(tmp_path / NAME)
    with pytest.raises(ConfigError, match="cannot be read: Too many levels"):
        _source(tmp_path).read()
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        _source(tmp_path).read()


def test_another_key_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A gateway without its tokens would be open, so that it does not start."""
    _publish(tmp_path, {})
    sealed = tmp_path / NAME
    assert sealed.stat().st_mode & 0o777 == 0o600
    sealed.write_bytes(sealed.read_bytes()[:-1])

    with pytest.raises(ConfigError, match="not sealed with this gateway's key, or is damaged"):
        _source(tmp_path).read()
    with pytest.raises(ValueError, match="not sealed"):
        read_published(tmp_path, os.urandom(32))


def test_without_a_publication_only_the_files_count(tmp_path: Path) -> None:
    """And no key is made for it."""
    assert {"time"} == _routes(_source(tmp_path).read()).keys()
    assert not (tmp_path / "key").exists()


def test_a_token_for_an_instance_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    """The instance may just have left its file; the token is good for nothing then, and all else goes on."""
    token = {"name": "tok_1", "user": "alice", "sha256": DIGEST, "instances": ["gone"]}
    _publish(tmp_path, {"gateway": {"tokens": [token]}}, tokens_in_use=True)

    snapshot = _source(tmp_path).read()

    assert [entry.instances for entry in snapshot.tokens] == [frozenset({"gone"})]


def test_an_empty_store_opens_no_port_beside_those_of_binds(tmp_path: Path) -> None:
    """The port of the instances is opened with the first of them."""
    target = "{name: time, mcp: {host: 'http://127.0.0.1:9000/mcp'}}"
    text = f"binds: [{{port: 3000, listeners: [{{routes: [{{backends: [{{mcp: {{targets: [{target}]}}}}]}}]}}]}}]\n"
    for servers, ports in (({}, [3000]), ({"search": {"url": "http://127.0.0.1:9001/mcp"}}, [8000, 3000])):
        _publish(tmp_path, {"mcpServers": servers})

        assert [bind.port for bind in _source(tmp_path, text).read().binds] == ports


def test_after_a_change_of_the_key_the_former_one_still_opens_it(tmp_path: Path) -> None:
    """Otherwise the gateway would not start, and nobody would publish anew."""
    _publish(tmp_path, {"mcpServers": {"search": {"url": "http://127.0.0.1:9001/mcp"}}})
    (tmp_path / "key").rename(tmp_path / "key.old")

    assert {"search", "time"} == _routes(_source(tmp_path).read()).keys()
