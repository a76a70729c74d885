"""One row per Debian package with a French description; the label is the archive's section."""
import os
import re
import tarfile

from .apt import Apt, stanzas
from .draw import log, share
from .groups import Union, near_duplicates
from .text import long_html, long_plain, words

# the 27 largest sections of bookworm, and their names in French
SECTIONS = {
    "admin": "Administration système",
    "devel": "Développement",
    "doc": "Documentation",
    "editors": "Éditeurs",
    "fonts": "Polices de caractères",
    "games": "Jeux",
    "gnome": "GNOME",
    "gnu-r": "GNU R",
    "graphics": "Graphisme",
    "java": "Java",
    "kde": "KDE",
    "libdevel": "Bibliothèques de développement",
    "libs": "Bibliothèques",
    "lisp": "Lisp",
    "localization": "Traductions",
    "mail": "Courrier électronique",
    "math": "Mathématiques",
    "misc": "Divers",
    "net": "Réseau",
    "perl": "Perl",
    "python": "Python",
    "science": "Sciences",
    "sound": "Son",
    "text": "Traitement de texte",
    "utils": "Utilitaires",
    "web": "Web",
    "x11": "Système X Window",
}
CODE = {section: 10 * (i + 1) for i, section in enumerate(SECTIONS)}  # 10 .. 270
LABELS = {CODE[section]: name for section, name in SECTIONS.items()}


def source_stem(name):
    """gcc-11-cross and gcc-12-cross are one product: gcc-cross."""
    return re.sub(r"[-.]*\d[\d.]*", "", name).strip("-.") or name


def load_suite(apt, suite):
    """Rows of a suite, and the source of each of its packages."""
    french, rows, sources = {}, [], {}
    for text in apt.texts(suite, "Translations"):
        for entry in stanzas(text):
            if "Description-fr" in entry:
                french[entry["Package"], entry["Description-md5"]] = entry["Description-fr"]
    for text in apt.texts(suite, "Packages"):
        for entry in stanzas(text):
            package = entry["Package"]
            source = sources[package] = entry.get("Source", package).split()[0]
            section = entry.get("Section", "").split("/")[-1]
            description = french.get((package, entry.get("Description-md5")))
            if description and section in CODE:
                title, _, rest = description.partition("\n")
                rows.append(
                    dict(
                        item=package,
                        source=source,
                        group=source_stem(source),
                        code=CODE[section],
                        kind=section,
                        suite=suite,
                        title=title.strip(),
                        raw=rest,
                        text=long_plain(rest),
                    )
                )
    log(suite, len(french), "translations,", len(rows), "rows in the 27 sections")
    return rows, sources


def load_suites(apt, reference, suites):
    """Each package once, the reference suites first; and the source of each package."""
    rows, sources, known = [], {}, set()
    for suites_of, is_reference in ((reference, 1), (suites, 0)):
        for suite in suites_of:
            found, of = load_suite(apt, suite)
            sources = {**of, **sources}
            for row in found:
                if row["item"] not in known:
                    known.add(row["item"])
                    row["reference"] = is_reference
                    rows.append(row)
    rows.sort(key=lambda row: (-row["reference"], row["item"]))
    log(len(rows), "packages")
    return rows, sources


def without_duplicates(rows, near, keep_near):
    """Drops rows of the same text, then nearly the same text; what resembles goes to one group."""
    union, kept, first = Union(), [], {}
    for row in rows:
        key = (row["code"], " ".join(words(row["title"] + " " + row["text"])))  # digits and accents off
        if key in first:
            union.join(first[key], row["group"])
        else:
            first[key] = row["group"]
            kept.append(row)
    log(len(rows) - len(kept), "exact duplicates dropped")
    drop, pairs = set(), 0
    for i, j in near_duplicates(kept, near):
        pairs += 1
        union.join(kept[i]["group"], kept[j]["group"])
        if kept[i]["code"] == kept[j]["code"] and (kept[i]["reference"] or not kept[j]["reference"]):
            drop.add(j)
    for row in kept:
        row["group"] = union.find(row["group"])
    log(pairs, "near-duplicate pairs;", len(drop), "rows", "kept" if keep_near else "dropped")
    return kept if keep_near else [row for i, row in enumerate(kept) if i not in drop]


def icons_of(suite, apt):
    """(package, picture's file name) of each component of a suite, and the pictures."""
    components, pictures = [], {}
    for text in apt.texts(suite, "DEP-11"):
        for document in text.split("\n---\n"):
            package = re.search(r"(?m)^Package: (\S+)$", document)
            icon = re.search(r"(?ms)^Icon:\n(.*?)(?=^\S|\Z)", document)
            name = icon and re.search(r"(?m)^\s*- name: (\S+\.png)$", icon.group(1))
            if package and name:
                components.append((package.group(1).strip("'\""), name.group(1).strip("'\"")))
    for kind in ("DEP-11-icons", "DEP-11-icons-large"):  # the larger one last: it wins
        for archive in apt.targets[suite, kind]:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile():
                        pictures[os.path.basename(member.name)] = tar.extractfile(member).read()
    return components, pictures


def load_icons(apt, suites, sources):
    """Pictures by package, and by source package."""
    own, by_source = {}, {}
    for suite in suites:
        components, pictures = icons_of(suite, apt)
        new = 0
        for package, name in sorted(components):
            if name in pictures and package not in own:
                own[package] = pictures[name]
                new += 1
                if sources.get(package):
                    by_source.setdefault(sources[package], pictures[name])
        log(suite, len(components), "components with an icon,", new, "packages new")
    return own, by_source


def rows(args, apt_folder):
    suites = args.suites.split(",")
    reference = [s for s in args.reference.split(",") if s] if args.heldout else []
    apt = Apt(apt_folder, list(dict.fromkeys(suites + reference)), icons=not args.no_images)
    apt.update()
    found, sources = load_suites(apt, reference, suites)
    found = without_duplicates(found, args.near, args.keep_near)
    if args.heldout:
        old = {row["group"] for row in found if row["reference"]}  # a source with any French row there is known
        found = [row for row in found if not row["reference"] and row["group"] not in old]
        log(len(found), "rows from sources unknown to", ",".join(reference))
    own, by_source = {}, {}
    if not args.no_images:
        own, by_source = load_icons(apt, [s for s in dict.fromkeys(suites + reference) if s != "sid"], sources)
    for row in found:
        row["picture"] = own.get(row["item"]) or (by_source.get(row["source"]) if args.images == "source" else None)
        messy = share(args.seed, "messy", row["group"])  # a seller writes all its offers one way
        if share(args.seed, "missing", row["item"]) < args.missing:
            row["text"] = ""
        elif messy < args.html:
            row["text"] = long_html(row["raw"], entities=messy < args.html / 3)
    return found
