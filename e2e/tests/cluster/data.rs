//! Data as it comes: what is wrong with a table stands in the resource with file and line and is
//! not tried again, and the pictures of a catalogue are counted, as files and in a zip.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use vitrine_e2e::kubectl::{condition, kubectl, number, text};
use vitrine_e2e::manifests::dataset;
use vitrine_e2e::story::{Story, data_folder};

/// A picture of 8 x 8 equal pixels: JPEG, grey, every coefficient zero.
const JPEG: [&[u8]; 9] = [
    &[0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0],
    &[1; 64],
    &[0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0],
    &[0xFF, 0xC4, 0, 20, 0x00, 1],
    &[0; 16],
    &[0xFF, 0xC4, 0, 20, 0x10, 1],
    &[0; 16],
    &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0, 0x3F],
    &[0xFF, 0xD9],
];

/// Rows of the catalogue.
const ROWS: u32 = 30;

/// A folder of this machine with a catalogue of [`ROWS`] rows whose picture of row 3 is missing and
/// whose picture of row 4 is text; the same pictures in `images.zip`; and `broken.csv`, in which a
/// quote is never closed.
fn catalogue(name: &str) -> PathBuf {
    let folder = data_folder().with_file_name(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("images")).unwrap();
    let mut x = String::from(",designation,description,productid,imageid\n");
    let mut y = String::from(",prdtypecode\n");
    for row in 0..ROWS {
        writeln!(x, "{row},produit numéro {row},\"une ligne\net une autre\",{},{row}", 100 + row).unwrap();
        writeln!(y, "{row},{}", [10, 60][row as usize % 2]).unwrap();
        let path = folder.join(format!("images/image_{row}_product_{}.jpg", 100 + row));
        match row {
            3 => {}
            4 => std::fs::write(path, "<!doctype html>").unwrap(),
            _ => std::fs::write(path, JPEG.concat()).unwrap(),
        }
    }
    std::fs::write(folder.join("X_train_update.csv"), &x).unwrap();
    std::fs::write(folder.join("Y_train_CVw08PX.csv"), y).unwrap();
    // On line 62: every row before it takes two lines.
    let open = format!("{x}{ROWS},produit,\"jamais fermé\n");
    std::fs::write(folder.join("broken.csv"), open).unwrap();
    let zip = ["-m", "zipfile", "-c", "images.zip", "images/"];
    assert!(Command::new("python3").args(zip).current_dir(&folder).status().unwrap().success());
    readable(&folder);
    folder
}

/// Pods read as a user of their own.
fn readable(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(folder.join("images"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A Dataset with pictures, as files or in this archive.
fn illustrated(name: &str, archive: Option<&str>) -> String {
    let image = r#"image: {pathTemplate: "images/image_{imageid}_product_{productid}.jpg"}"#;
    let yaml = dataset(name).replace("schema: {", &format!("schema: {{{image}, "));
    match archive {
        Some(archive) => {
            yaml.replace("    files:", &format!("    images: {{archive: {archive}}}\n    files:"))
        }
        None => yaml,
    }
}

#[test]
fn a_corrupt_table_is_told_with_file_and_line_and_not_tried_again() {
    let story = Story::begin_with("corrupt", &catalogue("e2e-corrupt"));
    story.apply(&dataset("products").replace("X_train_update.csv", "broken.csv"));
    let data = story.wait_reason("mlds/products", "Ready", "False", "DataCorrupt", 120);
    assert_eq!(condition(&data, "Stalled").0, "True");
    assert_eq!(condition(&data, "SourceReachable").0, "True", "the volume was read");
    assert_eq!(number(&data, "/status/lastFailure/exitCode"), Some(65));
    assert_eq!(text(&data, "/status/lastFailure/reason"), "DataCorrupt");
    let told = kubectl(&["-n", &story.ns, "describe", "mlds/products"]);
    assert!(told.contains("broken.csv line 62") && told.contains("never closed"), "{told}");
    let pods = story.list(&["pods", "-l", "app.kubernetes.io/component=ingest"]);
    assert_eq!(pods.len(), 1, "what trying again cannot mend is not tried again");
    assert_eq!(number(&data, "/status/attempts"), Some(1));
    let job = &crate::jobs_of(&story, "products")[0];
    assert_eq!(number(job, "/status/failed"), Some(1), "{job}");

    // The mended table is another generation, and all is well.
    story.apply(&dataset("products"));
    let data = story.wait_for("mlds/products", "Ready", 120);
    assert_eq!(number(&data, "/status/rows"), Some(ROWS.into()));
    assert_eq!(data.pointer("/status/images"), None);
    story.end();
}

#[test]
fn pictures_are_counted_as_files_and_in_a_zip() {
    let story = Story::begin_with("pictures", &catalogue("e2e-pictures"));
    story.apply(&illustrated("files", None));
    story.apply(&illustrated("zip", Some("images.zip")));
    let [files, zip] = ["mlds/files", "mlds/zip"].map(|name| story.wait_for(name, "Ready", 120));
    for data in [&files, &zip] {
        let counts = ["count", "missing", "unreadable"].map(|c| number(data, &format!("/status/images/{c}")));
        assert_eq!(counts, [Some(i64::from(ROWS) - 2), Some(1), Some(1)], "{data}");
        assert_eq!(number(data, "/status/rows"), Some(ROWS.into()));
    }
    assert_eq!(
        text(&files, "/status/digest"),
        text(&zip, "/status/digest"),
        "the same pictures, the same data"
    );

    // Without a picture a row may not be in the third one.
    let strict = illustrated("strict", None).replace(".jpg\"}", ".jpg\", optional: false}");
    story.apply(&strict);
    let strict = story.wait_for("mlds/strict", "Ready", 120);
    assert_eq!(number(&strict, "/status/rejectedRows"), Some(2));
    assert_eq!(number(&strict, "/status/images/count"), Some(i64::from(ROWS) - 2));
    story.end();
}
