//! What the gateway records: verified blobs, progress and results of Jobs. These writes need no
//! epoch: every replica runs a gateway, and none of them changes what a leader wrote.

use vitrine_contract::report::{Message, Outcome, Progress};

use super::error::{Error, database, report};
use super::{Registry, now};
use crate::failpoints;

/// Who wrote a blob.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// UID of the Dataset or TrainingRun.
    pub owner_uid: &'a str,
    /// UID of its Job.
    pub job_uid: &'a str,
}

impl Registry {
    /// Size in bytes of a blob that was verified and stored; none if there is no record of it.
    pub async fn blob(&self, namespace_uid: &str, digest: &str) -> Result<Option<u64>, Error> {
        let row: Option<(i64,)> =
            sqlx::query_as("SELECT bytes FROM blobs WHERE namespace_uid = $1 AND digest = $2")
                .bind(namespace_uid)
                .bind(digest)
                .fetch_optional(&self.readers)
                .await
                .map_err(database("reading the record of a blob"))?;
        Ok(row.map(|(bytes,)| bytes as u64))
    }

    /// Records a blob that is whole and verified in the store; the first writer stays its writer.
    pub async fn record_blob(
        &self,
        namespace_uid: &str,
        digest: &str,
        bytes: u64,
        writer: Writer<'_>,
    ) -> Result<(), Error> {
        failpoints::pass("blob-unrecorded");
        sqlx::query(
            "INSERT INTO blobs (namespace_uid, digest, bytes, owner_uid, job_uid, stored_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (namespace_uid, digest) DO NOTHING",
        )
        .bind(namespace_uid)
        .bind(digest)
        .bind(bytes as i64)
        .bind(writer.owner_uid)
        .bind(writer.job_uid)
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(database("recording a blob"))?;
        failpoints::pass("blob-recorded");
        Ok(())
    }

    /// Keeps the newest progress of a Job.
    pub async fn post_progress(
        &self,
        namespace_uid: &str,
        job_uid: &str,
        progress: &Progress,
    ) -> Result<(), Error> {
        let doing = "storing progress";
        sqlx::query(
            "INSERT INTO progress (job_uid, namespace_uid, progress, posted_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (job_uid) DO UPDATE SET progress = excluded.progress, posted_at = excluded.posted_at",
        )
        .bind(job_uid)
        .bind(namespace_uid)
        .bind(serde_json::to_string(progress).map_err(report(doing))?)
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(database(doing))?;
        Ok(())
    }

    /// Keeps the result of a Job. A success stands; a failure gives way to what a later pod of the
    /// same Job reports, or the retry that succeeds would be lost.
    pub async fn post_result(
        &self,
        namespace_uid: &str,
        job_uid: &str,
        pod_uid: &str,
        message: &Message,
    ) -> Result<(), Error> {
        let doing = "storing a result";
        let succeeded = !matches!(message.outcome, Outcome::Failed(_));
        failpoints::pass("result-before");
        sqlx::query(
            "INSERT INTO results (job_uid, namespace_uid, pod_uid, succeeded, message, posted_at) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (job_uid) DO UPDATE SET pod_uid = excluded.pod_uid, succeeded = excluded.succeeded, \
             message = excluded.message, posted_at = excluded.posted_at WHERE results.succeeded = 0",
        )
        .bind(job_uid)
        .bind(namespace_uid)
        .bind(pod_uid)
        .bind(i64::from(succeeded))
        .bind(serde_json::to_string(message).map_err(report(doing))?)
        .bind(now())
        .execute(&self.writer)
        .await
        .map_err(database(doing))?;
        failpoints::pass("result-stored");
        Ok(())
    }

    /// Newest progress of a Job.
    pub async fn progress(&self, job_uid: &str) -> Result<Option<Progress>, Error> {
        let doing = "reading progress";
        let row: Option<(String,)> = sqlx::query_as("SELECT progress FROM progress WHERE job_uid = $1")
            .bind(job_uid)
            .fetch_optional(&self.readers)
            .await
            .map_err(database(doing))?;
        row.map(|(text,)| serde_json::from_str(&text).map_err(report(doing))).transpose()
    }

    /// What the pods of a Job reported at their end; see [`Registry::post_result`].
    pub async fn result(&self, job_uid: &str) -> Result<Option<Outcome>, Error> {
        let doing = "reading a result";
        let row: Option<(String,)> = sqlx::query_as("SELECT message FROM results WHERE job_uid = $1")
            .bind(job_uid)
            .fetch_optional(&self.readers)
            .await
            .map_err(database(doing))?;
        let message: Option<Message> =
            row.map(|(text,)| serde_json::from_str(&text).map_err(report(doing))).transpose()?;
        Ok(message.map(|m| m.outcome))
    }
}
