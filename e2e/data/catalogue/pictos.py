"""One row per emoji (French CLDR name and keywords, Noto picture) and per Tux Paint stamp
(French caption, picture); the label is one of 27 kinds of thing. Every row has a picture."""
import collections
import glob
import io
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

from .apt import Apt
from .draw import log, share
from .groups import Union
from .text import unaccented

# kind: (its readable name, emoji-test subgroups, Tux Paint folders)
KINDS = {
    "visages": ("Visages", "face-.* cat-face monkey-face emotion heart", "symbols/faces"),
    "mains et corps": ("Mains et corps", "hand.* body-parts", "symbols/alphabets/asl"),
    "personnes": (
        "Personnes",
        "person person-gesture person-role person-activity person-resting family person-symbol",
        "people",
    ),
    "fantastique": ("Fantastique", "person-fantasy", "seasonal/halloween"),
    "sport": ("Sport", "sport person-sport", "sports"),
    "mammiferes": ("Mammifères", "animal-mammal", "animals/mammals animals/marsupials"),
    "oiseaux": ("Oiseaux", "animal-bird", "animals/birds"),
    "mer et reptiles": (
        "Mer et reptiles",
        "animal-amphibian animal-reptile animal-marine",
        "animals/fish animals/lizards animals/shellfish animals/amphibians animals/dinosaur",
    ),
    "insectes": ("Insectes", "animal-bug", "animals/insects"),
    "plantes": ("Plantes", "plant-.*", "plants"),
    "fruits et legumes": ("Fruits et légumes", "food-fruit food-vegetable", "food/fruit food/vegetables food/nuts food/spices"),
    "plats et boissons": (
        "Plats et boissons",
        "food-prepared food-asian food-marine food-sweet drink dishware",
        "food household/dishes",
    ),
    "batiments": ("Bâtiments", "place-.* hotel", "town"),
    "vehicules": ("Véhicules", "transport-ground transport-water transport-air", "vehicles military"),
    "ciel et espace": ("Ciel et espace", "sky.*", "space naturalforces"),
    "horloges": ("Horloges", "time", ""),
    "fetes": ("Fêtes", "event award-medal", "seasonal"),
    "jeux et arts": ("Jeux et arts", "game arts.*", "hobbies symbols/chess household/arttools"),
    "vetements": ("Vêtements", "clothing", "clothes"),
    "musique": ("Musique", "sound music musical-instrument", "symbols/music hobbies/music"),
    "electronique": ("Électronique", "phone computer light.*", "household/electronics"),
    "papeterie": ("Papeterie", "book-paper mail writing office", ""),
    "outils et maison": ("Outils et maison", "lock tool household other-object science", "household household/tools"),
    "medecine": ("Médecine", "medical", "medical"),
    "symboles": (
        "Symboles",
        "transport-sign warning arrow religion zodiac av-symbol gender math punctuation other-symbol geometric currency money",
        "symbols",
    ),
    "lettres et chiffres": ("Lettres et chiffres", "keycap alphanum", "symbols/alphabets symbols/math"),
    "drapeaux": ("Drapeaux", "flag country-flag subdivision-flag", "town/flags"),
}
CODE = {kind: 10 * (i + 1) for i, kind in enumerate(sorted(KINDS))}
LABELS = {CODE[kind]: KINDS[kind][0] for kind in sorted(KINDS)}
ARTICLES = "un une le la les des de du d l".split()


def kind_of_stamp(folder):
    """The kind that names the longest part of a stamp's folder."""
    best = ("", None)
    for kind, (_, _, folders) in KINDS.items():
        for prefix in folders.split():
            if (folder + "/").startswith(prefix + "/") and len(prefix) > len(best[0]):
                best = (prefix, kind)
    return best[1]


def kind_of_emoji(subgroup):
    for kind, (_, patterns, _) in KINDS.items():
        if any(re.fullmatch(p, subgroup) for p in patterns.split()):
            return kind
    return None


def french_names(cldr):
    """Emoji -> name, and emoji -> keywords."""
    names, keywords = {}, {}
    for file in ("annotations/fr.xml", "annotationsDerived/fr.xml"):
        for element in ET.parse(f"{cldr}/usr/share/unicode/cldr/common/{file}").iter("annotation"):
            emoji = element.get("cp").replace("\ufe0f", "")
            (names if element.get("type") == "tts" else keywords)[emoji] = element.text
    return names, keywords


def emoji_rows(unicode_data, cldr, noto):
    from PIL import Image, ImageDraw, ImageFont

    names, keywords = french_names(cldr)
    font = ImageFont.truetype(noto + "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", 109)
    subgroup = ""
    with open(unicode_data + "/usr/share/unicode/emoji/emoji-test.txt", encoding="utf8") as lines:
        for line in lines:
            if line.startswith("# subgroup:"):
                subgroup = line.split(":")[1].strip()
            match = re.match(r"([0-9A-F ]+?)\s*; fully-qualified", line)
            if not match:
                continue
            drawn = "".join(chr(int(x, 16)) for x in match.group(1).split())
            emoji = drawn.replace("\ufe0f", "")
            toned = re.search("[\U0001f3fb-\U0001f3ff]", drawn) and subgroup != "hair-style"
            kind = kind_of_emoji(subgroup)
            if toned or emoji not in names or not kind:
                continue
            image = Image.new("RGBA", (136, 128), "white")
            ImageDraw.Draw(image).text((0, 0), drawn, font=font, embedded_color=True)
            png = io.BytesIO()
            image.save(png, "PNG")
            yield dict(
                item="emoji-" + match.group(1).replace(" ", "-"),
                group="emoji-" + re.sub("\u200d[\u2640\u2642].*$", "", emoji),  # man/woman forms together
                code=CODE[kind],
                kind=kind,
                suite="emoji",
                title=names[emoji][:1].upper() + names[emoji][1:],
                text=(keywords.get(emoji) or "").replace(" | ", ", "),
                picture=png.getvalue(),
            )


def stamp_picture(base):
    """The bytes of a stamp's picture, or None: SVG needs rsvg-convert."""
    if os.path.exists(base + ".png"):
        with open(base + ".png", "rb") as file:
            return file.read()
    rsvg = shutil.which("rsvg-convert")
    if os.path.exists(base + ".svg") and rsvg:
        done = subprocess.run([rsvg, "-w", "400", base + ".svg"], capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None
    return None


def stamp_rows(tuxpaint):
    root = tuxpaint + "/usr/share/tuxpaint/stamps"
    for name in sorted(glob.glob(root + "/**/*.txt", recursive=True)):
        with open(name, encoding="utf8", errors="replace") as file:
            caption = re.search(r"(?m)^fr\.utf8=(.+)$", file.read())
        kind = kind_of_stamp(os.path.relpath(os.path.dirname(name), root))
        picture = caption and kind and stamp_picture(name[:-4])
        if not picture:
            continue
        item = "tux-" + os.path.relpath(name[:-4], root)
        text = caption.group(1).strip()
        title, _, rest = text.partition(". ") if len(text) > 60 else (text, "", "")
        yield dict(item=item, group=item, code=CODE[kind], kind=kind, suite="tuxpaint", title=title, text=rest, picture=picture)


def rows(args, apt_folder):
    suites = args.suites.split(",")
    apt = Apt(apt_folder, suites)
    apt.update()
    names = ("unicode-data", "unicode-cldr-core", "fonts-noto-color-emoji", "tuxpaint-stamps-default")
    unicode_data, cldr, noto, tuxpaint = (apt.package(name, suites[-1]) for name in names)
    found = [*emoji_rows(unicode_data, cldr, noto), *stamp_rows(tuxpaint)]
    union = Union()  # "Un chat." (stamp) and "Chat" (emoji): same side of the split
    for row in found:
        plain = [w for w in re.findall(r"[a-z0-9]+", unaccented(row["title"])) if w not in ARTICLES]
        union.join(row["group"], "texte " + " ".join(plain))
    for row in found:
        row["group"] = union.find(row["group"])
        if row["suite"] == "emoji" and share(args.seed, "missing", row["item"]) < args.missing:
            row["text"] = ""
    log(dict(collections.Counter(row["suite"] for row in found)))
    return found
