//! Reads for `observe`: rows become the facts of the plan. Every query names the namespace's UID.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use vitrine_contract::report::{Ingested, Trained};
use vitrine_crds::training_run::Inputs;
use vitrine_plan::{RevisionFacts, VersionFacts};

use super::Registry;
use super::error::{Error, database, report};

/// Columns of a [`VersionRow`], ending before the condition.
macro_rules! select_version {
    ($condition:literal) => {
        concat!(
            "SELECT v.model, v.version, v.accepted, v.run, v.run_uid, v.dataset_digest, v.test_digest, v.report, ",
            "v.spec_hash, v.trainer_image, d.revision, d.report AS ingested FROM versions v ",
            "LEFT JOIN dataset_revisions d ON d.seq = (SELECT MIN(seq) FROM dataset_revisions ",
            "WHERE namespace_uid = v.namespace_uid AND manifest_digest = v.dataset_digest) ",
            $condition
        )
    };
}

/// The columns above in their order; the last two are of the snapshot with the version's dataset digest.
type VersionRow =
    (String, i64, i64, String, String, String, String, String, String, String, Option<i64>, Option<String>);

const READING_VERSIONS: &str = "reading versions";

impl Registry {
    /// Newest revision of a Dataset.
    pub async fn revision(
        &self,
        namespace_uid: &str,
        dataset_uid: &str,
    ) -> Result<Option<RevisionFacts>, Error> {
        self.revision_for(namespace_uid, dataset_uid, None).await
    }

    /// The revision that was made for an attempt, else the newest: a Dataset whose fixed test set
    /// goes back to an earlier one finds what was made for that.
    pub async fn revision_for(
        &self,
        namespace_uid: &str,
        dataset_uid: &str,
        attempt_key: Option<&str>,
    ) -> Result<Option<RevisionFacts>, Error> {
        let doing = "reading a dataset revision";
        let row: Option<(i64, String, String, i64)> = sqlx::query_as(
            "SELECT revision, attempt_key, report, recorded_at FROM dataset_revisions \
             WHERE namespace_uid = $1 AND dataset_uid = $2 \
             ORDER BY CASE WHEN attempt_key = $3 THEN 0 ELSE 1 END, seq DESC LIMIT 1",
        )
        .bind(namespace_uid)
        .bind(dataset_uid)
        .bind(attempt_key)
        .fetch_optional(&self.readers)
        .await
        .map_err(database(doing))?;
        let Some((revision, attempt_key, text, at)) = row else { return Ok(None) };
        let report = serde_json::from_str::<Ingested>(&text).map_err(report(doing))?;
        let recorded_at = Timestamp::from_second(at).ok().map(Time);
        Ok(Some(RevisionFacts { revision, attempt_key, report, recorded_at }))
    }

    /// The version that a run registered.
    pub async fn version_of_run(
        &self,
        namespace_uid: &str,
        run_uid: &str,
    ) -> Result<Option<VersionFacts>, Error> {
        let row = sqlx::query_as(select_version!("WHERE v.namespace_uid = $1 AND v.run_uid = $2"))
            .bind(namespace_uid)
            .bind(run_uid)
            .fetch_optional(&self.readers)
            .await;
        one(row)
    }

    /// A version by its number.
    pub async fn version(
        &self,
        namespace_uid: &str,
        model: &str,
        version: i64,
    ) -> Result<Option<VersionFacts>, Error> {
        let row =
            sqlx::query_as(select_version!("WHERE v.namespace_uid = $1 AND v.model = $2 AND v.version = $3"))
                .bind(namespace_uid)
                .bind(model)
                .bind(version)
                .fetch_optional(&self.readers)
                .await;
        one(row)
    }

    /// The version that an alias points at.
    pub async fn version_by_alias(
        &self,
        namespace_uid: &str,
        model: &str,
        alias: &str,
    ) -> Result<Option<VersionFacts>, Error> {
        let row = sqlx::query_as(select_version!(
            "JOIN aliases a ON a.namespace_uid = v.namespace_uid AND a.model = v.model AND a.version = v.version \
             WHERE a.namespace_uid = $1 AND a.model = $2 AND a.alias = $3"
        ))
        .bind(namespace_uid)
        .bind(model)
        .bind(alias)
        .fetch_optional(&self.readers)
        .await;
        one(row)
    }

    /// The newest version of a model with this artifact digest.
    pub async fn version_by_digest(
        &self,
        namespace_uid: &str,
        model: &str,
        digest: &str,
    ) -> Result<Option<VersionFacts>, Error> {
        let row = sqlx::query_as(select_version!(
            "WHERE v.namespace_uid = $1 AND v.model = $2 AND v.digest = $3 ORDER BY v.version DESC LIMIT 1"
        ))
        .bind(namespace_uid)
        .bind(model)
        .bind(digest)
        .fetch_optional(&self.readers)
        .await;
        one(row)
    }

    /// Versions of a model made from the same inputs, newest first.
    pub async fn reusable(
        &self,
        namespace_uid: &str,
        model: &str,
        dataset_digest: &str,
        spec_hash: &str,
        trainer_image: &str,
    ) -> Result<Vec<VersionFacts>, Error> {
        let rows: Vec<VersionRow> = sqlx::query_as(select_version!(
            "WHERE v.namespace_uid = $1 AND v.model = $2 AND v.dataset_digest = $3 AND v.spec_hash = $4 \
             AND v.trainer_image = $5 ORDER BY v.version DESC"
        ))
        .bind(namespace_uid)
        .bind(model)
        .bind(dataset_digest)
        .bind(spec_hash)
        .bind(trainer_image)
        .fetch_all(&self.readers)
        .await
        .map_err(database(READING_VERSIONS))?;
        rows.into_iter().map(|row| facts(&row)).collect()
    }

    /// The version number that an alias points at.
    pub async fn alias_version(
        &self,
        namespace_uid: &str,
        model: &str,
        alias: &str,
    ) -> Result<Option<i64>, Error> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT version FROM aliases WHERE namespace_uid = $1 AND model = $2 AND alias = $3",
        )
        .bind(namespace_uid)
        .bind(model)
        .bind(alias)
        .fetch_optional(&self.readers)
        .await
        .map_err(database("reading an alias"))?;
        Ok(row.map(|(version,)| version))
    }

    /// Did the object with this UID ever set the alias?
    pub async fn alias_moved_by(
        &self,
        namespace_uid: &str,
        model: &str,
        alias: &str,
        who_uid: &str,
    ) -> Result<bool, Error> {
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT to_version FROM alias_history \
             WHERE namespace_uid = $1 AND model = $2 AND alias = $3 AND who_uid = $4 LIMIT 1",
        )
        .bind(namespace_uid)
        .bind(model)
        .bind(alias)
        .bind(who_uid)
        .fetch_optional(&self.readers)
        .await
        .map_err(database("reading the history of an alias"))?;
        Ok(row.is_some())
    }
}

fn one(row: Result<Option<VersionRow>, sqlx::Error>) -> Result<Option<VersionFacts>, Error> {
    row.map_err(database(READING_VERSIONS))?.map(|row| facts(&row)).transpose()
}

fn facts(row: &VersionRow) -> Result<VersionFacts, Error> {
    let (model, version, accepted, run_name, run_uid, dataset_digest, test_digest, text, ..) = row;
    let trained: Trained = serde_json::from_str(text).map_err(report(READING_VERSIONS))?;
    Ok(VersionFacts {
        model: model.clone(),
        version: *version,
        digest: trained.model.digest.clone(),
        bytes: trained.model.bytes as i64,
        accepted: *accepted != 0,
        run_name: run_name.clone(),
        run_uid: run_uid.clone(),
        dataset_digest: dataset_digest.clone(),
        test_digest: test_digest.clone(),
        inputs: inputs(row)?,
        report: trained,
    })
}

/// What a version was made from, where its snapshot is recorded.
fn inputs(row: &VersionRow) -> Result<Option<Inputs>, Error> {
    let (.., dataset_digest, test_digest, _, spec_hash, trainer_image, revision, ingested) = row;
    let (Some(revision), Some(text)) = (revision, ingested) else { return Ok(None) };
    let ingested: Ingested = serde_json::from_str(text).map_err(report(READING_VERSIONS))?;
    Ok(Some(Inputs {
        dataset_revision: *revision,
        dataset_digest: dataset_digest.clone(),
        snapshot_digest: ingested.snapshot.digest,
        test_digest: test_digest.clone(),
        trainer_image: trainer_image.clone(),
        spec_hash: spec_hash.clone(),
    }))
}
