"""Reads a page as a person would: its text, the fields of its forms, what is said beside them, the verdicts."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx

_EMPTY = frozenset({"meta", "link", "img", "input", "br"})


class Page(HTMLParser):
    """`tags` are all with their attributes, `fields` what the forms hold, `steps` verdict, rule and the rest."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        assert answer.headers["content-type"] == "text/html; charset=utf-8", answer.text
        self.status = answer.status_code
        self.html = answer.text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.fields: dict[str, str] = {}
        self.wrong: dict[str, str] = {}
        self.steps: list[tuple[str, str, str]] = []
        self.settings: list[str] = []
        self.answers: list[str] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self._texts: list[str] = []
        self.feed(self.html)
        self.close()
        assert self._open == [], "a tag is not closed"

    @property
    def text(self) -> str:
        """All that can be read."""
        return _one_line(self._texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.tags.append((tag, found))
        if tag == "input":
            self.fields[found["name"]] = found["value"]
        if tag not in _EMPTY:
            self._open.append((tag, found, []))

    def handle_endtag(self, tag: str) -> None:
        """See `HTMLParser`."""
        opened, attributes, texts = self._open.pop()
        assert opened == tag, f"{opened} is closed by {tag}"
        text = _one_line(texts)
        classes = attributes.get("class", "").split()
        if tag == "textarea":
            self.fields[attributes["name"]] = "".join(texts).removeprefix("\n")
        elif tag == "option" and "selected" in attributes:
            self.fields["method"] = text
        elif "wrong" in classes:
            self.wrong[attributes["id"].removesuffix("-wrong")] = text
        elif "answer" in classes:
            self.answers.append(text)
        elif tag == "code" and self._inside("steps"):
            self.settings.append(text)
        elif tag == "li" and self._inside("steps"):
            badge, rule, *rest = [_one_line([each]) for each in texts if each.strip()]
            self.steps.append((badge, rule, " ".join(rest)))

    def handle_data(self, data: str) -> None:
        """See `HTMLParser`."""
        self._texts.append(data)
        aside = any(tag == "small" for tag, _, _ in self._open)  # what a rule is about
        for tag, _, texts in self._open:
            if tag != "li" or not aside:
                texts.append(data)

    def _inside(self, name: str) -> bool:
        return any(name in attributes.get("class", "").split() for _, attributes, _ in self._open)

    def verdicts(self) -> list[tuple[str, str]]:
        """Rules with their verdicts, in order."""
        return [(rule, verdict) for verdict, rule, _ in self.steps]


def _one_line(texts: list[str]) -> str:
    return " ".join("".join(texts).split())
