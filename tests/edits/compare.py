"""Reads pairs of mails: nothing differs between N.before and N.after but the links that N.json names.

Uses html5lib where it is installed, and the standard library's parser otherwise.
"""

import email
import email.policy
import glob
import json
import re
import sys
from html.parser import HTMLParser

try:
    import html5lib
except ImportError:
    html5lib = None


class Events(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.events, self.data = [], ""

    def flush(self):
        if self.data:
            self.events.append(("text", self.data))
        self.data = ""

    def handle_starttag(self, tag, attrs):
        self.flush()
        self.events.append((tag, attrs))

    def handle_endtag(self, tag):
        self.flush()
        self.events.append(("/" + tag,))

    def handle_data(self, data):
        self.data += data

    def handle_comment(self, data):
        self.flush()
        self.events.append(("comment", events(data[data.find("]>") + 2:]) if data.lstrip().startswith("[if") else data))


def events(html):
    if html5lib:
        walker = html5lib.getTreeWalker("etree")
        found, text = [], ""
        for token in walker(html5lib.parse(html)):
            if token["type"] in ("Characters", "SpaceCharacters"):
                text += token["data"]
                continue
            if text:
                found.append(("text", text))
            text = ""
            data = token.get("data")
            if token["type"] == "Comment" and data.lstrip().startswith("[if"):
                data = events(data[data.find("]>") + 2:])
            elif isinstance(data, dict):
                data = sorted((str(name), value) for name, value in data.items())
            found.append((token["type"], token.get("name"), data))
        found.append(("text", text))
        return found
    parser = Events()
    parser.feed(html)
    parser.close()
    parser.flush()
    return parser.events


def without(value, swap):
    if isinstance(value, str):
        return swap(value)
    if isinstance(value, (list, tuple)):
        return [without(item, swap) for item in value]
    return value


def fields(part):
    # A part whose line would be too long is encoded anew.
    return [item for item in part.items() if item[0].lower() != "content-transfer-encoding"]


folder, count = sys.argv[1], 0
for note in glob.glob(folder + "/*.json"):
    stem, told = note[:-5], json.load(open(note))
    links = sorted(told["links"], key=len, reverse=True)
    one, other = (email.message_from_bytes(open(stem + end, "rb").read()) for end in (".before", ".after"))
    one, other = list(one.walk()), list(other.walk())
    assert [fields(part) for part in one] == [fields(part) for part in other], stem
    for left, right in zip(one, other):
        if left.is_multipart():
            continue
        html, (left, right) = left.get_content_type() == "text/html", (
            part.get_payload(decode=True).decode(part.get_content_charset("utf-8"), "replace") for part in (left, right)
        )
        if html:
            left, right = events(left), events(right)

        def old(text):
            for link in links:
                text = text.replace(link, "LINK")
            return text

        left, right = without(left, old), without(right, lambda text: re.sub(re.escape(told["url"]) + "[A-Za-z0-9_-]+", "LINK", text))
        assert left == right, (stem, left, right)
        assert not any(link in str(right) for link in links), stem
    count += 1
print(count, "mails read again by", "html5lib" if html5lib else "html.parser")
