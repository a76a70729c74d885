//! Hazards H1 and H2 at the wire: a real listener, and the client as the operator builds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every request with `answer`, or never; counts the requests.
async fn server(answer: Option<&'static str>) -> (Config, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut buffer = [0_u8; 16 * 1024];
                while matches!(socket.read(&mut buffer).await, Ok(n) if n > 0) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    match answer {
                        Some(text) => socket.write_all(text.as_bytes()).await.unwrap(),
                        None => std::future::pending().await,
                    }
                }
            });
        }
    });
    (Config::new(url.parse().unwrap()), seen)
}

fn job() -> Job {
    let mut job = Job::default();
    job.metadata.name = Some("run-0123456789".into());
    job
}

#[tokio::test]
async fn h1_a_write_answered_504_is_never_sent_again() {
    let (config, seen) =
        server(Some("HTTP/1.1 504 Gateway Timeout\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")).await;
    let client = build(config).unwrap();
    let jobs: Api<Job> = Api::namespaced(client, "ns");
    jobs.create(&PostParams::default(), &job()).await.unwrap_err();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn h2_an_answer_that_never_comes_ends_in_an_error() {
    // the layer swallows what goes to the wire; paused time runs to the deadline at once
    let swallow = tower::layer::layer_fn(|_wire: Wire| {
        tower::service_fn(|_request: ::http::Request<Body>| {
            std::future::pending::<Result<::http::Response<Body>, BoxError>>()
        })
    });
    let client = build_with(Config::new("http://localhost".parse().unwrap()), &swallow).unwrap();
    let jobs: Api<Job> = Api::namespaced(client, "ns");
    let asked = tokio::time::timeout(ANSWER_TIMEOUT * 2, jobs.get("run-0123456789")).await;
    asked.expect("the client has no deadline").unwrap_err();
}

#[test]
fn the_client_has_every_deadline_and_no_resend() {
    let config = harden(Config::new("http://localhost".parse().unwrap()));
    assert!(!config.default_retry);
    assert!(config.connect_timeout.is_some() && config.write_timeout.is_some());
    assert!(config.read_timeout.unwrap() > Duration::from_secs(u64::from(WATCH_SECONDS)));
    assert!(config.reset_reader_on_write);
}
