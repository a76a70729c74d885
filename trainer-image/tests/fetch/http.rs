//! A web server: headers, redirects, statuses, sums.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use vitrine_contract::exit;
use vitrine_gateway_client::digest_of_bytes;

use crate::web::{Answer, Web};
use crate::{CANARY, Pod, check, files, http};

#[test]
fn files_of_a_web_server_arrive_with_the_secrets_headers_at_their_paths() {
    let web = Web::start(|_, seen| Answer::of(200, seen.target.clone()));
    let pod = Pod::new().headers(&["Cookie", "X-Api-Key"]);
    let names = ["X.csv", "deep/er/Y.csv", "a b?é#%2f.csv"];
    let sums: Vec<(&str, &[u8])> = [
        ("X.csv", &b"/data/X.csv"[..]),
        ("deep/er/Y.csv", b"/data/deep/er/Y.csv"),
        (names[2], b"/data/a%20b%3F%C3%A9%23%252f.csv"),
    ]
    .into();
    pod.fetch(&http(&web.url(), &sums, true), &files(&names)).unwrap();
    assert_eq!(pod.read("deep/er/Y.csv"), b"/data/deep/er/Y.csv");
    assert_eq!(pod.read(names[2]), sums[2].1);
    for seen in web.seen() {
        assert_eq!(seen.header("cookie"), Some(format!("{CANARY}-Cookie").as_str()));
        assert_eq!(seen.header("x-api-key"), Some(format!("{CANARY}-X-Api-Key").as_str()));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
    }
}

#[test]
fn a_redirect_on_the_same_host_is_followed_and_one_to_another_goes_without_headers() {
    let other = Web::start(|_, _| Answer::of(200, "rows"));
    let away = format!("http://{}/elsewhere?token={CANARY}", other.host);
    let web = Web::start(move |_, seen| match seen.path() {
        "/data/X.csv" => Answer::of(302, "").with("Location", "../moved/X.csv"),
        "/moved/X.csv" => Answer::of(307, "").with("Location", &away),
        _ => Answer::of(404, ""),
    });
    let pod = Pod::new().headers(&["Authorization"]);
    pod.fetch(&http(&web.url(), &[("X.csv", b"rows")], true), &files(&["X.csv"])).unwrap();
    assert_eq!(pod.read("X.csv"), b"rows");
    assert!(web.seen().iter().all(|seen| seen.header("authorization").is_some()));
    assert_eq!(web.seen().len(), 2);
    assert!(other.seen()[0].headers.iter().all(|(_, value)| !value.contains(CANARY)), "{:?}", other.seen());
}

#[test]
fn a_host_that_wants_headers_after_a_redirect_is_told_apart() {
    let other = Web::start(|_, _| Answer::of(403, ""));
    let away = format!("http://{}/X.csv?token={CANARY}", other.host);
    let web = Web::start(move |_, _| Answer::of(302, "").with("Location", &away));
    let pod = Pod::new().headers(&["Cookie"]);
    let error = pod.fetch(&http(&web.url(), &[("X.csv", b"")], true), &files(&["X.csv"])).unwrap_err();
    check(
        &error,
        "SourceDenied",
        exit::DENIED,
        &[&other.host, "(403)", "Secret cookie are sent to", &web.host],
    );
}

#[test]
fn headers_are_not_sent_again_once_a_redirect_has_left_the_host() {
    let back = Arc::new(OnceLock::<String>::new());
    let to = Arc::clone(&back);
    let other = Web::start(move |_, _| Answer::of(302, "").with("Location", to.get().unwrap()));
    let away = format!("http://{}/X.csv", other.host);
    let web = Web::start(move |number, _| match number {
        0 => Answer::of(302, "").with("Location", &away),
        _ => Answer::of(401, ""),
    });
    back.set(format!("http://{}/delete?all=1", web.host)).unwrap();
    let pod = Pod::new().headers(&["Cookie"]);
    let error = pod.fetch(&http(&web.url(), &[("X.csv", b"")], true), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceDenied", exit::DENIED, &["once it has redirected to another host"]);
    let sent: Vec<bool> = web.seen().iter().map(|seen| seen.header("cookie").is_some()).collect();
    assert_eq!(sent, [true, false]);
}

#[test]
fn a_refusal_after_a_redirect_names_no_secret_that_would_not_be_sent() {
    let other = Web::start(|_, _| Answer::of(403, ""));
    let away = format!("http://{}/X.csv", other.host);
    let web = Web::start(move |_, _| Answer::of(302, "").with("Location", &away));
    let error =
        Pod::new().fetch(&http(&web.url(), &[("X.csv", b"")], false), &files(&["X.csv"])).unwrap_err();
    check(&error, "SourceDenied", exit::DENIED, &[&other.host, &web.host, "set source.http.url"]);
    assert!(!error.to_string().contains("headersSecretRef"), "{error}");
}

#[test]
fn redirects_that_lead_astray_end_it() {
    for (location, word) in [
        ("X.csv", "redirects more than 3 times"),
        ("file:///etc/passwd", "http://host/"),
        ("http://user:canary-4711@127.0.0.1/", "user or a password"),
        ("", "does not say where to"),
    ] {
        let web = Web::start(move |_, _| {
            let answer = Answer::of(302, "");
            if location.is_empty() { answer } else { answer.with("Location", location) }
        });
        let pod = Pod::new().headers(&["Cookie"]);
        let error = pod.fetch(&http(&web.url(), &[("X.csv", b"")], true), &files(&["X.csv"])).unwrap_err();
        check(&error, "SourceNotFound", exit::DATA, &[word, "source.http.url"]);
        assert!(web.seen().len() <= 4);
    }
}

#[test]
fn what_an_answer_means() {
    for (status, reason, code, word) in [
        (404, "SourceNotFound", exit::DATA, "does not exist (404)"),
        (410, "SourceNotFound", exit::DATA, "does not exist (410)"),
        (401, "SourceDenied", exit::DENIED, "refused (401): check the headers in Secret cookie"),
        (403, "SourceDenied", exit::DENIED, "refused (403)"),
        (400, "SourceDenied", exit::DENIED, "refused (400)"),
        (204, "SourceNotFound", exit::DATA, "answered 204, which brings no file"),
        (304, "SourceNotFound", exit::DATA, "answered 304, which brings no file"),
        (503, "SourceUnavailable", exit::UNAVAILABLE, "answered 503; given up after"),
    ] {
        let web = Web::start(move |_, _| Answer::of(status, CANARY));
        let pod = Pod::new().headers(&["Cookie"]);
        let error = pod.fetch(&http(&web.url(), &[("X.csv", b"")], true), &files(&["X.csv"])).unwrap_err();
        check(&error, reason, code, &[word, &format!("http://{}/data/X.csv", web.host)]);
    }
}

#[test]
fn a_server_that_comes_back_is_waited_for() {
    let web = Web::start(|number, _| Answer::of(if number < 3 { 503 } else { 200 }, "rows"));
    let pod = Pod::new();
    pod.fetch(&http(&web.url(), &[("X.csv", b"rows")], false), &files(&["X.csv"])).unwrap();
    assert_eq!(web.seen().len(), 4);
}

#[test]
fn a_host_that_is_not_there_is_named_with_the_cause() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (host, cause) in [(free.as_str(), "refused"), ("nowhere.invalid", "name")] {
        let error =
            Pod::new().fetch(&http(&format!("http://{host}/"), &[], false), &files(&["X.csv"])).unwrap_err();
        check(&error, "SourceUnavailable", exit::UNAVAILABLE, &[host, cause, "given up after"]);
    }
}

#[test]
fn another_sum_is_corrupt_data_that_names_file_expected_and_found() {
    let web = Web::files(&[("X.csv", b"other".to_vec())]);
    let error =
        Pod::new().fetch(&http(&web.url(), &[("X.csv", b"rows")], false), &files(&["X.csv"])).unwrap_err();
    let (expected, found) = (digest_of_bytes(b"rows"), digest_of_bytes(b"other"));
    check(&error, "DataCorrupt", exit::DATA, &["X.csv", &expected, &found, "write its sum there"]);
    assert_eq!(web.seen().len(), 2, "a torn transfer deserves another look, the same file does not");
    let error = Pod::new().fetch(&http(&web.url(), &[], false), &files(&["X.csv"])).unwrap_err();
    check(&error, "DataCorrupt", exit::DATA, &["X.csv"]);
}
