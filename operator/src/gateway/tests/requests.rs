//! What pods do.

use std::os::unix::fs::MetadataExt as _;

use vitrine_contract::report::{Failure, Message, Outcome, Progress, Trained};
use vitrine_gateway_client::Error;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_stored_recorded_and_read_by_those_that_may() {
    let server = Server::start().await;
    let put = server.client("job", |c| c.put_bytes(b"readable")).await.unwrap();
    assert_eq!((put.digest.as_str(), put.bytes), (readable().as_str(), 8));
    assert_eq!(server.registry.blob("uid-of-a", &put.digest).await.unwrap(), Some(8));
    assert_eq!(read(&server.blob_path("a", &put.digest)), b"readable");
    for token in ["job", "other-job", "serving"] {
        let got = server.client(token, |c| c.get_bytes(&readable(), 100)).await;
        assert_eq!(got.unwrap(), b"readable");
    }
    // the same digest in another namespace is another blob
    let got = server.client("foreign-job", |c| c.get_bytes(&readable(), 100)).await;
    assert!(matches!(got, Err(Error::NotFound { .. })), "{got:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_there_is_not_written_again() {
    let server = Server::start().await;
    let body = vec![5; 600_000];
    let digest = digest_of_bytes(&body);
    let headers = format!("Content-Length: {}\n", body.len());
    let first = server.request(&put_line(&digest), "job", &headers, &body).await;
    let inode = fs::metadata(server.blob_path("a", &digest)).unwrap().ino();
    // this sender does not wait for "100 Continue" and must see the answer all the same
    let second = server.request(&put_line(&digest), "other-job", &headers, &body).await;
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!(fs::metadata(server.blob_path("a", &digest)).unwrap().ino(), inode);
    // one that waits is told before it sends
    let waiting = format!("{headers}Expect: 100-continue\n");
    let third = server.request(&put_line(&digest), "job", &waiting, b"").await;
    assert_eq!(third.status, 200);
    // a record without its file is no blob
    fs::remove_file(server.blob_path("a", &digest)).unwrap();
    let again = server.request(&put_line(&digest), "job", &headers, &body).await;
    assert_eq!((again.status, read(&server.blob_path("a", &digest)) == body), (201, true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_why_and_changes_nothing() {
    let server = Server::start().await;
    server.client("job", |c| c.put_bytes(b"secret")).await.unwrap();
    let secret = digest_of_bytes(b"secret");
    let get = format!("GET /v1/blobs/{secret}");
    let put = put_line(&readable());
    let (progress, result) = ("POST /v1/progress", "POST /v1/result");
    let denied = |status| (status, "StorageDenied".to_owned());
    let table = [
        (get.as_str(), "", denied(401)),
        (&get, "forged", denied(401)),
        (&get, "stranger", denied(403)),
        (&get, "outage", (503, "Unavailable".to_owned())),
        // not among what their workload may read
        (&get, "job", denied(403)),
        (&get, "serving", denied(403)),
        (&put, "serving", denied(403)),
        (&put, "forged", denied(401)),
        (progress, "serving", denied(403)),
        (result, "serving", denied(403)),
        (result, "forged", denied(401)),
    ];
    for (line, token, expected) in table {
        let answer = server.request(line, token, "Content-Length: 8\n", b"readable").await;
        assert_eq!(answer.reason(), expected, "{line} {token}");
    }
    let outage = server.request(&get, "outage", "", b"").await;
    assert!(outage.head.contains("retry-after: 1"), "{}", outage.head);
    let told = server.request(&get, "job", "", b"").await.message();
    assert!(told.contains("pod a/pod") && told.contains(&secret), "{told}");
    assert_eq!(server.files(), [&secret[7..]]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_results_belong_to_the_job_of_the_pod() {
    let server = Server::start().await;
    let progress = Progress { percentage: 40, step: "cross-validation".into(), ..Progress::default() };
    let posted = progress.clone();
    server.client("job", move |c| c.post_progress(&posted)).await.unwrap();
    assert_eq!(server.registry.progress("job-uid").await.unwrap(), Some(progress));
    let failed = Message::new(Outcome::Failed(Failure { reason: "Internal".into(), message: "m".into() }));
    let trained = Message::new(Outcome::Trained(Trained { wall_seconds: 1.5, ..Trained::default() }));
    for message in [failed.clone(), trained.clone(), failed] {
        server.client("job", move |c| c.post_result(&message)).await.unwrap();
    }
    assert_eq!(server.registry.result("job-uid").await.unwrap(), Some(trained.outcome));
    for other in ["other-job-uid", "foreign-job-uid"] {
        assert_eq!(server.registry.progress(other).await.unwrap(), None);
        assert_eq!(server.registry.result(other).await.unwrap(), None);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_operation_and_status_only() {
    let server = Server::start().await;
    server.client("job", |c| c.put_bytes(b"readable")).await.unwrap();
    server.client("serving", |c| c.get_bytes(&readable(), 100)).await.unwrap();
    server.request("GET /v1/blobs/sha256:x", "forged", "", b"").await;
    let mut registry = prometheus_client::registry::Registry::default();
    server.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"vitrine_gateway_requests_total{operation="write-blob",status="201"} 1"#,
        r#"vitrine_gateway_requests_total{operation="read-blob",status="200"} 1"#,
        r#"vitrine_gateway_requests_total{operation="read-blob",status="401"} 1"#,
        r#"vitrine_gateway_blob_bytes_total{direction="in"} 8"#,
        r#"vitrine_gateway_blob_bytes_total{direction="out"} 8"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_registry_is_507_and_the_pod_knows_it() {
    let server = Server::start().await;
    server.registry.fill().await;
    let failure = Failure { reason: "Internal".into(), message: "m".repeat(60_000) };
    let message = Message::new(Outcome::Failed(failure));
    let error = server.client("job", move |c| c.post_result(&message)).await.unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    server.stop().await;
}

#[test]
fn a_full_volume_of_artifacts_is_507() {
    let refusal = super::answer::Refusal::from(crate::store::Error::Full { doing: "writing".into() });
    assert_eq!((refusal.status.as_u16(), refusal.reason), (507, "StorageFull"));
}
