"""What a page must keep: balanced tags, nothing from outside."""

from html.parser import HTMLParser

import pytest

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


class Strict(HTMLParser):
    """Reads a page and complains of whatever is not closed, doubled, or from elsewhere."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.tags, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert len(values) == len(attrs), attrs
        assert not any(name.startswith("on") for name in values), attrs
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            assert (values.get(name) or "#").startswith(("#", "data:image/")), attrs
        self.ids += [values["id"]] if "id" in values else []
        self.tags.append((tag, values))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def read_page(text):
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert "http://" not in text
    assert "https://" not in text
    return page


@pytest.fixture(name="read_page")
def _read_page():
    return read_page
