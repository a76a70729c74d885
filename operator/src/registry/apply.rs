//! The controller's writes. Each is one transaction that first proves the caller's epoch, and each
//! may be repeated: the second time changes nothing.

use sqlx::{Sqlite, Transaction};
use vitrine_contract::report::{Blob, Ingested};
use vitrine_plan::{Registration, RegistryOp, VersionFacts};

use super::error::{Error, database, report};
use super::{Registry, now};
use crate::failpoints;

type Tx = Transaction<'static, Sqlite>;

impl Registry {
    /// Carries out one write of a plan, once.
    pub async fn apply(&self, op: &RegistryOp, epoch: i64) -> Result<(), Error> {
        failpoints::pass("registry-before");
        // Files are looked at before the transaction: the only writer should not wait for a disk.
        for (namespace_uid, blob) in needed(op) {
            self.require_bytes(namespace_uid, blob).await?;
        }
        if let RegistryOp::SetAlias { namespace_uid, model, alias, version, .. } = op {
            self.require_bytes_of_version(namespace_uid, model, alias, *version).await?;
        }
        let mut tx = self.begin_fenced(epoch).await?;
        match op {
            RegistryOp::RecordRevision { namespace_uid, dataset_uid, dataset, attempt_key, report } => {
                let key = RevisionKey { namespace_uid, dataset_uid, dataset, attempt_key };
                record_revision(&mut tx, &key, report).await?;
            }
            RegistryOp::RegisterVersion(registration) => register_version(&mut tx, registration).await?,
            RegistryOp::SetAlias { namespace_uid, model, alias, version, who, who_uid, why } => {
                let target = Target { namespace_uid, model, alias, version: *version };
                set_alias(&mut tx, &target, [who, who_uid, why]).await?;
            }
            RegistryOp::RecordRollout { .. } => record_rollout(&mut tx, op).await?,
        }
        failpoints::pass("registry-uncommitted");
        tx.commit().await.map_err(database("committing to the registry"))?;
        failpoints::pass("registry-committed");
        Ok(())
    }

    /// Begins a transaction of the leader with this epoch. The check is a write, so that it also
    /// takes the database's lock: no later leader can slip in before the commit.
    async fn begin_fenced(&self, epoch: i64) -> Result<Tx, Error> {
        let doing = "checking the leader's epoch";
        let mut tx = self.writer.begin().await.map_err(database(doing))?;
        let mine = sqlx::query("UPDATE fence SET epoch = epoch WHERE id = 1 AND epoch = $1")
            .bind(epoch)
            .execute(&mut *tx)
            .await
            .map_err(database(doing))?;
        if mine.rows_affected() == 1 {
            return Ok(tx);
        }
        let (stored,): (i64,) = sqlx::query_as("SELECT epoch FROM fence WHERE id = 1")
            .fetch_one(&mut *tx)
            .await
            .map_err(database(doing))?;
        Err(Error::Fenced { mine: epoch, stored })
    }

    /// Nobody is pointed at a version whose bytes are lost. An alias that points there already is
    /// left in peace, and a version that does not exist is reported by the write itself.
    async fn require_bytes_of_version(
        &self,
        namespace_uid: &str,
        model: &str,
        alias: &str,
        version: i64,
    ) -> Result<(), Error> {
        if self.alias_version(namespace_uid, model, alias).await? == Some(version) {
            return Ok(());
        }
        let Some(facts) = self.version(namespace_uid, model, version).await? else { return Ok(()) };
        for blob in [&facts.report.model, &facts.report.report] {
            self.require_bytes(namespace_uid, blob).await?;
        }
        Ok(())
    }

    /// Are the bytes of a version in the store, in their full size? They are not hashed.
    pub async fn has_bytes(&self, namespace_uid: &str, version: &VersionFacts) -> Result<bool, Error> {
        for blob in [&version.report.model, &version.report.report] {
            match self.require_bytes(namespace_uid, blob).await {
                Ok(()) => {}
                Err(Error::MissingBytes { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Is the blob whole in the store, and recorded as verified?
    async fn require_bytes(&self, namespace_uid: &str, blob: &Blob) -> Result<(), Error> {
        let recorded = self.blob(namespace_uid, &blob.digest).await?;
        let found = match recorded {
            Some(_) => self.store.size(namespace_uid, &blob.digest).await?,
            None => None,
        };
        if recorded == Some(blob.bytes) && found == recorded {
            return Ok(());
        }
        Err(Error::MissingBytes {
            namespace_uid: namespace_uid.to_owned(),
            digest: blob.digest.clone(),
            bytes: blob.bytes,
            found,
        })
    }
}

/// Blobs that must be in the store before this is written.
fn needed(op: &RegistryOp) -> Vec<(&str, &Blob)> {
    match op {
        RegistryOp::RecordRevision { namespace_uid, report, .. } => {
            [&report.manifest, &report.snapshot, &report.profile].map(|b| (namespace_uid.as_str(), b)).into()
        }
        RegistryOp::RegisterVersion(r) => {
            [&r.report.model, &r.report.report].map(|b| (r.namespace_uid.as_str(), b)).into()
        }
        RegistryOp::SetAlias { .. } | RegistryOp::RecordRollout { .. } => Vec::new(),
    }
}

struct RevisionKey<'a> {
    namespace_uid: &'a str,
    dataset_uid: &'a str,
    dataset: &'a str,
    attempt_key: &'a str,
}

async fn record_revision(tx: &mut Tx, key: &RevisionKey<'_>, ingested: &Ingested) -> Result<(), Error> {
    let doing = "recording a dataset revision";
    let known: Option<(i64,)> = sqlx::query_as(
        "SELECT revision FROM dataset_revisions \
         WHERE namespace_uid = $1 AND dataset_uid = $2 AND attempt_key = $3",
    )
    .bind(key.namespace_uid)
    .bind(key.dataset_uid)
    .bind(key.attempt_key)
    .fetch_optional(&mut **tx)
    .await
    .map_err(database(doing))?;
    if known.is_some() {
        return Ok(());
    }
    let newest: Option<(i64, String)> = sqlx::query_as(
        "SELECT revision, manifest_digest FROM dataset_revisions \
         WHERE namespace_uid = $1 AND dataset = $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind(key.namespace_uid)
    .bind(key.dataset)
    .fetch_optional(&mut **tx)
    .await
    .map_err(database(doing))?;
    let revision = match newest {
        None => 1,
        // The same data again (a Dataset that was deleted and applied again): the same revision.
        Some((revision, digest)) if digest == ingested.manifest.digest => revision,
        Some((revision, _)) => revision + 1,
    };
    sqlx::query(
        "INSERT INTO dataset_revisions (namespace_uid, dataset_uid, dataset, attempt_key, revision, \
         manifest_digest, report, recorded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(key.namespace_uid)
    .bind(key.dataset_uid)
    .bind(key.dataset)
    .bind(key.attempt_key)
    .bind(revision)
    .bind(&ingested.manifest.digest)
    .bind(serde_json::to_string(ingested).map_err(report(doing))?)
    .bind(now())
    .execute(&mut **tx)
    .await
    .map_err(database(doing))?;
    Ok(())
}

async fn register_version(tx: &mut Tx, r: &Registration) -> Result<(), Error> {
    let doing = "registering a version";
    let known: Option<(i64,)> =
        sqlx::query_as("SELECT version FROM versions WHERE namespace_uid = $1 AND run_uid = $2")
            .bind(&r.namespace_uid)
            .bind(&r.run_uid)
            .fetch_optional(&mut **tx)
            .await
            .map_err(database(doing))?;
    if known.is_some() {
        return Ok(());
    }
    let (version,): (i64,) = sqlx::query_as(
        "INSERT INTO models (namespace_uid, model, last_version) VALUES ($1, $2, 1) \
         ON CONFLICT (namespace_uid, model) DO UPDATE SET last_version = models.last_version + 1 \
         RETURNING last_version",
    )
    .bind(&r.namespace_uid)
    .bind(&r.model)
    .fetch_one(&mut **tx)
    .await
    .map_err(database(doing))?;
    sqlx::query(
        "INSERT INTO versions (namespace_uid, model, version, run_uid, run, digest, accepted, dataset_digest, \
         test_digest, spec_hash, trainer_image, report, registered_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(&r.namespace_uid)
    .bind(&r.model)
    .bind(version)
    .bind(&r.run_uid)
    .bind(&r.run)
    .bind(&r.report.model.digest)
    .bind(i64::from(r.accepted))
    .bind(&r.dataset_digest)
    .bind(&r.test_digest)
    .bind(&r.spec_hash)
    .bind(&r.trainer_image)
    .bind(serde_json::to_string(&r.report).map_err(report(doing))?)
    .bind(now())
    .execute(&mut **tx)
    .await
    .map_err(database(doing))?;
    Ok(())
}

struct Target<'a> {
    namespace_uid: &'a str,
    model: &'a str,
    alias: &'a str,
    version: i64,
}

async fn set_alias(tx: &mut Tx, target: &Target<'_>, by: [&String; 3]) -> Result<(), Error> {
    let doing = "moving an alias";
    let known: Option<(i64,)> = sqlx::query_as(
        "SELECT version FROM versions WHERE namespace_uid = $1 AND model = $2 AND version = $3",
    )
    .bind(target.namespace_uid)
    .bind(target.model)
    .bind(target.version)
    .fetch_optional(&mut **tx)
    .await
    .map_err(database(doing))?;
    if known.is_none() {
        return Err(Error::UnknownVersion {
            model: target.model.to_owned(),
            version: target.version,
            alias: target.alias.to_owned(),
        });
    }
    let before: Option<(i64,)> =
        sqlx::query_as("SELECT version FROM aliases WHERE namespace_uid = $1 AND model = $2 AND alias = $3")
            .bind(target.namespace_uid)
            .bind(target.model)
            .bind(target.alias)
            .fetch_optional(&mut **tx)
            .await
            .map_err(database(doing))?;
    let before = before.map(|(version,)| version);
    let [who, who_uid, why] = by;
    if before == Some(target.version) {
        // Nothing moves. Who asked for it is noted once all the same: "did this run set the alias"
        // must have an answer for a run whose version the alias had already.
        let noted: Option<(i64,)> = sqlx::query_as(
            "SELECT to_version FROM alias_history \
             WHERE namespace_uid = $1 AND model = $2 AND alias = $3 AND who_uid = $4 LIMIT 1",
        )
        .bind(target.namespace_uid)
        .bind(target.model)
        .bind(target.alias)
        .bind(who_uid)
        .fetch_optional(&mut **tx)
        .await
        .map_err(database(doing))?;
        if noted.is_some() {
            return Ok(());
        }
    }
    point(tx, target).await?;
    sqlx::query(
        "INSERT INTO alias_history (namespace_uid, model, alias, from_version, to_version, who, who_uid, why, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(target.namespace_uid)
    .bind(target.model)
    .bind(target.alias)
    .bind(before)
    .bind(target.version)
    .bind(who)
    .bind(who_uid)
    .bind(why)
    .bind(now())
    .execute(&mut **tx)
    .await
    .map_err(database(doing))?;
    Ok(())
}

async fn point(tx: &mut Tx, target: &Target<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO aliases (namespace_uid, model, alias, version) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (namespace_uid, model, alias) DO UPDATE SET version = excluded.version",
    )
    .bind(target.namespace_uid)
    .bind(target.model)
    .bind(target.alias)
    .bind(target.version)
    .execute(&mut **tx)
    .await
    .map_err(database("moving an alias"))?;
    Ok(())
}

async fn record_rollout(tx: &mut Tx, op: &RegistryOp) -> Result<(), Error> {
    let RegistryOp::RecordRollout {
        namespace_uid,
        deployment_uid,
        deployment,
        model,
        version,
        digest,
        generation,
        result,
        why,
    } = op
    else {
        return Ok(());
    };
    let doing = "recording a rollout";
    // Only the newest row counts: a deployment may come back to what it served before.
    let newest: Option<(i64, String, i64, String)> = sqlx::query_as(
        "SELECT version, digest, generation, result FROM deployments_history \
         WHERE namespace_uid = $1 AND deployment_uid = $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind(namespace_uid)
    .bind(deployment_uid)
    .fetch_optional(&mut **tx)
    .await
    .map_err(database(doing))?;
    if newest.is_some_and(|(v, d, g, r)| (v, &d, g, &r) == (*version, digest, *generation, result)) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO deployments_history (namespace_uid, deployment_uid, deployment, model, version, digest, \
         generation, result, why, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(namespace_uid)
    .bind(deployment_uid)
    .bind(deployment)
    .bind(model)
    .bind(version)
    .bind(digest)
    .bind(generation)
    .bind(result)
    .bind(why)
    .bind(now())
    .execute(&mut **tx)
    .await
    .map_err(database(doing))?;
    Ok(())
}
