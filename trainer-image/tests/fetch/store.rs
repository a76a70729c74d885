//! An object store: what it says, what it lists.

use std::fs;

use vitrine_contract::exit;
use vitrine_contract::job::{Remote, S3};
use vitrine_trainer::fetch::Needed;

use crate::web::{Answer, Web};
use crate::{CANARY, Pod, check, files, http, s3};

#[test]
fn what_a_store_says_is_told_with_its_code_only() {
    let body = |code: &str| format!("<Error><Code>{code}</Code><Message>{CANARY}</Message></Error>");
    for (status, code, reason, exit, words) in [
        (
            404,
            "NoSuchKey",
            "SourceNotFound",
            exit::DATA,
            &["s3://rakuten/train/X.csv does not exist at http://"][..],
        ),
        (404, "NoSuchBucket", "SourceNotFound", exit::DATA, &["bucket rakuten does not exist"]),
        (
            403,
            "InvalidAccessKeyId",
            "SourceDenied",
            exit::DENIED,
            &["(403 InvalidAccessKeyId)", "Secret minio"],
        ),
        (403, "SignatureDoesNotMatch", "SourceDenied", exit::DENIED, &["SignatureDoesNotMatch"]),
        (400, "ExpiredToken", "SourceDenied", exit::DENIED, &["ExpiredToken"]),
        (
            503,
            "SlowDown",
            "SourceUnavailable",
            exit::UNAVAILABLE,
            &["503 SlowDown", "s3://rakuten/train/X.csv"],
        ),
    ] {
        let text = body(code);
        let web = Web::start(move |_, _| Answer::of(status, text.clone()));
        let error = Pod::new().fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
        check(&error, reason, exit, words);
        let asked = &web.seen()[0];
        assert_eq!(asked.path(), "/rakuten/train/X.csv");
        assert!(asked.target.contains("X-Amz-Signature=") && !asked.target.contains("SECRET_ACCESS_KEY"));
    }
}

#[test]
fn a_store_that_redirects_is_not_followed() {
    let other = Web::start(|_, _| Answer::of(200, "rows"));
    let away = format!("http://{}/rakuten/train/X.csv", other.host);
    let web = Web::start(move |_, _| {
        Answer::of(301, "<Error><Code>PermanentRedirect</Code></Error>")
            .with("Location", &away)
            .with("x-amz-bucket-region", "eu-west-3")
    });
    let error = Pod::new().fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceNotFound", exit::DATA, &["PermanentRedirect", "eu-west-3", "source.s3.region"]);
    assert!(other.seen().is_empty());
}

#[test]
fn a_secret_without_its_keys_is_named() {
    let web = Web::files(&[]);
    let pod = Pod::new().headers(&["AWS_ACCESS_KEY_ID"]);
    let error = pod.fetch(&s3(&web), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceDenied", exit::DENIED, &["Secret minio has no AWS_SECRET_ACCESS_KEY"]);
    assert!(web.seen().is_empty());
}

/// A page of a list.
fn page(keys: &[String], next: Option<&str>) -> String {
    let keys: Vec<_> =
        keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")).collect();
    let token = next.map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
    format!(
        r#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}<IsTruncated>{}</IsTruncated>{}</ListBucketResult>"#,
        keys.concat(),
        next.is_some(),
        token.unwrap_or_default()
    )
}

#[test]
fn all_files_below_a_path_are_fetched_over_the_pages_of_the_list() {
    let keys = |range: std::ops::Range<u32>| -> Vec<String> {
        range.map(|i| format!("train/images/image_{i}.png")).collect()
    };
    let web = Web::start(move |_, seen| {
        if seen.path() != "/rakuten/" {
            return Answer::of(200, seen.path().to_owned());
        }
        assert!(seen.target.contains("prefix=train%2Fimages%2F"), "{}", seen.target);
        let mut first = keys(0..50);
        // a folder's mark, and what was not asked for
        first.extend(["train/images/".to_owned(), "other/secret.png".to_owned()]);
        if seen.target.contains("continuation-token=second") {
            return Answer::of(200, page(&keys(50..60), None));
        }
        Answer::of(200, page(&first, Some("second")))
    });
    let pod = Pod::new();
    pod.fetch(&s3(&web), &[Needed::Below("images/".into())]).unwrap();
    for i in 0..60 {
        let file = format!("images/image_{i}.png");
        assert_eq!(pod.read(&file), format!("/rakuten/train/{file}").into_bytes());
    }
    assert_eq!(web.seen().len(), 62);
}

#[test]
fn a_store_that_lists_only_what_is_no_file_or_lists_for_ever_is_not_believed() {
    for key in ["train/../../etc/passwd", "train//etc/passwd", "train/a/../../x"] {
        let web = Web::start(move |_, _| Answer::of(200, page(&[key.to_owned()], None)));
        let pod = Pod::new();
        let error = pod.fetch(&s3(&web), &[Needed::Below(String::new())]).unwrap_err();
        check(&error, "SourceNotFound", exit::DATA, &["s3://rakuten/train/ is no file", "1 keys"]);
        assert!(fs::read_dir(pod.folder()).unwrap().next().is_none());
    }
    let web = Web::start(|_, _| Answer::of(200, page(&[], Some("again"))));
    let error = Pod::new().fetch(&s3(&web), &[Needed::Below(String::new())]).unwrap_err();
    check(&error, "DataCorrupt", exit::DATA, &["the list does not end"]);
    let web = Web::start(|_, _| Answer::of(200, page(&[], None)));
    let error = Pod::new().fetch(&s3(&web), &[Needed::Below("images/".into())]).unwrap_err();
    check(&error, "SourceNotFound", exit::DATA, &["below s3://rakuten/train/images/ is no file"]);
    let error =
        Pod::new().fetch(&http(&web.url(), &[], false), &[Needed::Below("images/".into())]).unwrap_err();
    check(&error, "InvalidSpec", exit::CONFIG, &["one archive"]);
}

#[test]
fn files_that_fit_one_by_one_and_not_together_are_refused_before_any_is_fetched() {
    let pod = Pod::new();
    let disk = rustix::fs::statvfs(pod.dir.path()).unwrap();
    // each takes less than is free, and together they leave the node less than it needs
    let each = (disk.f_bavail * disk.f_frsize / 4).min(100 << 30);
    let keys: Vec<_> = (0..4).map(|i| format!("train/{i}")).collect();
    let list = page(&keys, None).replace("<Size>1<", &format!("<Size>{each}<"));
    let web = Web::start(move |_, seen| {
        Answer::of(200, if seen.path() == "/rakuten/" { list.clone() } else { "x".to_owned() })
    });
    let error = pod.fetch(&s3(&web), &[Needed::Below(String::new())]).unwrap_err();
    check(&error, "StorageFull", exit::STORAGE_FULL, &["s3://rakuten/train/", "in 4 files", "scratch space"]);
    assert_eq!(web.seen().len(), 1, "only the list is asked for");
}

#[test]
fn odd_keys_among_the_pictures_do_not_end_the_ingest() {
    let web = Web::start(|_, seen| {
        let keys = ["X.csv", "X.csv/1", "a", "a/b.png", "a//c.png", "a/../d.png", "e.png"];
        let keys: Vec<_> = keys.iter().map(|key| format!("train/{key}")).collect();
        Answer::of(200, if seen.path() == "/rakuten/" { page(&keys, None) } else { seen.path().to_owned() })
    });
    let pod = Pod::new();
    pod.fetch(&s3(&web), &[Needed::File("X.csv".into()), Needed::Below(String::new())]).unwrap();
    for file in ["X.csv", "a/b.png", "e.png"] {
        assert_eq!(pod.read(file), format!("/rakuten/train/{file}").into_bytes());
    }
    assert_eq!(web.seen().len(), 4, "the list and three files");
}

#[test]
fn a_host_that_the_bucket_is_a_part_of_is_named_with_the_way_out() {
    let Remote::S3(task) = s3(&Web::files(&[])) else { unreachable!("it is one of S3") };
    let remote = Remote::S3(S3 { endpoint: "http://nowhere.invalid".into(), path_style: false, ..task });
    let error = Pod::new().fetch(&remote, &files(&["X.csv"])).unwrap_err();
    let words = ["rakuten.nowhere.invalid", "name is not known", "set source.s3.pathStyle: true"];
    check(&error, "SourceUnavailable", exit::UNAVAILABLE, &words);
}

#[test]
fn the_first_failure_of_many_files_is_told() {
    let web = Web::start(|_, seen| match seen.path() {
        "/rakuten/" => {
            Answer::of(200, page(&(0..40).map(|i| format!("train/{i}")).collect::<Vec<_>>(), None))
        }
        "/rakuten/train/7" => Answer::of(403, "<Error><Code>AccessDenied</Code></Error>"),
        _ => Answer::of(200, "x"),
    });
    let error = Pod::new().fetch(&s3(&web), &[Needed::Below(String::new())]).unwrap_err();
    check(&error, "SourceDenied", exit::DENIED, &["s3://rakuten/train/7", "AccessDenied"]);
}
