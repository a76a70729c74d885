"""Writes rows as the challenge's files: features and labels of train and test, pictures by the
ids in their names; and beside them where each row is from, the labels' names and figures."""
import collections
import csv
import hashlib
import io
import json
import os

from .draw import log, number, share

PARTS = (
    ("train", "X_train_update.csv", "Y_train_CVw08PX.csv", "image_train"),
    ("test", "X_test_update.csv", "Y_test_secret.csv", "image_test"),
)


def jpeg(picture, size):
    """A picture on a white square, as the shops' are."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    scale = 0.9 * size / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.LANCZOS)
    square = Image.new("RGB", (size, size), "white")
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2), image)
    out = io.BytesIO()
    square.save(out, "JPEG", quality=85)
    return out.getvalue()


def limited(rows, limit, seed):
    """At most `limit` rows: whole groups, drawn by the seed."""
    size = collections.Counter(row["group"] for row in rows)
    taken, total = set(), 0
    for group in sorted(size, key=lambda g: number(seed, "limit", g)):
        if total + size[group] <= limit:
            taken.add(group)
            total += size[group]
    return [row for row in rows if row["group"] in taken]


class Ids:
    """Numbers drawn by the seed, each once."""

    def __init__(self, seed):
        self.seed, self.used = seed, set()

    def draw(self, kind, row, top, repetition):
        attempt = 0
        while True:
            value = number(self.seed, kind, row["item"], repetition, attempt) % top + 1
            if (kind, value) not in self.used:
                self.used.add((kind, value))
                return value
            attempt += 1


def csv_writer(file):
    return csv.writer(file, lineterminator="\n")


class Writer:
    def __init__(self, args):
        self.args, self.ids = args, Ids(args.seed)
        self.index, self.pictures, self.provenance = 0, 0, []

    def part(self, name, features, labels, folder, rows):
        folder = os.path.join(self.args.out, "images", folder)
        os.makedirs(folder, exist_ok=True)
        for old in os.listdir(folder):
            os.remove(os.path.join(folder, old))
        with open(os.path.join(self.args.out, features), "w", newline="", encoding="utf8") as x_file, open(
            os.path.join(self.args.out, labels), "w", newline="", encoding="utf8"
        ) as y_file:
            x, y = csv_writer(x_file), csv_writer(y_file)
            x.writerow(["", "designation", "description", "productid", "imageid"])
            y.writerow(["", "prdtypecode"])
            for repetition in range(self.args.replicate if name == "train" else 1):
                for row in rows:
                    product = self.ids.draw("product", row, 4252000000, repetition)
                    image = self.ids.draw("image", row, 1328000000, repetition)
                    x.writerow([self.index, row["title"], row["text"], product, image])
                    y.writerow([self.index, row["code"]])
                    has = self.picture(row, f"{folder}/image_{image}_product_{product}.jpg")
                    self.provenance.append(
                        [self.index, name, row["item"], row["group"], row["kind"], row["code"], row["suite"], int(has)]
                    )
                    self.index += 1

    def picture(self, row, name):
        if self.args.no_images or not row.get("picture"):
            return False
        try:
            data = jpeg(row["picture"], self.args.image_size)
        except (OSError, ValueError) as error:  # what the archive holds is not ours to mend
            log("no picture for", row["item"], error)
            return False
        with open(name, "wb") as file:
            file.write(data)
        self.pictures += 1
        return True


def stats(args, parts, pictures):
    rows = parts["train"] + parts["test"]
    codes, kinds = collections.Counter(row["code"] for row in rows), {row["code"]: row["kind"] for row in rows}
    texts = [row["text"] for row in rows if row["text"]]
    digests = {}
    for _, features, labels, _ in PARTS:
        for name in (features, labels):
            with open(os.path.join(args.out, name), "rb") as file:
                digests[name] = hashlib.sha256(file.read()).hexdigest()[:16]
    return dict(
        args={key: value for key, value in vars(args).items() if key != "out"},
        rows=len(rows),
        train=len(parts["train"]) * args.replicate,
        test=len(parts["test"]),
        classes=len(codes),
        groups=len({row["group"] for row in rows}),
        largest=max(codes.values()),
        smallest=min(codes.values()),
        imbalance=round(max(codes.values()) / min(codes.values()), 1),
        mean_title_chars=round(sum(len(row["title"]) for row in rows) / len(rows), 1),
        missing_description=round(1 - len(texts) / len(rows), 3),
        mean_description_chars_when_present=round(sum(map(len, texts)) / max(1, len(texts)), 1),
        html_description=round(sum("<" in t and "</" in t for t in texts) / len(rows), 3),
        with_image=round(pictures / (len(parts["train"]) * args.replicate + len(parts["test"])), 3),
        class_counts={f"{code} {kinds[code]}": n for code, n in sorted(codes.items(), key=lambda x: -x[1])},
        sha256=digests,
    )


def write(args, rows, labels):
    """Returns the figures that stats.json holds."""
    rows.sort(key=lambda row: number(args.seed, "order", row["item"]))
    if args.limit:
        rows = limited(rows, args.limit, args.seed)
    parts = {"train": [], "test": []}
    for row in rows:
        parts["test" if share(args.seed, "split", row["group"]) < args.test else "train"].append(row)
    writer = Writer(args)
    for name, features, labels_file, folder in PARTS:
        writer.part(name, features, labels_file, folder, parts[name])
    with open(os.path.join(args.out, "provenance.csv"), "w", newline="", encoding="utf8") as file:
        out = csv_writer(file)
        out.writerow(["index", "split", "item", "group", "section", "prdtypecode", "suite", "image"])
        out.writerows(writer.provenance)
    figures = stats(args, parts, writer.pictures)
    for name, content in (("labels.json", {str(code): label for code, label in labels.items()}), ("stats.json", figures)):
        with open(os.path.join(args.out, name), "w", encoding="utf8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.write("\n")
    return figures
