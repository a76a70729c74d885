#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! Tables as they come, good and bad.

mod support;

use std::fs;

use support::{Shop, challenge, products, single};
use vitrine_contract::exit;
use vitrine_contract::job::{Sample, Split};
use vitrine_gateway_client::digest_of_file;
use vitrine_trainer::ingest::{MANIFEST, SNAPSHOT};
use vitrine_trainer::split::Part;

#[test]
fn the_challenges_files_become_a_snapshot_row_by_row() {
    let x = "\u{feff},designation,description,productid,imageid\r\n\
             0,\"Étagère \"\"murale\"\", chêne\",,3804725264,1\r\n\
             2,Piscine,\"<p>ligne 1\nligne 2</p>\",436067568,2\r\n";
    let y = ",prdtypecode\n2,2583\n0,10\n";
    let shop = Shop::new(&[("X.csv", x), ("Y.csv", y)]);
    let ingested = shop.ingest(&challenge()).unwrap();
    let rows = shop.rows("out");
    assert_eq!((ingested.rows, ingested.classes, ingested.rejected_rows), (2, 2, 0));
    assert_eq!(rows[0].id, "3804725264");
    assert_eq!(rows[0].texts, [Some("Étagère \"murale\", chêne".to_owned()), None]);
    assert_eq!(rows[0].label.as_deref(), Some("10"));
    assert_eq!(rows[1].texts[1].as_deref(), Some("<p>ligne 1\nligne 2</p>"));
    assert_eq!(rows[1].label.as_deref(), Some("2583"));
    let names = shop.manifest("out").labels;
    assert_eq!((names["10"].as_str(), names["2583"].as_str()), ("Livres", "category 2583"));
    assert!((ingested.null_ratios["description"] - 0.5).abs() < 1e-9);
}

#[test]
fn equal_sources_give_equal_bytes_and_the_manifest_names_them() {
    let (x, y) = products(300);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    let first = shop.ingest_to(&challenge(), "a", None).unwrap();
    let second = shop.ingest_to(&challenge(), "b", None).unwrap();
    assert_eq!(first, second);
    assert_eq!(digest_of_file(&shop.out("a").join(SNAPSHOT)).unwrap(), first.snapshot);
    assert_eq!(digest_of_file(&shop.out("a").join(MANIFEST)).unwrap(), first.manifest);
    assert_eq!(shop.manifest("a").snapshot, first.snapshot);
    let other = challenge();
    let other = vitrine_contract::job::Ingest { split: Split { seed: 43, ..other.split.clone() }, ..other };
    assert_ne!(shop.ingest_to(&other, "c", None).unwrap().manifest, first.manifest);
}

#[test]
fn rows_that_cannot_be_used_are_counted_by_reason_with_their_first_line() {
    let mut x = b",designation,description,productid,imageid\n".to_vec();
    for row in 0..10 {
        x.extend(format!("{row},produit {row},texte,{},1\n", 100 + row).into_bytes());
    }
    x.extend(b"10,trop,de,110,1,cellules\n");
    x.extend(b"11,latin \xe9t\xe9,texte,111,1\n");
    x.extend(b"12,sans classe,texte,112,1\n");
    x.extend(b"13, ,,113,1\n");
    x.extend(b"14,encore,texte,100,1\n");
    let y =
        (0..15).filter(|row| *row != 12).fold(",prdtypecode\n".to_owned(), |y, row| format!("{y}{row},7\n"));
    let shop = Shop::new(&[("Y.csv", &y)]);
    shop.write("X.csv", x);
    let ingested = shop.ingest(&challenge()).unwrap();
    assert_eq!((ingested.rows, ingested.rejected_rows), (10, 5));
    let rejected = shop.profile("out").rejected;
    let lines: Vec<_> =
        rejected.reasons.iter().map(|(why, r)| (why.as_str(), r.rows, r.first_line)).collect();
    let expected = [
        ("duplicateId", 1, 16),
        ("noLabel", 1, 14),
        ("noText", 1, 15),
        ("notUtf8", 1, 13),
        ("ragged", 1, 12),
    ];
    assert_eq!(lines, expected);
    assert!(rejected.reasons["notUtf8"].example.contains("designation"));
}

#[test]
fn bad_tables_are_final_data_errors_that_name_what_to_mend() {
    let (x, y) = products(9);
    let ragged = ",designation,description,productid,imageid\n0,a\n1,b\n2,c,d,3,4\n";
    let cases: [(&str, &str, &[&str]); 10] = [
        ("", &y, &["X.csv is empty"]),
        (",designation,description,productid\n", &y, &["X.csv", "no rows"]),
        (",title,description,productid\n0,a,b,1\n", &y, &["designation", "\"title\", \"description\""]),
        ("designation,description,productid\na,b,1\n", &y, &["X.csv", "unnamed index column"]),
        (&x, ",code\n0,1\n", &["Y.csv", "prdtypecode", "\"code\""]),
        (&x, ",prdtypecode\n", &["Y.csv", "no usable row"]),
        (&x, ",prdtypecode\n0,1\n0,2\n", &["Y.csv line 3", "second time"]),
        (&x, ",prdtypecode\n500,1\n501,2\n", &["9 of 9 rows", "no label with this index in Y.csv"]),
        (ragged, &y, &["2 of 3 rows of X.csv", "line 2", "2 cells", "5"]),
        (",designation,description,productid\n0,\"a,b,1\n2,b,c,2\n", &y, &["X.csv line 2", "never closed"]),
    ];
    for (x, y, parts) in cases {
        let shop = Shop::new(&[("X.csv", x), ("Y.csv", y)]);
        let error = shop.ingest(&challenge()).unwrap_err();
        assert_eq!((error.reason(), error.exit_code()), ("DataCorrupt", exit::DATA), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
    }
}

#[test]
fn encodings_that_are_not_utf8_are_named_with_the_command_that_mends_them() {
    let shop = Shop::new(&[]);
    shop.write("X.csv", b"\xff\xfet\0e\0x\0t\0");
    let error = shop.ingest(&single()).unwrap_err().to_string();
    assert!(error.contains("UTF-16") && error.contains("iconv"), "{error}");
    shop.write("X.csv", b"text,label\n\xe9t\xe9,1\nhiv\xe8r,2\n");
    let error = shop.ingest(&single()).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("\"text\"") && error.contains("latin1"), "{error}");
}

#[test]
fn a_missing_file_is_told_with_what_is_there() {
    let shop = Shop::new(&[("x.csv", "a\n")]);
    let error = shop.ingest(&single()).unwrap_err();
    assert_eq!((error.reason(), error.exit_code()), ("SourceNotFound", exit::DATA));
    assert!(error.to_string().contains("X.csv") && error.to_string().contains("\"x.csv\""), "{error}");
    let mut task = single();
    task.path = "nowhere".into();
    let error = shop.ingest(&task).unwrap_err();
    assert_eq!(error.reason(), "SourceNotFound");
    for outside in ["../source/x.csv", "/etc/passwd"] {
        task = single();
        task.features = outside.into();
        assert_eq!(shop.ingest(&task).unwrap_err().exit_code(), exit::CONFIG, "{outside}");
    }
}

#[test]
fn one_file_without_id_and_without_labels_is_enough() {
    let shop = Shop::new(&[("X.csv", "text,label\nun,a\ndeux,\ntrois,b\nquatre,b\n")]);
    let ingested = shop.ingest(&single()).unwrap();
    assert_eq!((ingested.rows, ingested.rejected_rows, ingested.classes), (3, 1, 2));
    let ids: Vec<_> = shop.rows("out").into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["0", "2", "3"]);
    let mut unlabelled = single();
    unlabelled.label = None;
    let ingested = shop.ingest(&unlabelled).unwrap();
    assert_eq!((ingested.rows, ingested.classes, ingested.imbalance_ratio), (4, 0, None));
}

#[test]
fn rows_of_the_fixed_test_set_are_the_test_part_and_never_in_another() {
    let shop = Shop::new(&[("X.csv", "text,label\nPompe de piscine,a\nlivre,b\njeu,c\n")]);
    assert_eq!(shop.ingest_to(&single(), "fixed", None).unwrap().overlap_rows, None);
    // The same product written otherwise, and new ones.
    shop.write("X.csv", "text,label\npompe de PISCINE!,a\nvelo,b\ntrain,c\ncamion,c\n");
    let mut task = single();
    task.split =
        Split { train: 1.0, validation: 0.0, test: 0.0, fixed_test: Some("sha256:x".into()), ..task.split };
    let fixed = shop.out("fixed").join(SNAPSHOT);
    let ingested = shop.ingest_to(&task, "out", Some(&fixed)).unwrap();
    assert_eq!((ingested.rows, ingested.splits["train"].rows, ingested.splits["test"].rows), (6, 3, 3));
    assert_eq!(shop.manifest("out").overlap_rows, 1);
    assert_eq!((ingested.overlap_rows, ingested.rejected_rows), (Some(1), 0));
    let rows = shop.rows("out");
    let test: Vec<_> =
        rows.iter().filter(|row| row.part == Part::Test).map(|row| row.texts[0].clone()).collect();
    assert_eq!(test, [Some("Pompe de piscine".to_owned()), Some("livre".into()), Some("jeu".into())]);
    shop.write("X.csv", "text,label\nvelo,b\ntrain,c\ncamion,c\n");
    assert_eq!(shop.ingest_to(&task, "apart", Some(&fixed)).unwrap().overlap_rows, Some(0), "looked for");
    task.text = vec!["label".into()];
    task.label = None;
    assert_eq!(shop.ingest_to(&task, "other", Some(&fixed)).unwrap_err().exit_code(), exit::CONFIG);
}

#[test]
fn equal_texts_are_one_group_and_a_columns_value_can_be_one() {
    let table = "text,label,brand\nUn Vélo,a,x\nun velo,a,y\n<b>un</b> vélo !,a,x\nautre,b,\nencore,b,\n";
    let shop = Shop::new(&[("X.csv", table)]);
    let ingested = shop.ingest(&single()).unwrap();
    assert_eq!((ingested.groups, shop.profile("out").duplicate_rows), (3, 2));
    let mut by_brand = single();
    by_brand.split.group_by = "brand".into();
    let ingested = shop.ingest(&by_brand).unwrap();
    // x, y, and the two rows without a brand, each for itself.
    assert_eq!(ingested.groups, 4);
}

#[test]
fn a_sample_keeps_about_its_share_and_a_larger_one_keeps_what_a_smaller_one_kept() {
    let (x, y) = products(3000);
    let shop = Shop::new(&[("X.csv", &x), ("Y.csv", &y)]);
    let ids = |fraction: f64| -> Vec<String> {
        let mut task = challenge();
        task.sample = Some(Sample { fraction, seed: 1 });
        shop.ingest(&task).unwrap();
        shop.rows("out").into_iter().map(|row| row.id).collect()
    };
    let (small, large) = (ids(0.2), ids(0.4));
    assert!((500..700).contains(&small.len()), "{}", small.len());
    assert!(small.iter().all(|id| large.contains(id)));
}

#[test]
fn specs_that_cannot_work_are_refused() {
    let shop = Shop::new(&[("X.csv", "text,label,split\na,b,c\n")]);
    let refuse = |change: &dyn Fn(&mut vitrine_contract::job::Ingest)| {
        let mut task = single();
        change(&mut task);
        let error = shop.ingest(&task).unwrap_err();
        assert_eq!((error.reason(), error.exit_code()), ("InvalidSpec", exit::CONFIG), "{error}");
    };
    refuse(&|task| task.text.clear());
    refuse(&|task| task.text = vec!["text".into(), "text".into()]);
    refuse(&|task| task.text = vec!["split".into()]);
    refuse(&|task| task.split.train = 0.9);
    refuse(&|task| (task.split.train, task.split.validation) = (0.0, 0.9));
    refuse(&|task| task.sample = Some(Sample { fraction: 0.0, seed: 0 }));
    refuse(&|task| task.path = "../".into());
    assert!(fs::exists(shop.source()).unwrap());
}
