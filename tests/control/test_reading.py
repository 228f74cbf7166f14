"""Texts to nodes: values, places, and limits on hostile texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moongate.control.jsontext import read_json
from moongate.control.nodes import Mapping, Node, find, plain
from moongate.control.reading import Unreadable
from moongate.control.yamltext import read_yaml

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def node_of(found: tuple[Node | None, object]) -> Node:
    """The node of a reader's answer."""
    node = found[0]
    assert node is not None
    return node


@given(VALUES, st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_the_library_reads_it(value: object, indent: str | int | None) -> None:
    """Whatever can be written as JSON comes back the same, however it is indented."""
    assert plain(node_of(read_json(json.dumps(value, indent=indent), "a.json"))) == value


@given(VALUES)
def test_yaml_gives_back_what_was_dumped(value: object) -> None:
    """The same for YAML; its keys are always text."""
    assert plain(node_of(read_yaml(yaml.safe_dump(value), "a.yaml"))) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but the refusal that carries a place."""
    for read in (read_json, read_yaml):
        line = 1
        try:
            read(text, "a")
        except Unreadable as error:
            line = error.place.line
        assert 1 <= line <= len(text.splitlines()) + 1


@pytest.mark.requirement("AG-02")
@pytest.mark.parametrize("text", ['{\n"a":\n [\n  1,\n  {"b":\n   2}]}', "\na:\n- \n  1\n- b:\n   2\n"])
def test_every_key_and_item_knows_its_line(text: str) -> None:
    """A key's place is the line of the key, an item's the line where it begins."""
    root = node_of(read_json(text, "f") if text.startswith("{") else read_yaml(text, "f"))
    assert isinstance(root, Mapping)

    assert str(find(root, ("a",)).place) == "f:2"
    assert str(find(root, ("a", 0)).place) == "f:4"
    assert str(find(root, ("a", 1, "b")).place) == "f:5"
    assert str(find(root, ("a", 1, "missing", "deeper")).place) == "f:5"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("2027-01-01", "2027-01-01"),
        ("1:30", "1:30"),
        ("0o17", 15),
        ("0x1f", 31),
        ("017", 17),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("~", None),
        ("True", True),
        ("'1'", "1"),
        ("!!str 1", "1"),
    ],
)
def test_yaml_has_the_types_of_its_version_1_2(text: str, value: object) -> None:
    """`off` is text, dates are text, and only true and false are booleans."""
    assert plain(node_of(read_yaml(text, "a.yaml"))) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
        ("a: &a [x]\nb: *c\n", r"\*c is used"),
        ("a: !!python/object:os.system x\n", "tags"),
        ("a: 1\n---\nb: 2\n", "second YAML document"),
        ("a: 1\nb: \x07\n", "unreadable character"),
        ("? {a: b}\n: c\n", "a key must be plain text"),
        (
            "a0: &a0 x\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
            "more than",
        ),
    ],
)
def test_hostile_yaml_is_refused(text: str, reason: str) -> None:
    """Deep nesting, multiplying aliases, tags and other surprises end in a refusal, at once."""
    with pytest.raises(Unreadable, match=reason) as caught:
        read_yaml(text, "a.yaml")

    assert 1 <= caught.value.place.line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested deeper than 64"),
        ("1" * 400, "a value is expected"),
        ('"\\ud800"', "surrogate"),
        ('"a\nb"', "does not end on its line"),
        ("[01]", "a value is expected"),
        ("NaN", "a value is expected"),
        ("[1] 2", "after the end"),
        ('{"a" 1}', "a colon is expected"),
        ("[1 2]", "a comma or ] is expected"),
        ("[1,]", "remove the comma"),
    ],
)
def test_what_is_no_json_is_refused(text: str, reason: str) -> None:
    """Each with its own reason."""
    with pytest.raises(Unreadable, match=reason):
        read_json(text, "a.json")
