"""`moongate check`: what it prints, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from moongate.cli.check import check


@pytest.mark.requirement("PM-21")
def test_a_good_file_is_told_with_its_routes_and_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each route with its address and whether a token is needed; 0."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "gateway: {tokens: [{name: alice, token: alice-token}]}\n"
        "mcpServers:\n"
        "  time: {url: 'http://127.0.0.1:9000/mcp', type: streamable-http}\n"
        "  history: {url: 'http://127.0.0.1:9001/mcp', type: streamable-http, auth: off}\n",
        "utf-8",
    )

    assert check([file], port=9999) == 0

    out, err = capsys.readouterr()
    assert out.replace(str(tmp_path), "") == (
        "/gateway.yaml: ok, 2 routes\n"
        "  time     http://127.0.0.1:9999/mcp/time     token required\n"
        "  history  http://127.0.0.1:9999/mcp/history  open to everyone who reaches it\n"
        "warning: /gateway.yaml:1: gateway.tokens[0].token: the token stands here in plain text; write ${NAME} for an "
        "environment variable, or its sha256\n"
    )
    assert err == ""


@pytest.mark.requirement("AG-02")
def test_a_bad_file_is_told_with_all_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with file and line, on standard error, without colours and without line breaks inside; 2."""
    file = tmp_path / "[bold]gateway.yaml"
    file.write_text("gateway: {prefx: /mcp}\nmcpServers:\n  time: {type: sse}\n", "utf-8")

    assert check([str(file)]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert [line.replace(f"{tmp_path}/", "").split(";")[0] for line in err.splitlines()] == [
        "[bold]gateway.yaml:1: unknown key 'prefx' in gateway",
        "[bold]gateway.yaml:3: mcpServers.time.url: is missing",
        "2 errors",
    ]


@pytest.mark.requirement("AG-16")
def test_hosted_servers_are_told_with_their_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a program that is not there with its line; it is a warning, for it may still be installed."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "mcpServers:\n"
        "  time: {command: sh}\n"
        "  mine: {command: sh, isolation: principal}\n"
        "  notes:\n"
        "    isolation: shared\n"
        "    command: no-such-program\n",
        "utf-8",
    )

    assert check([file]) == 0

    out, err = capsys.readouterr()
    assert out.replace(str(tmp_path), "") == (
        "/gateway.yaml: ok, 3 routes\n"
        "  time   http://127.0.0.1:8000/mcp/time   open to everyone who reaches it, a process for each session\n"
        "  mine   http://127.0.0.1:8000/mcp/mine   open to everyone who reaches it, a process for each caller\n"
        "  notes  http://127.0.0.1:8000/mcp/notes  open to everyone who reaches it, one process for all\n"
        "warning: /gateway.yaml:6: notes: the program 'no-such-program' is not found on the PATH; install it, or write "
        "its whole path\n"
    )
    assert err == ""
