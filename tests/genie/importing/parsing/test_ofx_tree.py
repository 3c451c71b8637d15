"""OFX's two ways to write a tree: with every closing tag, and without those of elements that hold text."""

from contextlib import suppress
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.genie.importing.parsing.ofx_tree import parse_ofx

Tree = tuple[str, "str | list[Tree]"]
# A leaf is not called as what it stands in may be: without its own closing tag it would take that of the other.
groups, leaf_names = (st.from_regex(rf"{first}[A-Z0-9.]{{0,6}}", fullmatch=True) for first in "GL")
texts = st.text(st.characters(exclude_characters="<>&", exclude_categories=("C",)), min_size=1).filter(str.strip)
leaves: st.SearchStrategy[Tree] = st.tuples(leaf_names, texts)
trees: st.SearchStrategy[Tree] = st.recursive(
    leaves, lambda inner: st.tuples(groups, st.lists(inner, min_size=1, max_size=4)), max_leaves=12
)


def written(tree: Tree, *, closed: bool) -> str:
    """The tree as a document has it; `closed` writes the closing tags of elements with text too."""
    tag, content = tree
    if isinstance(content, str):
        return f"<{tag}>{content}</{tag}>" if closed else f"<{tag}>{content}"
    return f"<{tag}>{''.join(written(inner, closed=closed) for inner in content)}</{tag}>"


def read(element: Element) -> Tree:
    """The tree that was read."""
    return element.tag, [read(inner) for inner in element] if len(element) else (element.text or "")


@given(st.lists(trees, min_size=1, max_size=4), st.booleans())
def test_a_tree_is_read_as_it_was_written(inner: list[Tree], closed: bool) -> None:
    """With and without the closing tags of leaves, behind any header and before any rest."""
    document = f"OFXHEADER:100\nDATA:OFXSGML\n\n{written(('OFX', inner), closed=closed)}\nmore"
    assert read(parse_ofx(document)) == ("OFX", inner)


@given(st.lists(trees, min_size=1, max_size=4), st.booleans(), st.data())
def test_a_document_that_was_cut_is_refused(inner: list[Tree], closed: bool, data: st.DataObject) -> None:
    """Nothing of it is taken for the whole."""
    whole = written(("OFX", inner), closed=closed)
    with pytest.raises(ValueError, match=r"it (ends inside|has no)"):
        parse_ofx(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(
    st.lists(
        st.sampled_from(
            ["<OFX>", "</OFX>", "<A>", "</A>", "<B/>", "x", "<", ">", "<!-- ", "-->", "<![CDATA[", "]]>", "<?"]
        )
    )
)
def test_any_text_is_read_or_refused(parts: list[str]) -> None:
    """No other error comes of it."""
    with suppress(ValueError):
        assert parse_ofx("".join(parts)).tag == "OFX"


def test_an_empty_element_without_a_closing_tag_has_no_children() -> None:
    """What follows stands beside it, also where several such elements follow each other."""
    root = parse_ofx("<OFX><STMTTRN><FITID><NAME><MEMO>text<SIC></STMTTRN><REFNUM/></OFX>")
    assert read(root) == (
        "OFX",
        [("STMTTRN", [("FITID", ""), ("NAME", ""), ("MEMO", "text"), ("SIC", "")]), ("REFNUM", "")],
    )


def test_a_posting_that_is_not_closed_is_no_empty_element() -> None:
    """Its values must not become those of its statement."""
    with pytest.raises(ValueError, match="</BANKTRANLIST> closes <STMTTRN>"):
        parse_ofx("<OFX><BANKTRANLIST><STMTTRN><FITID>1<STMTTRN><FITID>2</STMTTRN></BANKTRANLIST></OFX>")


def test_raw_text_keeps_its_marks() -> None:
    """A section of raw text reads as written once its entities are resolved; comments are left out."""
    assert (
        parse_ofx("<OFX><NAME><![CDATA[Fish & <Chips>]]><!-- no --></NAME></OFX>")[0].text == "Fish &amp; &lt;Chips&gt;"
    )


def test_elements_that_never_end_are_refused() -> None:
    """Before they fill the memory."""
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        parse_ofx("<OFX>" + "<A>" * 100_000)
