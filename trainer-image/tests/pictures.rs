#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! Pictures in snapshots: kept as they were found, and in nobody's way.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::Path;

use image::{DynamicImage, ImageFormat, RgbImage};
use parquet::file::reader::{FileReader, SerializedFileReader};
use support::{Shop, challenge, products, search};
use vitrine_contract::exit;
use vitrine_contract::job::{Image, Ingest, Split};
use vitrine_contract::report::Images;
use vitrine_trainer::ingest::{Places, SNAPSHOT, ingest};
use vitrine_trainer::meter::Meter;
use vitrine_trainer::snapshot::{Reader, Row};
use vitrine_trainer::split::Part;

fn jpeg(seed: usize) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(8, 8, image::Rgb([seed as u8, (seed >> 8) as u8, 9]));
    DynamicImage::ImageRgb8(picture).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// Products of which the row `n` has the picture `jpeg(n)`, and task and source for them.
fn shop(rows: usize) -> (Shop, Ingest) {
    let (x, y) = products(rows);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    fs::create_dir(shop.source().join("images")).unwrap();
    for row in 0..rows {
        shop.write(&format!("images/image_7_product_{}.jpg", 900_000 + row), jpeg(row));
    }
    (shop, with_pictures(challenge()))
}

fn with_pictures(task: Ingest) -> Ingest {
    let path_template = "images/image_{imageid}_product_{productid}.jpg".to_owned();
    Ingest { image: Some(Image { path_template, optional: true, archive: None }), ..task }
}

fn rows_with_pictures(path: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    Reader::open(path)
        .unwrap()
        .for_each_with_picture(|row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    rows
}

/// The digests that the trainer made of these files before it knew of pictures.
#[test]
fn a_snapshot_without_pictures_is_byte_for_byte_the_one_from_before_there_were_any() {
    let (x, y) = products(60);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    let places = Places { source: shop.source(), out: shop.out("out"), fixed_test: None };
    let ingested = ingest(&challenge(), &places, &BTreeMap::new(), &Meter::silent()).unwrap();
    assert_eq!(
        [ingested.manifest.digest, ingested.snapshot.digest, ingested.profile.digest],
        [
            "sha256:99b5f636f4c8043c085c48e83ba6111c69408f8388324de47d00a7be5bf5bc01",
            "sha256:b7e2b8d87236ad1fca3ebddb404ac036c17b55db360c4e8c4a85c1fdb7b3636a",
            "sha256:6f68140e1d71f807584bbce5d4709bb9b0592b91dbe1a8c94231565d0e9d8081",
        ]
    );
    assert_eq!(ingested.images, None);
}

#[test]
fn pictures_are_kept_as_they_were_found_and_move_no_row() {
    let (shop, task) = shop(60);
    fs::remove_file(shop.source().join("images/image_7_product_900004.jpg")).unwrap();
    shop.write("images/image_7_product_900005.jpg", "no picture");
    let without = shop.ingest_to(&challenge(), "without", None).unwrap();
    let with = shop.ingest_to(&task, "with", None).unwrap();
    let again = shop.ingest_to(&task, "again", None).unwrap();
    assert_eq!(with, again, "equal pictures give equal bytes");
    let images = Some(Images { count: 58, missing: 1, unreadable: 1 });
    assert_eq!((with.images, shop.manifest("with").images), (images, images));
    assert_eq!((&with.splits, with.groups, with.rows), (&without.splits, without.groups, without.rows));
    assert_ne!(with.manifest, without.manifest);
    let plain = shop.rows("without");
    assert_eq!(shop.rows("with"), plain, "without their pictures the rows are the same");
    let rows = rows_with_pictures(&shop.out("with").join(SNAPSHOT));
    for (number, (row, plain)) in rows.into_iter().zip(plain).enumerate() {
        let picture = (!matches!(number, 4 | 5)).then(|| jpeg(number));
        assert_eq!(row, Row { image: picture, ..plain });
    }
    // Another picture is another data set, and the same split.
    shop.write("images/image_7_product_900003.jpg", jpeg(999));
    let other = shop.ingest_to(&task, "other", None).unwrap();
    assert_ne!(other.manifest, with.manifest);
    assert_eq!(other.splits, with.splits);
}

#[test]
fn training_does_not_read_the_pictures() {
    let (shop, task) = shop(200);
    shop.ingest(&task).unwrap();
    let path = shop.out("out").join(SNAPSHOT);
    let file = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let group = file.metadata().row_group(0);
    let image = group.columns().last().unwrap();
    assert_eq!(image.column_path().string(), "image");
    let (start, length) = image.byte_range();
    // Whoever reads the column now reads rubbish.
    let mut damaged = File::options().write(true).open(&path).unwrap();
    damaged.seek(SeekFrom::Start(start)).unwrap();
    damaged.write_all(&vec![0xFF; length as usize]).unwrap();
    assert!(Reader::open(&path).unwrap().for_each_with_picture(|_| Ok(())).is_err());
    shop.train(&search(), 1).unwrap();
}

#[test]
fn row_groups_stay_small_however_large_the_pictures_are() {
    let (shop, task) = shop(24);
    for row in 0..24 {
        let path = shop.source().join(format!("images/image_7_product_{}.jpg", 900_000 + row));
        // What follows a JPEG's end marker is part of the file and not of the picture.
        File::options().write(true).open(path).unwrap().set_len(4 << 20).unwrap();
    }
    let ingested = shop.ingest(&task).unwrap();
    assert!(ingested.snapshot.bytes > 24 * (4 << 20));
    let file = File::open(shop.out("out").join(SNAPSHOT)).unwrap();
    let file = SerializedFileReader::new(file).unwrap();
    assert_eq!(file.num_row_groups(), 3);
    for group in file.metadata().row_groups() {
        assert!(group.total_byte_size() <= (32 << 20) + (1 << 20), "{}", group.total_byte_size());
    }
    let rows = rows_with_pictures(&shop.out("out").join(SNAPSHOT));
    assert!(rows.iter().all(|row| row.image.as_ref().is_some_and(|image| image.len() == 4 << 20)));
}

#[test]
fn a_fixed_test_set_brings_its_pictures_where_they_are_wanted() {
    let (shop, task) = shop(9);
    shop.ingest_to(&task, "fixed", None).unwrap();
    shop.write("X.csv", ",designation,description,productid,imageid\n0,velo,,1,1\n1,train,,2,1\n");
    shop.write("Y.csv", ",prdtypecode\n0,10\n1,60\n");
    let split = Split {
        train: 1.0,
        validation: 0.0,
        test: 0.0,
        fixed_test: Some("sha256:x".into()),
        ..task.split.clone()
    };
    let fixed = shop.out("fixed").join(SNAPSHOT);
    let with = Ingest { split: split.clone(), ..task };
    let ingested = shop.ingest_to(&with, "with", Some(&fixed)).unwrap();
    assert_eq!(ingested.images, Some(Images { count: 0, missing: 2, unreadable: 0 }), "of this source");
    let rows = rows_with_pictures(&shop.out("with").join(SNAPSHOT));
    let there = |part: Part| rows.iter().filter(|row| row.part == part && row.image.is_some()).count();
    assert_eq!((there(Part::Train), there(Part::Test)), (0, 9));
    let without = Ingest { image: None, ..with };
    shop.ingest_to(&without, "without", Some(&fixed)).unwrap();
    assert!(!Reader::open(&shop.out("without").join(SNAPSHOT)).unwrap().pictures);
}

#[test]
fn a_text_column_may_be_called_image_as_long_as_there_are_no_pictures() {
    let shop = Shop::new(&[("X.csv", "image,label\nun,a\ndeux,b\n")]);
    let mut task = Ingest { text: vec!["image".into()], ..support::single() };
    shop.ingest(&task).unwrap();
    assert_eq!(shop.rows("out")[1].texts, [Some("deux".to_owned())]);
    let path_template = "{label}.jpg".to_owned();
    task.image = Some(Image { path_template, optional: true, archive: None });
    let error = shop.ingest(&task).unwrap_err();
    assert_eq!((error.reason(), error.exit_code()), ("InvalidSpec", exit::CONFIG), "{error}");
}
