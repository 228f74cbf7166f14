"""Reads what tests look at out of Markdown pages: links, headings, code blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*)$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


def pages() -> list[Path]:
    """README, CHANGELOG and every page below docs."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def text(page: Path) -> str:
    """A page."""
    return page.read_text("utf-8")


def blocks(page_text: str, language: str) -> list[str]:
    """The contents of code blocks in a language."""
    return [match[2] for match in _FENCE.finditer(page_text) if match[1] == language]


def prose(page_text: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page_text)


def code(page_text: str) -> list[str]:
    """Everything that a reader may type: shell blocks by line, and pieces of code in sentences and tables."""
    lines = [line for block in blocks(page_text, "sh") for line in block.splitlines()]
    return lines + _CODE.findall(prose(page_text))


def links(page_text: str) -> list[str]:
    """The targets of links and pictures."""
    return _LINK.findall(_CODE.sub("code", prose(page_text)))


def anchors(page_text: str) -> set[str]:
    """The names that headings can be linked by."""
    titles = (title.strip().lower() for title in _HEADING.findall(prose(page_text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def broken_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Relative links that lead nowhere, to a missing heading, or out of `root`."""
    for link in links(text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.exists() and target.is_relative_to(root)
        if not found or (anchor and anchor not in anchors(text(target))):
            yield link


def table(page_text: str, *columns: str) -> list[list[str]]:
    """The cells of all tables that begin with these columns, row by row."""
    rows: list[list[str]] = []
    inside = False
    for line in page_text.splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif tuple(cells[: len(columns)]) == columns:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows
