"""The OpenAPI document is complete, and every answer keeps to it (schemathesis)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console.conftest import Api, running

SECURED: list[dict[str, list[str]]] = [{"apiKey": []}, {"session": []}]
# Accounts and keys of the run itself must live; a tail has no end.
LEFT_OUT = "audit/tail|/operators/|/api-keys/"
# What fits the schema may still not fit what is there; a fixed address is also the address of an instance so named.
NOT_CHECKED = "positive_data_acceptance,allow_header_conformance"


def test_every_operation_is_described(api: Api) -> None:
    """A model of the answer, the shape of errors, who may, a summary; no model is anonymous."""
    schemas = api.document["components"]["schemas"]
    assert "Problem" in schemas
    assert "HTTPValidationError" not in schemas
    for method, path, operation in api.operations():
        where = f"{method} {path}"
        assert operation["description"], where
        good = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
        assert len(good) == 1, where
        for status, answer in good.items():
            described = [found for media, found in answer.get("content", {}).items() if media == "application/json"]
            assert status == "204" or not described or described[0]["schema"], where
        for status in ("500", "503"):
            assert status in operation["responses"], where
        if operation["x-roles"]:
            assert operation["security"] == SECURED, where
            assert {"401", "403"} <= set(operation["responses"]), where
        else:
            assert "security" not in operation, where
    for status, answer in api.document["paths"]["/api/v1/users"]["post"]["responses"].items():
        if status.startswith(("4", "5")):
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def _held_against_the_document(folder: Path, *options: str) -> None:
    with running(folder) as api:
        with api.client("admin") as client:
            client.post("/api/v1/users", json={"name": "luna"})
            client.post("/api/v1/instances", json={"name": "moon", "config": {"url": "http://127.0.0.1:9/"}})
        program = Path(sys.executable).with_name("st")
        words = [
            *(str(program), "run", f"{api.base}/api/v1/openapi.json", "--url", api.base, "--no-color"),
            *("-H", f"Authorization: Bearer {api.keys['admin']}", "--request-timeout", "20"),
            *("--exclude-path-regex", LEFT_OUT, "--exclude-checks", NOT_CHECKED, *options),
        ]
        environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, env=environ)
        log = (folder / "said.log").read_text("utf-8")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Traceback" not in log


def test_answers_keep_to_the_document(tmp_path: Path) -> None:
    """A few requests to each operation, made from its schema; none is answered with 500."""
    _held_against_the_document(tmp_path, "--phases", "fuzzing", "--max-examples", "1")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_answers_keep_to_the_document_whatever_is_asked(tmp_path: Path) -> None:
    """The same for long: also what the schema forbids, and sequences of requests."""
    _held_against_the_document(tmp_path, "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "60")
