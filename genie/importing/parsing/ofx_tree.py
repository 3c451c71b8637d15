"""Reads the tree of elements of an OFX document: OFX 1 is SGML, which leaves closing tags out, and OFX 2 is XML."""

import html
import re
from typing import Final
from xml.etree.ElementTree import Element

_TOKEN: Final = re.compile(
    r"<!\[CDATA\[(?P<raw>.*?)\]\]>|<!--.*?-->|<[?!][^>]*>"
    r"|<(?P<end>/?)(?P<tag>[A-Za-z][\w.]*)[^<>]*?(?P<empty>/?)>|(?P<text>[^<]+|<)",
    re.DOTALL,
)
# Elements that are read one by one: if an element lacks its closing tag, nobody can tell where the next begins.
_MUST_CLOSE: Final = frozenset(
    (
        *("OFX", "STMTRS", "CCSTMTRS", "INVSTMTRS", "BANKTRANLIST", "STMTTRN", "LEDGERBAL"),
        *("INVTRANLIST", "INVBUY", "INVSELL", "INVPOSLIST", "INVPOS", "SECINFO"),
    )
)
_MAX_DEPTH: Final = 100


def parse_ofx(text: str) -> Element:
    """Return the `OFX` element of a document; the text before and after the element is left out.

    Entities in an element's text stay as they are written. An element that has neither text nor a closing tag has no
    children. Raises `ValueError` if there is no `OFX` element, or if tags do not match.
    """
    begin = re.search(r"<OFX\b[^<>]*>", text)
    if begin is None:
        raise ValueError("it has no <OFX> element")
    open_: list[Element] = []
    for token in _TOKEN.finditer(text, begin.start()):
        if token["tag"] is None:
            open_[-1].text = (open_[-1].text or "") + (token["text"] or html.escape(token["raw"] or "", quote=False))
            continue
        if not token["end"]:
            _open(open_, token["tag"])
        if token["end"] or token["empty"]:
            closed = _close(open_, token["tag"])
            if not open_:
                return closed
    raise ValueError(f"it ends inside <{open_[-1].tag}>")


def _open(open_: list[Element], tag: str) -> None:
    if len(open_) > 1 and _is_leaf(open_[-1]):
        open_.pop()
    if len(open_) == _MAX_DEPTH:
        raise ValueError(f"its elements are nested more than {_MAX_DEPTH} deep")
    element = Element(tag)
    if open_:
        open_[-1].append(element)
    open_.append(element)


def _close(open_: list[Element], tag: str) -> Element:
    """Close and return the innermost open element of this tag; also close the open elements inside it.

    Raises `ValueError` if there is no such element, or if an element inside it must have its own closing tag.
    """
    while (last := open_.pop()).tag != tag:
        if not open_ or last.tag in _MUST_CLOSE:
            raise ValueError(f"</{tag}> closes <{last.tag}>")
        if not _is_leaf(last):  # an element without text or closing tag is empty: its children are its siblings
            open_[-1].extend(list(last))
            last[:] = []
    return last


def _is_leaf(element: Element) -> bool:
    return not len(element) and bool((element.text or "").strip())
