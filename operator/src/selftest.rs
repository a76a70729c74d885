//! `vitrine-operator selftest`: asks a running operator whether it is ready; the chart's test.

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest time to ask.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks; an error says what is missing.
pub async fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let (status, body) = tokio::time::timeout(TIMEOUT, ask(url))
        .await
        .map_err(|_| format!("no answer from {url} within {} seconds", TIMEOUT.as_secs()))??;
    if !status.is_success() {
        return Err(format!("{url} is not ready ({status}): {}", body.trim()).into());
    }
    println!("{url} is ready");
    Ok(())
}

async fn ask(url: &str) -> Result<(::http::StatusCode, String), Box<dyn Error>> {
    let url: ::http::Uri = url.parse().map_err(|e| format!("{url} is not an address: {e}"))?;
    let host = url.host().ok_or("the address names no host")?.to_owned();
    let socket = TcpStream::connect((host.as_str(), url.port_u16().unwrap_or(80)))
        .await
        .map_err(|e| format!("cannot connect to {url}: {e}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let driver = tokio::spawn(connection);
    let request = ::http::Request::builder()
        .uri("/readyz")
        .header(::http::header::HOST, host)
        .body(Empty::<bytes::Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
