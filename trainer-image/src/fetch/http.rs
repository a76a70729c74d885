//! A web server. A few redirects are followed by hand, because what goes along must be decided at each:
//! the Secret's headers go to the host that the user named and to no other, and from `https` no way
//! leads back to `http`.

use std::path::Path;

use ureq::Agent;
use ureq::http::header::LOCATION;
use ureq::http::{HeaderName, HeaderValue, StatusCode};
use url::Url;
use vitrine_contract::job::Http;

use super::agent::{Asked, Condition, agent, answer, get, passes, retry_after};
use super::patience::{Failure, Patience};
use super::s3::host_of;
use super::secret::Secret;
use super::transfer::{Answer, Resume};
use super::{Listed, Store};
use crate::Error;

/// Most redirects.
const MAX_REDIRECTS: usize = 3;

/// A folder of a web server.
pub struct Site {
    base: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    agent: Agent,
    task: Http,
    host: String,
}

impl Site {
    /// Reads the headers; sends nothing yet.
    pub fn open(task: &Http, secret: &Path, patience: &Patience) -> Result<Self, Error> {
        let spec = |why: &str| Error::InvalidSpec(format!("source.http.url {why}"));
        let base: Url = task.url.parse().map_err(|_| spec("is not an address"))?;
        check(&base).map_err(spec)?;
        if !base.path().ends_with('/') || base.query().is_some() || base.fragment().is_some() {
            return Err(spec("must end with a slash, without '?' and '#'"));
        }
        let secret = task.secret.as_deref().map(|name| Secret { name, folder: secret });
        let headers = secret.map(|secret| secret.headers()).transpose()?.unwrap_or_default();
        let host = host_of(&base);
        Ok(Self { base, headers, agent: agent(patience, None, "")?, task: task.clone(), host })
    }

    /// Address of a file below the base.
    fn url(&self, file: &str) -> Result<Url, Failure> {
        let outside = || {
            Failure::Final(Error::InvalidSpec(format!("file {file:?} must lie within the source's folder")))
        };
        let mut url = self.base.clone();
        {
            let mut segments = url.path_segments_mut().map_err(|()| outside())?;
            segments.pop_if_empty();
            for part in file.split('/') {
                // these would climb, and nothing would be nowhere
                if matches!(part, "" | "." | "..") {
                    return Err(outside());
                }
                segments.push(part);
            }
        }
        Ok(url)
    }

    /// What an answer means that is no file; `own`: no redirect led to another host on the way.
    fn judged(&self, asked: &Url, status: StatusCode, own: bool) -> Failure {
        let (asked_of, code) = (shown(asked), status.as_u16());
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Failure::Final(Error::SourceNotFound(format!(
                "{asked_of} does not exist ({code}): check source.http.url and source.files"
            ))),
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => {
                Failure::Changed(format!("{asked_of} was changed while it was read ({code})"))
            }
            _ if !status.is_client_error() => Failure::Final(Error::SourceNotFound(format!(
                "{asked_of} answered {code}, which brings no file: set source.http.url to where the files are, or mend the server"
            ))),
            _ => {
                let fix = match &self.task.secret {
                    Some(name) if !own => format!(
                        "the headers of Secret {name} are sent to {} only, and no more once it has redirected to another host; set source.http.url to where the files are",
                        self.host
                    ),
                    None if !own => format!(
                        "{} redirected to another host, where nothing that opens it is sent; set source.http.url to where the files are",
                        self.host
                    ),
                    Some(name) => format!("check the headers in Secret {name}"),
                    None => "name a Secret with the headers that open it in source.http.headersSecretRef"
                        .to_owned(),
                };
                Failure::Final(Error::SourceDenied(format!("{asked_of} was refused ({code}): {fix}")))
            }
        }
    }
}

impl Store for Site {
    fn open(&self, file: &str, resume: &Resume) -> Result<Answer, Failure> {
        let mut url = self.url(file)?;
        let mut own = true;
        for _ in 0..=MAX_REDIRECTS {
            // a host that was not named has chosen all that comes after it, a way back included
            own &= url.origin() == self.base.origin();
            let headers = if own { self.headers.as_slice() } else { &[] };
            let asked = Asked { host: &host_of(&url), hint: "" };
            let response = get(&self.agent, asked, url.as_str(), headers, resume, Condition::Range)?;
            let status = response.status();
            if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
                return answer(response);
            }
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                url = next(&url, response.headers().get(LOCATION))?;
                continue;
            }
            if passes(status) {
                let cause = format!("{} answered {}", host_of(&url), status.as_u16());
                return Err(Failure::Passing { cause, after: retry_after(&response) });
            }
            return Err(self.judged(&url, status, own));
        }
        Err(Failure::Final(Error::SourceNotFound(format!(
            "{} redirects more than {MAX_REDIRECTS} times: set source.http.url to where the files are",
            self.name(file)
        ))))
    }

    fn list(&self, below: &str, _token: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Failure> {
        Err(Failure::Final(Error::InvalidSpec(format!(
            "{} cannot be listed, because a web server has no list of its files: put the pictures into one archive",
            self.name(below)
        ))))
    }

    fn name(&self, file: &str) -> String {
        self.url(file).map_or_else(|_| shown(&self.base), |url| shown(&url))
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn digest(&self, file: &str) -> Option<&str> {
        // a file without a sum matches none: nothing is taken unseen
        Some(self.task.sha256.get(file).map_or("a line in source.http.sha256", String::as_str))
    }
}

/// Where a redirect leads, if it may be followed.
fn next(from: &Url, location: Option<&HeaderValue>) -> Result<Url, Failure> {
    let refuse = |why: &str| {
        let text = format!("{} redirects {why}: set source.http.url to where the files are", shown(from));
        Err(Failure::Final(Error::SourceNotFound(text)))
    };
    let Some(text) = location.and_then(|value| value.to_str().ok()) else {
        return refuse("and does not say where to");
    };
    let Ok(next) = from.join(text) else { return refuse("to what is no address") };
    if let Err(why) = check(&next) {
        return refuse(&format!("to an address that {why}"));
    }
    if from.scheme() == "https" && next.scheme() != "https" {
        return refuse(&format!("from https to {}, which is not followed", shown(&next)));
    }
    Ok(next)
}

/// What is wrong with an address, if anything.
fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be http://host/ or https://host/");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password; what opens it belongs into the Secret");
    }
    Ok(())
}

/// An address for a message: what follows `?` or stands before `@` may be secret.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host_of(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str) -> Site {
        let task = Http { url: url.to_owned(), ..Http::default() };
        Site::open(&task, Path::new("/nowhere"), &Patience::default()).unwrap()
    }

    fn leads(from: &str, location: &str) -> Result<String, String> {
        let location = HeaderValue::try_from(location).unwrap();
        match next(&from.parse().unwrap(), Some(&location)) {
            Ok(url) => Ok(url.to_string()),
            Err(Failure::Final(error)) => Err(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_redirect_may_go_from_http_to_https_and_never_back() {
        assert_eq!(leads("http://h/a/X", "https://other/X").unwrap(), "https://other/X");
        assert_eq!(leads("http://h/a/X", "//other/X").unwrap(), "http://other/X");
        let back = leads("https://h/a/X?token=canary", "http://h/X?token=canary").unwrap_err();
        assert!(back.contains("from https to http://h/X") && !back.contains("canary"), "{back}");
        for odd in ["file:///etc/passwd", "gopher://h/", "http://user:canary@h/", "data:text/plain,x"] {
            assert!(!leads("http://h/", odd).unwrap_err().contains("canary"), "{odd}");
        }
    }

    #[test]
    fn no_file_climbs_out_of_the_folder() {
        let site = site("http://h/a/b/");
        assert_eq!(site.url("c/X 1?.csv").unwrap().as_str(), "http://h/a/b/c/X%201%3F.csv");
        assert_eq!(site.url("%2e%2e/X").unwrap().as_str(), "http://h/a/b/%252e%252e/X");
        for outside in ["../X", "c/../../X", "/X", "", "./X"] {
            assert!(site.url(outside).is_err(), "{outside:?}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for url in ["", "h/", "ftp://h/", "http://u:canary@h/", "http://h/a", "http://h/?a=/", "http://h/#/"]
        {
            let task = Http { url: url.to_owned(), ..Http::default() };
            let error = Site::open(&task, Path::new("/nowhere"), &Patience::default()).err().unwrap();
            assert!(
                error.reason() == "InvalidSpec" && !error.to_string().contains("canary"),
                "{url}: {error}"
            );
        }
    }
}
