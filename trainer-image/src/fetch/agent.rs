//! The one way in which requests are sent: no redirect is followed unseen, no proxy is taken from the
//! environment, every wait has an end, and an error never tells the address that was asked.

use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, IF_MATCH, IF_RANGE, RANGE, RETRY_AFTER};
use ureq::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, RequestExt, SendBody};

use super::patience::{Failure, Patience};
use super::transfer::{Answer, Resume};
use crate::Error;

/// Largest error body that is read.
const MAX_ERROR_BODY: u64 = 16 << 10;

/// Connections that are kept.
const CONNECTIONS: usize = super::folder::THREADS;

/// An agent that trusts the public authorities, or only those of `authority` (PEM).
pub fn agent(patience: &Patience, authority: Option<&str>, whose: &str) -> Result<Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = authority {
        let items: Result<Vec<_>, _> = parse_pem(pem.as_bytes()).collect();
        let items = items.map_err(|_| Error::SourceDenied(format!("ca.crt of {whose} is not PEM")))?;
        let certificates: Vec<_> = items
            .into_iter()
            .filter_map(|item| if let PemItem::Certificate(one) = item { Some(one) } else { None })
            .collect();
        if certificates.is_empty() {
            return Err(Error::SourceDenied(format!("ca.crt of {whose} holds no certificate")));
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    Ok(Agent::config_builder()
        .tls_config(tls.build())
        .proxy(None)
        .max_redirects(0)
        // as many as there are transfers at once, or each file would cost a connection
        .max_idle_connections(CONNECTIONS)
        .max_idle_connections_per_host(CONNECTIONS)
        .http_status_as_error(false)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .user_agent(concat!("vitrine/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}

/// Which condition goes with a range: both make sure that the rest belongs to the same file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The store refuses when the object has changed (S3).
    Match,
    /// The server sends the whole file when it has changed, or knows no ranges (HTTP).
    Range,
}

/// Whom a request goes to.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Host as messages name it.
    pub host: &'a str,
    /// What to look at where the host is not found or is another one; begins with "; ".
    pub hint: &'a str,
}

/// One GET of `url`, which is at `asked`.
pub fn get(
    agent: &Agent,
    asked: Asked<'_>,
    url: &str,
    headers: &[(HeaderName, HeaderValue)],
    resume: &Resume,
    condition: Condition,
) -> Result<Response<Body>, Failure> {
    let mut request = Request::builder().uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // what is counted and summed must be the file itself
    request = request.header(ACCEPT_ENCODING, "identity");
    if let Some(etag) = resume.etag.as_deref().filter(|_| resume.from > 0) {
        let name = if condition == Condition::Match { IF_MATCH } else { IF_RANGE };
        request = request.header(RANGE, format!("bytes={}-", resume.from)).header(name, etag);
    }
    let request = request.body(SendBody::none()).map_err(|_| {
        Failure::Final(Error::Internal("the source's address or headers make no request".to_owned()))
    })?;
    request.with_agent(agent).run().map_err(|error| failed(&error, asked))
}

/// What the head of a good answer says.
pub fn answer(response: Response<Body>) -> Result<Answer, Failure> {
    let header = |name: HeaderName| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let etag = header(ETAG).filter(|etag| !etag.starts_with("W/"));
    let length = response.body().content_length();
    let (from, total) = if response.status() == StatusCode::PARTIAL_CONTENT {
        // bytes 100-199/200
        let range = header(CONTENT_RANGE).unwrap_or_default();
        let found = range
            .strip_prefix("bytes ")
            .and_then(|r| r.split_once('/'))
            .and_then(|(part, total)| Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()?)));
        let Some((from, total)) = found else {
            return Err(Failure::passing("the server answered a range with a range that cannot be read"));
        };
        (from, Some(total))
    } else {
        (0, length)
    };
    Ok(Answer { from, total, etag, body: Box::new(response.into_body().into_reader()) })
}

/// Is it worth trying again?
pub fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// What the server asked to wait.
pub fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

/// The beginning of an error's body.
pub fn error_body(mut response: Response<Body>) -> String {
    response.body_mut().with_config().limit(MAX_ERROR_BODY).read_to_string().unwrap_or_default()
}

/// What went wrong on the way, in words of ours: the library's may hold the address with its signature.
fn failed(error: &ureq::Error, asked: Asked<'_>) -> Failure {
    let unknown = || format!("the host's name is not known{}", asked.hint);
    let cause = match error {
        ureq::Error::HostNotFound => unknown(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        ureq::Error::Io(source) => match certificate(source) {
            Some(text) => return untrusted(&text, asked),
            // the standard library says a failed look-up in words only
            None if source.to_string().starts_with("failed to lookup") => unknown(),
            None => source.to_string(),
        },
        ureq::Error::Rustls(tls @ rustls::Error::InvalidCertificate(_)) => {
            return untrusted(&tls.to_string(), asked);
        }
        ureq::Error::Rustls(tls) => tls.to_string(),
        ureq::Error::Tls(text) => (*text).to_owned(),
        ureq::Error::Protocol(_) => "what came back is no answer of HTTP".to_owned(),
        ureq::Error::LargeResponseHeader(..) => "the answer's headers are too large".to_owned(),
        _ => "the request could not be sent".to_owned(),
    };
    Failure::passing(cause)
}

fn certificate(source: &std::io::Error) -> Option<String> {
    let tls = source.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(tls, rustls::Error::InvalidCertificate(_)).then(|| tls.to_string())
}

/// Nobody mends a certificate within minutes: neither this pod nor the next of its Job tries again.
fn untrusted(why: &str, asked: Asked<'_>) -> Failure {
    Failure::Final(Error::SourceDenied(format!(
        "{} did not prove who it is: {why}; where an S3 store has an authority of its own, put its certificate into the Secret as ca.crt{}",
        asked.host, asked.hint
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_ends_the_job_with_the_hint() {
        let asked = Asked { host: "shop.store:9000", hint: "; set source.s3.pathStyle: true" };
        let error = || rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        for error in [ureq::Error::Rustls(error()), ureq::Error::Io(std::io::Error::other(error()))] {
            let Failure::Final(error) = failed(&error, asked) else { panic!("it is tried again: {error}") };
            let text = error.to_string();
            assert!(vitrine_contract::exit::FINAL.contains(&error.exit_code()), "{text}");
            assert_eq!(error.reason(), "SourceDenied");
            assert!(
                text.starts_with("shop.store:9000 did not prove") && text.ends_with(asked.hint),
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_told_with_the_hint() {
        let asked = Asked { host: "shop.store:9000", hint: "; set source.s3.pathStyle: true" };
        let Failure::Passing { cause, .. } = failed(&ureq::Error::HostNotFound, asked) else {
            panic!("a name may be known later")
        };
        assert_eq!(cause, "the host's name is not known; set source.s3.pathStyle: true");
    }
}
