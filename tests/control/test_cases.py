"""Every file in `cases/`: a configuration, and what it is compiled to or why it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.golden import CASES, read, run

GOLDEN: list[Any] = [
    pytest.param("access", marks=pytest.mark.requirement("PM-43", "PM-44")),
    "access_wrong",
    pytest.param("addresses", marks=pytest.mark.requirement("PM-07")),
    "aliases",
    pytest.param("all_levels", marks=pytest.mark.requirement("AG-02")),
    pytest.param("article_stdio", marks=pytest.mark.requirement("AG-01")),
    pytest.param("article_streamable", marks=pytest.mark.requirement("AG-01", "AG-05", "AG-36", "AG-37")),
    pytest.param("auth_without_tokens", marks=pytest.mark.requirement("PM-35")),
    pytest.param("auth_wrong", marks=pytest.mark.requirement("PM-35")),
    pytest.param("backend_json", marks=pytest.mark.requirement("PM-04", "PM-06", "PM-08")),
    "basic_and_header",
    "binds",
    "binds_clash",
    "binds_hostnames",
    "binds_hostnames_fit",
    pytest.param("binds_wrong", marks=pytest.mark.requirement("AG-02")),
    "blocks",
    "blocks_wrong",
    pytest.param("browser", marks=pytest.mark.requirement("AG-36", "AG-37")),
    "browser_advice",
    "browser_defaults",
    pytest.param("browser_wrong", marks=pytest.mark.requirement("AG-36")),
    "client_keys",
    "containers",
    "disabled_twice",
    pytest.param("duplicate_keys", marks=pytest.mark.requirement("AG-02")),
    pytest.param("durations", marks=pytest.mark.requirement("AG-05")),
    "empty",
    pytest.param("environment", marks=pytest.mark.requirement("AG-07")),
    "environment_name",
    "environment_secret",
    "environment_secret_meaning",
    pytest.param("environment_structure", marks=pytest.mark.requirement("AG-07")),
    pytest.param("environment_unset", marks=pytest.mark.requirement("AG-07")),
    "headers",
    "hosted",
    "hosted_environment",
    "hosted_over_http",
    "hosted_secrets",
    "hosted_wrong",
    "incomplete",
    "json_broken",
    "json_with_tabs",
    "limits",
    "limits_wrong",
    "listen",
    "listen_file",
    "listen_wrong",
    "modifiers",
    "names",
    pytest.param("prefix", marks=pytest.mark.requirement("PM-22")),
    "prefix_wrong",
    "proxies",
    pytest.param("protocols", marks=pytest.mark.requirement("PM-04", "PM-08", "PM-09", "PM-12")),
    "route_policies",
    "route_policies_wrong",
    "same_port",
    "secrets_not_shown",
    "several_files",
    "several_files_clash",
    pytest.param("stdio", marks=pytest.mark.requirement("PM-05")),
    "stdio_targets",
    "stdio_targets_wrong",
    pytest.param("timeout_defaults", marks=pytest.mark.requirement("PM-17", "PM-19")),
    pytest.param("timeouts", marks=pytest.mark.requirement("PM-20")),
    "store",
    "tls",
    "tls_wrong",
    "tokens",
    "tokens_wrong",
    pytest.param("types", marks=pytest.mark.requirement("PM-04", "PM-10", "PM-11")),
    pytest.param("unknown_keys", marks=pytest.mark.requirement("AG-02")),
    pytest.param("urls", marks=pytest.mark.requirement("PM-07")),
    "wrong_shapes",
    "yaml_broken",
]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_configuration_gives_exactly_its_result(name: str) -> None:
    """The lower part of a case is what comes out of its upper part."""
    case = read(name)

    assert run(case) == case.expected


def test_every_case_is_run() -> None:
    """A file in the folder that nobody runs would prove nothing."""
    listed = [name if isinstance(name, str) else str(name.values[0]) for name in GOLDEN]

    assert len(listed) == len(set(listed))
    assert set(listed) == {file.stem for file in CASES.glob("*.txt")}


SECRET = ["environment_secret", "environment_secret_meaning", "environment_name", "secrets_not_shown"]


@pytest.mark.parametrize("name", SECRET)
def test_no_complaint_shows_a_secret(name: str) -> None:
    """The secret of these cases begins with `hush`; whatever is said about it, it is not repeated."""
    case = read(name)
    said = run(case)

    assert said.startswith("error ")
    assert "hush" not in said.replace("no instance 'hush'", "")
