"""Texts as sellers write them: plain or HTML, with or without entities; and their plain words."""
import html
import html.entities
import re
import unicodedata


def unaccented(text):
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


def words(text):
    return re.findall(r"[a-z]{2,}", unaccented(text))


def long_plain(text):
    """Debian's long description as plain paragraphs joined by blanks."""
    return re.sub(r"\s+", " ", re.sub(r"(?m)^\s*\.\s*$", "\n", text)).strip()


class Html:
    """Collects paragraphs and lists."""

    def __init__(self):
        self.blocks, self.paragraph, self.items = [], [], []

    def flush(self):
        if self.paragraph:
            self.blocks.append("<p>" + " ".join(self.paragraph) + "</p>")
        if self.items:
            self.blocks.append("<ul>" + "".join(f"<li>{i}</li>" for i in self.items) + "</ul>")
        self.paragraph, self.items = [], []

    def add(self, line):
        text = html.escape(line.strip(), quote=False)
        item = re.match(r"[-*+•]\s+(.*)", text)
        if item:
            self.items.append(item.group(1))
        elif self.items and line.startswith("  "):
            self.items[-1] += " " + text
        else:
            if self.items:
                self.flush()
            self.paragraph.append(text)


def long_html(text, entities):
    """Debian's long description as the archive's own package pages show it."""
    page = Html()
    for line in text.split("\n"):
        if line.strip() in ("", "."):
            page.flush()
        else:
            page.add(line)
    page.flush()
    out = "\n".join(page.blocks)
    if entities:
        names = html.entities.codepoint2name
        out = "".join(f"&{names[ord(c)]};" if ord(c) > 127 and ord(c) in names else c for c in out)
    return out
