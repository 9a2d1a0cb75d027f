"""A page as a program sees it: its tags, tables and text."""

import re
from html.parser import HTMLParser
from itertools import pairwise

REFERENCES = ("src", "href", "poster", "srcset", "action", "data")
VOID = {"meta", "link", "img", "line", "path", "use", "br", "wbr", "input"}


class Page(HTMLParser):
    """Collects what the tests ask for. An unbalanced tag is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[dict]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._table: list[list[dict]] | None = None
        self._cell: dict | None = None
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(dict(attrs)["id"], [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._cell = {"tag": tag, "text": "", **dict(attrs)}
            self._table[-1].append(self._cell)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag, tag
        if tag == "table":
            self._table = None
        elif tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell["text"] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def assert_whole(html: str) -> None:
    """A page that fetches nothing and runs nothing."""
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name in REFERENCES:
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in re.sub(r"url\(#", "", html)
    assert "@import" not in html
    policy = next(meta["content"] for meta in page.all("meta") if "content-security-policy" in str(meta).lower())
    assert "default-src 'none'" in policy


def assert_linked(html: str) -> None:
    """Every name is there once, and every reference has its target."""
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(each["href"])[1:] for each in page.all("a")]
    used = [
        *links,
        *re.findall(r"url\(#([^)]+)\)", html),
        *(str(each.get("aria-labelledby")) for each in page.all("section")),
    ]
    assert links
    assert set(used) <= set(ids)


def assert_heard(page: Page) -> None:
    """Headings in order, pictures with what they show, tables with their heads."""
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(
        picture.get("aria-label") or picture.get("aria-hidden") for picture in page.all("svg") if "class" not in picture
    )
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert all(cell["tag"] == "th" for rows in page.tables.values() for cell in [*rows[0], *(row[0] for row in rows)])
    assert page.tags[0][0] == "html"
    assert page.tags[0][1]["lang"] == "en"
