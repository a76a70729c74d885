//! Every kind of source: what is refused, what the pod is told and mounts, and how it is named.

use super::*;

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn source(yaml: &str) -> Source {
    serde_saphyr::from_str(yaml).unwrap()
}

fn s3(rest: &str) -> Source {
    source(&format!("{{s3: {{uri: 's3://rakuten/train/', {rest}}}, files: {{features: X.csv}}}}"))
}

fn http(url: &str) -> Source {
    source(&format!("{{http: {{url: '{url}', sha256: {{X.csv: {SUM}}}}}, files: {{features: X.csv}}}}"))
}

#[test]
fn the_rules_of_the_schema_hold_for_objects_that_were_stored_before_them() {
    let mut two = s3("");
    two.http = http("http://h/").http;
    let mut none = s3("");
    none.s3 = None;
    for wrong in [&two, &none] {
        assert!(check(wrong).unwrap_err().contains("exactly one of pvc, s3 and http"));
    }
    let mut labels = http("http://h/");
    labels.files.labels = Some("Y.csv".into());
    assert!(check(&labels).unwrap_err().contains("no line for Y.csv"));
    let mut sum = http("http://h/");
    sum.http.as_mut().unwrap().sha256.insert("X.csv".into(), "1234".into());
    assert!(check(&sum).unwrap_err().contains("sha256[X.csv]"));
    for url in [
        "http://h",
        "http://h/a",
        "ftp://h/",
        "file:///etc/",
        "http:///a/",
        "http://user:canary@h/",
        "http://h@evil/",
        "http://h/a/../b/",
        "http://h/%2E%2e/",
        "http://h/a%2fb/",
        "http://h/a?token=canary/",
        "http://h/#/",
        "http://h//a/",
        "http://h\\\\evil/",
        "http://h /",
    ] {
        let error = check(&http(&url.replace("\\\\", "\\"))).unwrap_err();
        assert!(error.contains("source.http.url") && !error.contains("canary"), "{url}: {error}");
    }
    for uri in [
        "s3://rakuten",
        "s3://rakuten/a",
        "rakuten/",
        "s3://r/",
        "s3://k@rakuten/",
        "s3://rakuten/../b/",
        "s3://rakuten//",
    ] {
        let mut wrong = s3("");
        wrong.s3.as_mut().unwrap().uri = uri.into();
        assert!(check(&wrong).unwrap_err().contains("source.s3.uri"), "{uri}");
    }
    for endpoint in ["minio:9000", "http://minio/path", "http://k:canary@minio", "file:///x", "http://"] {
        let error = check(&s3(&format!("endpoint: '{endpoint}'"))).unwrap_err();
        assert!(error.contains("source.s3.endpoint") && !error.contains("canary"), "{endpoint}: {error}");
    }
    assert!(check(&s3("region: 'a/b'")).unwrap_err().contains("source.s3.region"));
}

#[test]
fn sound_sources_pass() {
    for sound in [
        s3("endpoint: 'http://minio.shop.svc:9000'"),
        s3("endpoint: 'https://[fd00::1]:9000/', pathStyle: false"),
        http("https://data.example:8443/challenge/35/"),
        http("http://10.0.0.7/"),
        source("{pvc: {claimName: data, path: a/b}, files: {features: X.csv}}"),
    ] {
        assert_eq!(check(&sound), Ok(()), "{sound:?}");
    }
}

#[test]
fn the_pod_is_told_where_the_bucket_is_and_never_what_opens_it() {
    let Some(Remote::S3(told)) = remote(&s3("endpoint: 'http://minio:9000/', secretRef: {name: keys}"))
    else {
        panic!()
    };
    let expected = S3 {
        endpoint: "http://minio:9000".into(),
        region: "us-east-1".into(),
        bucket: "rakuten".into(),
        prefix: "train/".into(),
        path_style: true,
        secret: Some("keys".into()),
    };
    assert_eq!(told, expected);
    let Some(Remote::S3(amazon)) = remote(&s3("region: eu-west-3")) else { panic!() };
    assert_eq!((amazon.endpoint.as_str(), amazon.path_style), ("https://s3.eu-west-3.amazonaws.com", false));
    let mut web = http("https://h/a/");
    web.http.as_mut().unwrap().sha256.insert("Y.csv".into(), format!("sha256:{}", SUM.to_uppercase()));
    let Some(Remote::Http(told)) = remote(&web) else { panic!() };
    assert_eq!(told.sha256["X.csv"], format!("sha256:{SUM}"));
    assert_eq!(told.sha256["Y.csv"], format!("sha256:{SUM}"));
    assert_eq!(remote(&source("{pvc: {claimName: data}, files: {features: X.csv}}")), None);
}

#[test]
fn a_pod_mounts_the_claim_or_the_secret_and_nothing_else() {
    let mounted = |source: &Source| -> Vec<(String, String, bool)> {
        volumes(source)
            .into_iter()
            .map(|(volume, mount)| {
                assert_eq!(volume.name, mount.name);
                let name = match (volume.persistent_volume_claim, volume.secret) {
                    (Some(claim), None) => claim.claim_name,
                    (None, Some(secret)) => {
                        assert_eq!(secret.optional, Some(false), "a missing Secret must be seen");
                        secret.secret_name.unwrap()
                    }
                    other => panic!("{other:?}"),
                };
                (name, mount.mount_path, mount.read_only.unwrap())
            })
            .collect()
    };
    let secret = |name: &str| vec![(name.to_owned(), paths::SOURCE_SECRET_DIR.to_owned(), true)];
    assert_eq!(mounted(&s3("secretRef: {name: keys}")), secret("keys"));
    assert_eq!(mounted(&s3("")), []);
    let mut web = http("http://h/");
    web.http.as_mut().unwrap().headers_secret_ref = Some(LocalRef { name: "cookie".into() });
    assert_eq!(mounted(&web), secret("cookie"));
    let claim = source("{pvc: {claimName: data}, files: {features: X.csv}}");
    assert_eq!(mounted(&claim), [("data".to_owned(), paths::SOURCE_DIR.to_owned(), true)]);
}

#[test]
fn sentences_name_the_claim_the_bucket_or_the_address() {
    assert_eq!(
        title(&source("{pvc: {claimName: data}, files: {features: X.csv}}")),
        "PersistentVolumeClaim data"
    );
    assert_eq!(title(&s3("endpoint: 'http://minio:9000'")), "s3://rakuten/train/ at http://minio:9000");
    assert_eq!(title(&http("http://h/a/?t=canary")), "http://h/a/");
    assert_eq!(title(&http("http://u:canary@h/a/")), "http://...@h/a/");
}

#[test]
fn a_secret_that_is_not_mounted_is_told_from_other_volumes() {
    let cause = |reason: Reason, volume: &str| LastFailure {
        reason: reason.as_str().to_owned(),
        message: format!("pod p cannot mount a volume: MountVolume.SetUp failed for volume \"{volume}\" : x"),
        ..LastFailure::default()
    };
    assert!(not_mounted(&cause(Reason::MountFailed, names::VOLUME_SOURCE_SECRET)));
    assert!(!not_mounted(&cause(Reason::MountFailed, names::VOLUME_LABELS)));
    assert!(!not_mounted(&cause(Reason::ContainerFailed, names::VOLUME_SOURCE_SECRET)));
}

#[test]
fn the_archive_of_pictures_is_a_file_like_the_others() {
    let mut web = http("http://h/");
    web.images = Some(vitrine_crds::dataset::ImageSource { archive: "i.zip".into() });
    assert!(check(&web).unwrap_err().contains("no line for i.zip"));
    let mut bucket = s3("");
    bucket.images = Some(vitrine_crds::dataset::ImageSource { archive: "../i.zip".into() });
    assert!(check(&bucket).unwrap_err().contains("../i.zip"));
}

#[test]
fn a_path_that_no_store_knows_is_refused_before_a_pod_is_made() {
    for path in ["./X.csv", "a//X.csv", "a/./X.csv", "a/", "/X.csv", "../X.csv", ""] {
        for mut wrong in [s3(""), http("http://h/"), source("{pvc: {claimName: data}, files: {features: X}}")]
        {
            wrong.files.features = path.into();
            assert!(check(&wrong).unwrap_err().contains(&format!("path {path} must lie below")), "{path}");
        }
    }
    let mut labels = s3("");
    labels.files.labels = Some("./Y.csv".into());
    assert!(check(&labels).unwrap_err().contains("./Y.csv"));
    let climbs = source("{pvc: {claimName: data, path: a/../b}, files: {features: X.csv}}");
    assert!(check(&climbs).unwrap_err().contains("source.pvc.path a/../b"));
    let slash = source("{pvc: {claimName: data, path: a/}, files: {features: .a/b..csv}}");
    assert_eq!(check(&slash), Ok(()));
}
