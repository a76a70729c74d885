//! An object store that speaks S3. Requests are signed here (by `rusty-s3`) and sent once each; a
//! redirect is not followed, because it would take a signed request somewhere else.

use std::path::Path;
use std::time::Duration;

use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Credentials, S3Action, UrlStyle};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use url::Url;
use vitrine_contract::job::S3;

use super::agent::{Asked, Condition, agent, answer, error_body, get, passes, retry_after};
use super::patience::{Failure, Patience};
use super::secret::Secret;
use super::transfer::{Answer, Resume};
use super::{Listed, Store};
use crate::Error;
use crate::table::quoted;

/// For how long a signed request is good.
const SIGNED_FOR: Duration = Duration::from_mins(10);
/// Largest page of a list: 1000 keys of 1024 bytes, each byte as `%xx`, and what stands around them.
const MAX_LIST: u64 = 8 << 20;
/// Names told of what is there when something is not.
const NEIGHBOURS: usize = 20;

/// A folder of a bucket.
pub struct Bucket {
    signer: rusty_s3::Bucket,
    credentials: Option<Credentials>,
    agent: Agent,
    task: S3,
    host: String,
}

impl Bucket {
    /// Reads the keys; sends nothing yet.
    pub fn open(task: &S3, secret: &Path, patience: &Patience) -> Result<Self, Error> {
        let secret = task.secret.as_deref().map(|name| Secret { name, folder: secret });
        let spec = |why: &str| Error::InvalidSpec(format!("source.s3: {why}"));
        let url: Url = task.endpoint.parse().map_err(|_| spec("endpoint is not an address"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return Err(spec("endpoint must be http://host or https://host, without a user"));
        }
        if task.prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(spec("uri must not contain '.' or '..' as a folder"));
        }
        let style = if task.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let signer = rusty_s3::Bucket::new(url, style, task.bucket.clone(), task.region.clone())
            .map_err(|_| spec("bucket and endpoint make no address; set pathStyle: true"))?;
        // in the virtual style the bucket is a part of the host's name
        let host = host_of(signer.base_url());
        let (mut credentials, mut authority) = (None, None);
        if let Some(secret) = &secret {
            let (id, key) =
                (secret.required("AWS_ACCESS_KEY_ID")?, secret.required("AWS_SECRET_ACCESS_KEY")?);
            credentials = Some(match secret.optional("AWS_SESSION_TOKEN")?.filter(|t| !t.is_empty()) {
                Some(token) => Credentials::new_with_token(id, key, token),
                None => Credentials::new(id, key),
            });
            authority = secret.optional("ca.crt")?;
        }
        let whose = task.secret.as_deref().map_or_else(String::new, |name| format!("Secret {name}"));
        let agent = agent(patience, authority.as_deref(), &whose)?;
        Ok(Self { signer, credentials, agent, task: task.clone(), host })
    }

    /// What an answer means that is no success. Only its status and its code are told: a store's
    /// words may repeat the key's id.
    fn judged(&self, what: &str, response: Response<Body>) -> Failure {
        let (status, after) = (response.status(), retry_after(&response));
        let region = response.headers().get("x-amz-bucket-region").and_then(|v| v.to_str().ok());
        let region = region.filter(|r| r.len() < 64).map(str::to_owned);
        let code = code(&error_body(response));
        let said =
            if code.is_empty() { status.as_u16().to_string() } else { format!("{} {code}", status.as_u16()) };
        let at = format!("{}://{}", self.signer.base_url().scheme(), self.host);
        if status.is_redirection() {
            let region = region.map_or(String::new(), |r| format!(" (it is in {r})"));
            return Failure::Final(Error::SourceNotFound(format!(
                "{at} sends requests for bucket {} elsewhere ({said}){region}, which is not followed: set source.s3.region and source.s3.endpoint to where the bucket is",
                self.task.bucket
            )));
        }
        if passes(status) {
            return Failure::Passing { cause: format!("the store answered {said}"), after };
        }
        match (status, code.as_str()) {
            (_, "NoSuchBucket") => Failure::Final(Error::SourceNotFound(format!(
                "bucket {} does not exist at {at}: check source.s3.uri and source.s3.endpoint",
                self.task.bucket
            ))),
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                Failure::Final(Error::SourceNotFound(format!("{what} does not exist at {at}")))
            }
            (StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                Failure::Changed(format!("{what} was changed while it was read ({said})"))
            }
            _ => {
                let fix = match &self.task.secret {
                    Some(name) => {
                        format!("check the keys in Secret {name}, the region, and what the keys may read")
                    }
                    None => "requests are not signed: name a Secret in source.s3.secretRef".to_owned(),
                };
                Failure::Final(Error::SourceDenied(format!("{at} refused {what} ({said}): {fix}")))
            }
        }
    }

    /// What is there, for somebody who mistyped a name; nothing where it may not be listed.
    fn neighbours(&self) -> String {
        let Ok((listed, _)) = self.list("", None) else { return String::new() };
        let names: Vec<String> = listed.into_iter().map(|l| l.file).take(NEIGHBOURS).collect();
        let folder = &self.name("");
        if names.is_empty() {
            return format!("; {folder} is empty");
        }
        format!("; in {folder} there are {}", quoted(&names))
    }

    fn asked(&self) -> Asked<'_> {
        let hint = if self.task.path_style {
            ""
        } else {
            "; the bucket is a part of this host's name: where the store has one name for all buckets, set source.s3.pathStyle: true"
        };
        Asked { host: &self.host, hint }
    }

    fn list_of<'a>(&'a self, prefix: &str, token: Option<&str>) -> ListObjectsV2<'a> {
        let mut list = self.signer.list_objects_v2(self.credentials.as_ref());
        list.with_prefix(prefix.to_owned());
        if let Some(token) = token {
            list.with_continuation_token(token.to_owned());
        }
        list
    }
}

impl Store for Bucket {
    fn open(&self, file: &str, resume: &Resume) -> Result<Answer, Failure> {
        let key = format!("{}{file}", self.task.prefix);
        let url = self.signer.get_object(self.credentials.as_ref(), &key).sign(SIGNED_FOR);
        let response = get(&self.agent, self.asked(), url.as_str(), &[], resume, Condition::Match)?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            let failure = self.judged(&self.name(file), response);
            return Err(match failure {
                Failure::Final(Error::SourceNotFound(text)) => {
                    Failure::Final(Error::SourceNotFound(text + &self.neighbours()))
                }
                other => other,
            });
        }
        let answer = answer(response)?;
        if answer.total.is_none() {
            return Err(Failure::passing("the store did not say how large the object is"));
        }
        Ok(answer)
    }

    fn list(&self, below: &str, token: Option<&str>) -> Result<(Vec<Listed>, Option<String>), Failure> {
        let prefix = format!("{}{below}", self.task.prefix);
        let url = self.list_of(&prefix, token).sign(SIGNED_FOR);
        let mut response =
            get(&self.agent, self.asked(), url.as_str(), &[], &Resume::default(), Condition::Match)?;
        if response.status() != StatusCode::OK {
            return Err(self.judged(&format!("the list of {}", self.name(below)), response));
        }
        let text = response.body_mut().with_config().limit(MAX_LIST).read_to_string();
        let text = text.map_err(|_| Failure::passing("the list broke off"))?;
        let page = ListObjectsV2::parse_response(&text)
            .map_err(|_| Failure::passing("the answer is no list of objects"))?;
        let listed = page.contents.into_iter().filter_map(|object| {
            // a store that lists what was not asked for is not believed
            let file = object.key.strip_prefix(&self.task.prefix)?.to_owned();
            file.starts_with(below).then_some(Listed { file, bytes: object.size })
        });
        Ok((listed.collect(), page.next_continuation_token))
    }

    fn name(&self, file: &str) -> String {
        format!("s3://{}/{}{file}", self.task.bucket, self.task.prefix)
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn digest(&self, _file: &str) -> Option<&str> {
        None
    }
}

/// Host and port as somebody writes them.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The code of an error, one word such as `NoSuchKey`.
fn code(xml: &str) -> String {
    let word =
        xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(word, _)| word);
    let word = word.filter(|w| w.len() <= 64 && w.bytes().all(|b| b.is_ascii_alphanumeric()));
    word.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_an_error_is_read() {
        let xml = "<?xml?><Error><Code>NoSuchKey</Code><Message>AKIA123</Message></Error>";
        assert_eq!(code(xml), "NoSuchKey");
        for odd in ["", "<Code>", "<Code>a b</Code>", &format!("<Code>{}</Code>", "x".repeat(65))] {
            assert_eq!(code(odd), "");
        }
    }
}
