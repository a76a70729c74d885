//! Pictures as files beside the table: ten rows, of which the one on line 5 has the bad one.

use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::Command;

use image::ImageFormat;
use vitrine_contract::exit;

use crate::case::{Case, Expect, Source, corrupt};
use crate::made::{flat_jpeg, flat_jpeg_of, gif, jpeg, picture, png_of};

const BAD: &str = "images/3.jpg";

/// Ten rows with the columns `file`, `text` and `label`; `file` of line `n + 2` is `n`.
pub fn catalogue() -> String {
    (0..10).fold("file,text,label\n".to_owned(), |table, row| format!("{table}{row},produit {row},a\n"))
}

fn with(name: &'static str, make: impl Fn(&Source) + Send + Sync + 'static, expect: Expect) -> Case {
    let make = move |source: &Source| {
        source.write("X.csv", catalogue());
        for row in (0..10).filter(|row| *row != 3) {
            source.write(&format!("images/{row}.jpg"), jpeg(row));
        }
        make(source);
    };
    Case::new(name, make, expect).image("images/{file}.jpg", None, true)
}

fn bytes(name: &'static str, bytes: Vec<u8>, expect: Expect) -> Case {
    with(name, move |source| source.write(BAD, &bytes), expect)
}

fn good() -> Expect {
    Expect::Pictures { count: 10, missing: 0, unreadable: 0, line: 0, says: "" }
}

fn bad(says: &'static str) -> Expect {
    Expect::Pictures { count: 9, missing: 0, unreadable: 1, line: 5, says }
}

/// The row on line 5 names its picture so.
fn named(name: &'static str, cell: &'static str, expect: Expect) -> Case {
    let make = move |source: &Source| {
        source.write("X.csv", catalogue().replace("\n3,", &format!("\n{cell},")));
    };
    with(name, make, expect)
}

pub fn cases() -> Vec<Case> {
    let mut all = formats();
    all.extend(places());
    all.extend(required());
    all
}

fn formats() -> Vec<Case> {
    let whole = jpeg(3);
    let cut = whole[..whole.len() / 2].to_vec();
    let mut broken = picture(ImageFormat::Png, 3);
    let middle = broken.len() / 2;
    broken[middle] ^= 0xFF;
    let mut screen = gif(1);
    screen[6..10].fill(0xFF);
    vec![
        bytes("JPEG", whole.clone(), good()),
        bytes("CMYK JPEG", flat_jpeg(4, false), good()),
        bytes("progressive JPEG", flat_jpeg(1, true), good()),
        bytes("PNG named .jpg", picture(ImageFormat::Png, 3), good()),
        bytes("WebP", picture(ImageFormat::WebP, 3), good()),
        bytes("GIF without animation", gif(1), good()),
        bytes("zero bytes", Vec::new(), bad("images/3.jpg: it is empty")),
        bytes("truncated JPEG", cut, bad("cut off")),
        bytes("JPEG without its last byte", whole[..whole.len() - 1].to_vec(), bad("cut off")),
        bytes("truncated PNG", picture(ImageFormat::Png, 3)[..60].to_vec(), bad("images/3.jpg: it is")),
        bytes("PNG with a wrong check sum", broken, bad("broken")),
        bytes("PNG that announces 50,000 x 50,000", png_of(50_000, 50_000), bad("50000 x 50000 pixels")),
        bytes("PNG that is one line", png_of(1, 2_000_000), bad("1 x 2000000 pixels")),
        bytes("GIF that announces 65,535 x 65,535", screen, bad("65535 x 65535 pixels")),
        bytes("animated GIF", gif(3), bad("animated")),
        bytes("text named .jpg", b"<!doctype html><title>404</title>".to_vec(), bad("not a JPEG")),
        bytes("SVG named .jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), bad("not a JPEG")),
        bytes("CMYK JPEG of 24 million pixels in few bytes", flat_jpeg_of(4896, 4896, 4, false), good()),
        bytes("JPEG of 25 million pixels", flat_jpeg_of(5000, 5008, 1, false), bad("5000 x 5008 pixels")),
        bytes("JPEG of 21 MB", [whole, vec![0; 21 << 20]].concat(), bad("larger than 20 MiB")),
    ]
}

fn places() -> Vec<Case> {
    let link = |target: &'static str| move |source: &Source| symlink(target, source.path(BAD)).unwrap();
    let gone = Expect::Pictures {
        count: 9,
        missing: 1,
        unreadable: 0,
        line: 5,
        says: "there is no picture images/3.jpg",
    };
    vec![
        with("missing picture", |_| (), gone),
        with("a link out of the source", link("/etc/passwd"), bad("symbolic link")),
        with("a link to the token", link("../../token"), bad("symbolic link")),
        with("a link to endless bytes", link("/dev/zero"), bad("symbolic link")),
        with("a link within the source", link("4.jpg"), good()),
        with("a folder", |source| fs::create_dir(source.path(BAD)).unwrap(), bad("not a file")),
        with(
            "a pipe",
            |source| assert!(Command::new("mkfifo").arg(source.path(BAD)).status().unwrap().success()),
            bad("not a file"),
        ),
        with(
            "a hole of 10 GB",
            |source| File::create(source.path(BAD)).unwrap().set_len(10 << 30).unwrap(),
            bad("larger than 20 MiB"),
        ),
        named("a cell that climbs", "../../../../etc/passwd", bad("leads out of the source")),
        named("a cell with a NUL byte", "3\0", bad("not usable text")),
        named(
            "an empty cell",
            "",
            Expect::Pictures { count: 9, missing: 1, unreadable: 0, line: 5, says: "images/.jpg" },
        ),
        named(
            "a cell that no file name can be",
            "33333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333333",
            Expect::Pictures {
                count: 9,
                missing: 1,
                unreadable: 0,
                line: 5,
                says: "there is no picture images/333",
            },
        ),
        with(
            "an absolute path from a cell",
            |source| source.write("X.csv", catalogue().replace("\n3,", "\n/etc/passwd,")),
            Expect::Pictures {
                count: 0,
                missing: 9,
                unreadable: 1,
                line: 5,
                says: "leads out of the source",
            },
        )
        .image("{file}", None, true),
    ]
}

fn required() -> Vec<Case> {
    let rejected = |reason| Expect::Quarantined { rows: 9, reason, rejected: 1, line: 5 };
    let cut = jpeg(3)[..100].to_vec();
    vec![
        with("a picture that must be there", |_| (), rejected("noPicture")).image(
            "images/{file}.jpg",
            None,
            false,
        ),
        with(
            "a picture that must be usable",
            move |source| source.write(BAD, &cut),
            rejected("pictureUnreadable"),
        )
        .image("images/{file}.jpg", None, false),
        with(
            "a template that fits no file",
            |_| (),
            corrupt(&["10 of 10 rows of X.csv", "line 2", "no picture pictures/0.png"]),
        )
        .image("pictures/{file}.png", None, false),
        with(
            "a template of a column that is not there",
            |_| (),
            corrupt(&["X.csv has no column \"imageid\"", "\"file\""]),
        )
        .image("images/{imageid}.jpg", None, true),
        with(
            "a template that climbs",
            |_| (),
            Expect::Refused { code: exit::CONFIG, reason: "InvalidSpec", words: &["pathTemplate", ".."] },
        )
        .image("../{file}.jpg", None, true),
    ]
}
