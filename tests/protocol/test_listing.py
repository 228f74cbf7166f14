"""Lists without some of their items: nothing else may change, whatever the server writes around them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moongate.protocol import listing
from moongate.protocol.listing import LISTS, UncutError, cut_lists, may_list

TOOLS = frozenset({"tools"})


def cut(message: str, kept: str = "", members: frozenset[str] = TOOLS) -> str:
    """The message with those items whose name has one letter, one of `kept`."""
    return cut_lists(message.encode(), members, lambda _, name: name in kept).decode()


CUTS = [
    # The list, the names that stay, and what is left of it.
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "abc", '[{"name":"a"},{"name":"b"},{"name":"c"}]'),
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "bc", '[{"name":"b"},{"name":"c"}]'),
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "ac", '[{"name":"a"},{"name":"c"}]'),
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "ab", '[{"name":"a"},{"name":"b"}]'),
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "c", '[{"name":"c"}]'),
    ('[{"name":"a"},{"name":"b"},{"name":"c"}]', "", "[]"),
    ('[ {"name":"a"} ,\n\t{ "name" : "b" } ]', "b", '[ { "name" : "b" } ]'),
    ('[ {"name":"a"} ,\n\t{ "name" : "b" } ]', "", "[  ]"),
    ("[ ]", "", "[ ]"),
    ('[{"name":"\\u0061"},{"n\\u0061me":"b"}]', "a", '[{"name":"\\u0061"}]'),
    ('[{"name":"\\u0061"},{"n\\u0061me":"b"}]', "b", '[{"n\\u0061me":"b"}]'),
    ('[{"x":{"name":"a"},"name":"b"}]', "a", "[]"),
    # Whose name cannot be told is nobody's to see.
    ('[{"name":"a","name":"b"},{"name":"b","Name":"a"},{"Name":"a"},{"name":5},{"name":null},5,null,{}]', "ab", "[]"),
]


@pytest.mark.parametrize(("items", "kept", "left"), CUTS)
def test_items_are_cut_out_with_what_parts_them(items: str, kept: str, left: str) -> None:
    """All around them stays as it was, white space included."""
    frame = ' {"jsonrpc" : "2.0","result":{"nextCursor":"b","tools":%s ,"_meta":{"tools":[{"name":"z"}]}},"id":1 }\n'
    assert cut(frame % items, kept) == frame % left


def test_only_the_lists_that_are_asked_for_are_cut() -> None:
    """By the member of the result, each with its own member that names an item."""
    names = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
    assert {member: found.name for member, found in LISTS.items()} == names
    whole = {member: [{name: "x"}, {name: "y"}] for member, name in names.items()}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "result": whole}).encode()
    for member, name in names.items():
        found = json.loads(cut_lists(message, frozenset({member}), lambda _, name: name == "y"))["result"]
        assert found == {**whole, member: [{name: "y"}]}
    assert cut_lists(message, frozenset(), lambda *_: False) == message


def test_a_filtered_list_may_not_be_cached_for_others() -> None:
    """`cacheScope` becomes private, also where every item stays; one that is missing is not made up."""
    public = '{"result":{"tools":[{"name":"a"}],"cacheScope" : "public","ttlMs":5}}'
    assert cut(public, "a") == public.replace('"public"', '"private"')
    private = '{"result":{"cacheScope":"private","tools":[]}}'
    assert cut(private) == private
    other = '{"result":{"contents":[],"cacheScope":"public"}}'
    assert cut(other) == other


SAME = [
    '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"tools"}}',
    '{"jsonrpc":"2.0","method":"notifications/x","params":{"tools":[{"name":"a"}]}}',
    '{"result":null}',
    '{"result":[{"tools":[{"name":"a"}]}]}',
    '{"result":{"content":[{"tools":[{"name":"a"}]}]}}',
    "{}",
    "[]",
]


@pytest.mark.parametrize("message", SAME)
def test_what_is_no_list_stays_as_it_is(message: str) -> None:
    """Errors, notifications, results of other methods."""
    assert cut(message) == message


def test_arrays_of_messages_are_cut_one_by_one() -> None:
    """The answers of 2025-03-26 to several calls."""
    message = '[ {"id":1,"result":{"tools":[%s{"name":"b"}]}} , {"id":2,"error":{}},{"id":3,"result":{"tools":[%s]}}]'
    left = message % ("", "")
    message %= '{"name":"a"},', '{"name":"a"}'
    assert cut(message, "b") == left


UNSAFE = [
    '{"result":{"tools":[{"name":"a"}],"tools":[]}}',
    '{"result":{"tools":[],"t\\u006fols":[{"name":"a"}]}}',
    '{"result":{"tools":[],"Tools":[{"name":"a"}]}}',
    '{"result":{"tools":[]},"result":{"tools":[{"name":"a"}]}}',
    '{"result":{"tools":{"a":{}}}}',
    '{"result":{"tools":null}}',
    '{"result":{"tools":[{"name":"a"}],"x":NaN}}',
    '{"result":{"tools":[{"name":"a"}]}',
    '{"result":{"tools":[{"name":"a"}]}}{}',
    '["no message"]',
    '\ufeff{"result":{"tools":[]}}',
    "no JSON",
    "",
]


@pytest.mark.parametrize("message", UNSAFE)
def test_what_two_readers_could_read_differently_is_not_cut(message: str) -> None:
    """Neither is what is no JSON at all: it is not passed on."""
    with pytest.raises(UncutError):
        cut(message, "a")


LOOKS = [
    ('{"result":{"tools":[', True),
    ('{"jsonrpc" : "2.0", "id":1,"result" : { "_meta":{"a":["{"]},"resources" :\n[{"uri"', True),
    ('data: {"id":5,"result":{"prompts":[]}}', True),
    ('[{"id":5,"result":{"resourceTemplates":[', True),
    ('{"result":{"capabilities":{"tools":{}}}}', False),
    ('{"result":{"structuredContent":{"tools":[]}}}', False),
    ('{"result":{"content":["tools",["tools"]]}}', False),
    ('{"result":{"content":[{"text":"{\\"tools\\":[]}"}]}}', False),
    ('{"result":{"toolsets":[]}}', False),
    ('{"result":{"x":"', False),
    ("", False),
]


@pytest.mark.parametrize(("window", "expected"), LOOKS)
def test_an_answer_looks_like_a_list_by_how_it_begins(window: str, expected: bool) -> None:
    """Only a member of the result itself counts."""
    assert may_list(window.encode()) is expected


PIECES = (
    *('"tools"', '"prompts"', '"resources"', '"resourceTemplates"', '"content"', '"xtools"', "tools", r"\"tools\""),
    *(":", ":", "[", "[", " ", "\n", "{", '"', "s", "x"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_the_quick_look_at_an_answer_overlooks_no_list(window: str) -> None:
    """Whatever white space is where: what might open a list is looked at closely."""
    found = listing._LISTED.search(window.encode())
    assert found is None or listing._MAY_OPEN.search(window.encode(), found.start()) is not None


def spaced(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """With white space before and behind."""
    blank = st.text(" \t\r\n", max_size=2)
    return st.tuples(blank, values, blank).map("".join)


def objects(members: st.SearchStrategy[list[tuple[str, str]]]) -> st.SearchStrategy[str]:
    """Objects of such members, which have their own white space."""
    joined = members.map(lambda pairs: ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs))
    return joined.map(lambda inner: "{" + inner + "}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
).map(json.dumps)
OTHER = st.text("xyz", min_size=1, max_size=3)


@st.composite
def items(draw: st.DrawFn) -> tuple[str, str]:
    """A name, and an item of a list that has it."""
    name = draw(st.sampled_from("abcd"))
    members = [("name", draw(spaced(st.just(json.dumps(name)))))]
    members += list(draw(st.dictionaries(OTHER, spaced(JSON), max_size=2)).items())
    return name, draw(objects(st.permutations(members)))


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[tuple[str, str]], str, str]:
    """The items of a list with their names, what stands before its bracket, and what stands behind."""
    found = draw(st.lists(items(), max_size=6))
    before = [
        f"{json.dumps(key)}:{value}" for key, value in draw(st.dictionaries(OTHER, spaced(JSON), max_size=2)).items()
    ]
    behind = draw(spaced(st.just('"nextCursor":"a"')))
    start = '{"jsonrpc":"2.0","id":1,"result":{' + "".join(f"{member}," for member in before) + '"tools":['
    return found, start, "]," + behind + "}}"


@given(answers(), st.lists(st.text(" \t\r\n", max_size=2), min_size=14, max_size=14), st.sets(st.sampled_from("abcd")))
def test_every_other_byte_stays(
    answer: tuple[list[tuple[str, str]], str, str], blanks: list[str], kept: set[str]
) -> None:
    """Any list in any surroundings: the items that stay are there as they were written, in their order, and so is all
    the rest; what is left is JSON and says the same.
    """
    found, start, end = answer
    texts = [blanks[2 * number] + item + blanks[2 * number + 1] for number, (_, item) in enumerate(found)]
    whole = start + ",".join(texts) + blanks[12] * (not texts) + end

    left = cut_lists(whole.encode(), TOOLS, lambda _, name: name in kept).decode()

    assert left.startswith(start)
    assert left.endswith(end)
    stays = [item for name, item in found if name in kept]
    inside = left[len(start) : len(left) - len(end)]
    position = 0
    for item in stays:
        position = inside.index(item, position) + len(item)
    assert "".join(inside.split()).replace(",", "") == "".join("".join(stays).split()).replace(",", "")
    expected: dict[str, Any] = json.loads(whole)
    expected["result"]["tools"] = [one for one in expected["result"]["tools"] if one["name"] in kept]
    assert json.loads(left) == expected
    if len(stays) == len(found):
        assert left == whole


BOMBS = [
    b'{"result":{"tools":1,"x":[],"content":[{"text":"%b',
    b'{"id":1,"x":{"y":{"tools":[%b',
    b'[[[["tools":[%b',
]
FILLINGS = [b'\\"', b"\\", b'"', b"{}", b'"tools"', b"[", b'"tools":[']


@pytest.mark.parametrize("around", BOMBS)
@pytest.mark.parametrize("filling", FILLINGS)
def test_looking_for_a_list_takes_linear_time(around: bytes, filling: bytes) -> None:
    """Whatever a window holds, cut off in the middle of a text or no JSON at all: it is looked through once."""

    def seconds(count: int) -> float:
        window = around % (filling * count)
        found = []
        for _ in range(3):
            before = time.perf_counter()
            may_list(window)
            found.append(time.perf_counter() - before)
        return min(found)

    assert seconds(60_000) < 40 * seconds(6_000) + 0.05
    assert seconds(60_000) < 2


def test_a_list_behind_a_text_with_quotes_is_seen() -> None:
    """Escaped quotes, and a text that goes on behind the window."""
    text = '"' * 99 + "\\"
    assert may_list(json.dumps({"result": {"a": text, "tools": []}}).encode())
    assert not may_list(json.dumps({"result": {"a": text + '"tools":['}}).encode())
    assert not may_list(json.dumps({"result": {"a": text + '"tools":['}}).encode()[:-9])
