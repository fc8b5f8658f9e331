"""A changed text: what was asked for is changed, and every other byte is as it was."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ginnel.network.patch import Patch, bare_or_quoted

TEXT = """\
# The file's own.

# Above the first.
[node.a] # behind
x = 1
# Below.

# A block of its own.

[group.g]
nodes = [
    "a", # one
    "b"  # two
]
near = ["a", "b", "c"]

[[link]]
between = ["a", "b"]
[link.ends.a]
y = { a = 1, b = 2 }

[[link]]
between = ["c", "b"]

[node.b]
x = 'c'
"""


def patched(**calls: tuple[object, ...]) -> str:
    patch = Patch(TEXT)
    for name, arguments in calls.items():
        getattr(patch, name)(*arguments)
    return patch.result()


def without(*lines: str) -> str:
    text = TEXT
    for line in lines:
        assert line in text
        text = text.replace(line, "", 1)
    return text


def test_nothing_changes_nothing() -> None:
    assert patched() == TEXT
    assert Patch(TEXT.replace("\n", "\r\n")).result() == TEXT.replace("\n", "\r\n")


def test_a_table_goes_with_the_comments_that_touch_it() -> None:
    expected = without("# Above the first.\n[node.a] # behind\nx = 1\n# Below.\n\n")
    assert patched(remove_table=(("node", "a"),)) == expected


def test_the_last_table_leaves_no_blank_line_behind() -> None:
    assert patched(remove_table=(("node", "b"),)) == without("\n[node.b]\nx = 'c'\n")


def test_a_table_of_an_array_goes_with_its_sub_tables() -> None:
    gone = '[[link]]\nbetween = ["a", "b"]\n[link.ends.a]\ny = { a = 1, b = 2 }\n\n'
    assert patched(remove_tables=("link", [0])) == without(gone)


def test_a_pair_of_an_inline_table_goes_with_its_comma() -> None:
    assert patched(remove_table=(("link", 0, "ends", "a", "y", "a"),)) == TEXT.replace("{ a = 1, b = 2 }", "{ b = 2 }")
    assert patched(remove_table=(("link", 0, "ends", "a", "y", "b"),)) == TEXT.replace("{ a = 1, b = 2 }", "{ a = 1 }")


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ([0], '["b", "c"]'),
        ([1], '["a", "c"]'),
        ([2], '["a", "b"]'),
        ([0, 1], '["c"]'),
        ([1, 2], '["a"]'),
        ([0, 2], '["b"]'),
        ([0, 1, 2], "[]"),
    ],
)
def test_items_of_a_list_go_with_their_commas(gone: list[int], left: str) -> None:
    assert patched(remove_items=(("group", "g", "near"), gone)) == TEXT.replace('["a", "b", "c"]', left)


def test_items_with_lines_of_their_own_go_with_these() -> None:
    assert patched(remove_items=(("group", "g", "nodes"), [1])) == without('    "b"  # two\n')
    assert patched(remove_items=(("group", "g", "nodes"), [0])) == without('    "a", # one\n')


def test_an_item_is_put_in_as_the_others_are_written() -> None:
    assert patched(append_item=(("group", "g", "near"), "d")) == TEXT.replace('"b", "c"]', '"b", "c", "d"]')
    assert patched(append_item=(("group", "g", "nodes"), "d")) == TEXT.replace('"b"  # two\n', '"b",  # two\n    "d"\n')


def test_a_new_table_comes_behind_the_last_of_its_kind() -> None:
    assert patched(insert_after=("node", "[node.z]")) == TEXT + "\n[node.z]\n"
    assert patched(insert_after=("group", "[group.z]")) == TEXT.replace('"c"]\n', '"c"]\n\n[group.z]\n')
    patch = Patch("x = 1")
    patch.insert_after("node", "[node.z]")
    assert patch.result() == "x = 1\n\n[node.z]\n"


def test_names_and_strings_keep_their_quotes() -> None:
    assert patched(rename=(("node", "a"), "z")) == TEXT.replace("[node.a]", "[node.z]")
    assert patched(rename=(("link", 0, "ends", "a"), "z.y")) == TEXT.replace("ends.a", 'ends."z.y"')
    assert patched(set_text=(("node", "b", "x"), "z")) == TEXT.replace("'c'", "'z'")
    assert patched(set_text=(("link", 1, "between", 0), "z")) == TEXT.replace('["c", "b"]', '["z", "b"]')


def test_mixed_line_ends_stay_where_they_are() -> None:
    mixed = "[a]\r\nx = 1\n\r\n[node.b]\r\ny = 2\n[c]\r\n"
    patch = Patch(mixed)
    patch.rename(("node", "b"), "z")
    patch.insert_after("node", "[node.q]")
    assert patch.result() == "[a]\r\nx = 1\n\r\n[node.z]\r\ny = 2\n\r\n[node.q]\r\n[c]\r\n"


NAMES = st.sampled_from(["a", "b", "c", '"d.e"', "'f g'"])
COMMENTS = st.sampled_from(["", " # why", "  #"])
BETWEEN = st.sampled_from(["", "\n", "\n\n", "# about it\n", "# a block\n\n", "\n# about it\n"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Nodes written in several ways, with comments and blank lines anywhere."""
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=5))
    text = draw(BETWEEN)
    for name in names:
        lists = draw(st.sampled_from(['["x", "y"]', '[\n  "x", # one\n  "y",\n]', "[ \"x\" , 'y' ]", '[\n"x"\n,"y"]']))
        head = f"[node.{name}]{draw(COMMENTS)}\n"
        body = f"k = {lists}{draw(COMMENTS)}\nt = {{ u = 1, v = {{ w = 2 }} }}\n"
        sub = f"[node.{name}.sub]\nz = 1\n" if draw(st.booleans()) else ""
        text += head + body + draw(BETWEEN) + sub + draw(BETWEEN)
        if draw(st.booleans()):
            text += f"[[link]]\nof = {name if name[0] in chr(34) + chr(39) else repr(name)}\n" + draw(BETWEEN)
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@given(documents(), st.data())
def test_whatever_is_taken_out_nothing_else_goes(text: str, data: st.DataObject) -> None:
    before = tomllib.loads(text)
    name = data.draw(st.sampled_from(sorted(before["node"])))
    links = [index for index, link in enumerate(before.get("link", [])) if link["of"] == name]
    patch = Patch(text)
    patch.remove_table(("node", name))
    patch.remove_tables("link", links)
    result = patch.result()
    del before["node"][name]
    after = tomllib.loads(result)
    assert after.get("node", {}) == before["node"]
    assert after.get("link", []) == [link for link in before.get("link", []) if link["of"] != name]
    assert all(line in text for line in result.splitlines())


@given(documents(), st.data())
def test_lists_and_names_of_any_style(text: str, data: st.DataObject) -> None:
    before = tomllib.loads(text)
    name = data.draw(st.sampled_from(sorted(before["node"])))
    patch = Patch(text)
    patch.remove_items(("node", name, "k"), [data.draw(st.integers(0, 1))])
    other = data.draw(st.sampled_from(sorted(before["node"])))
    if other != name:
        patch.append_item(("node", other, "k"), "z")
    patch.rename(("node", name), "new name")
    after = tomllib.loads(patch.result())["node"]
    assert len(after["new name"]["k"]) == 1
    if other != name:
        assert after[other]["k"] == ["x", "y", "z"]
    assert {key for key in after if key != "new name"} == set(before["node"]) - {name}


def test_keys_are_quoted_where_they_need_it() -> None:
    assert bare_or_quoted("a-1_B") == "a-1_B"
    assert tomllib.loads(f"{bare_or_quoted('a b')} = 1") == {"a b": 1}
    assert tomllib.loads(f"{bare_or_quoted(chr(34) + chr(92))} = 1") == {'"\\': 1}
