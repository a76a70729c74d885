//! Facts for a TrainingRun.

use vitrine_crds::TrainingRun;
use vitrine_crds::training_run::Reuse;
use vitrine_plan::{Reference, TrainingRunObserved, VersionFacts, attempt};

use super::jobs::{self, Stage};
use super::{Subject, dataset};
use crate::context::Context;
use crate::error::ObserveError;

/// Reads everything that the plan of a TrainingRun needs.
pub async fn observe(ctx: &Context, object: &TrainingRun) -> Result<TrainingRunObserved, ObserveError> {
    let subject = Subject::of(ctx, object).await?;
    let (model, alias) = (&object.spec.output.model, &object.spec.output.alias);
    let dataset = dataset::reference(&ctx.caches, &subject.namespace, &object.spec.dataset_ref.name);
    let version = ctx.registry.version_of_run(&subject.namespace_uid, &subject.uid).await?;
    let ended = object.status.as_ref().is_some_and(|s| s.completion_time.is_some());
    let attempt = attempt::of_training_run(object);
    let settled = ended || version.is_some();
    let (noted, name) =
        (object.status.as_ref().and_then(|s| s.job_name.as_deref()), attempt.job_name.as_str());
    let work = jobs::observe(ctx, &subject, Some(name), Stage::of(settled, noted, Some(name))).await?;
    let mut seen = TrainingRunObserved {
        dataset: Some(dataset),
        version,
        reusable: Vec::new(),
        alias_version: ctx.registry.alias_version(&subject.namespace_uid, model, alias).await?,
        alias_moved_by_this_run: ctx
            .registry
            .alias_moved_by(&subject.namespace_uid, model, alias, &subject.uid)
            .await?,
        job: work.job,
        pods: work.pods,
        result: work.result,
        progress: work.progress,
        config: work.config,
        leftovers: work.leftovers,
        namespace_uid: subject.namespace_uid.clone(),
    };
    if !settled && object.spec.reuse == Reuse::IfIdentical {
        seen.reusable = reusable(ctx, object, &seen).await?;
        if !seen.reusable.is_empty() && seen.job.is_none() {
            // nothing is taken over while a Job works that only the cache does not know yet
            seen.job = jobs::live(ctx, &subject, name).await?;
        }
    }
    Ok(seen)
}

/// Versions made from the same inputs whose bytes are in the store, newest first.
async fn reusable(
    ctx: &Context,
    object: &TrainingRun,
    seen: &TrainingRunObserved,
) -> Result<Vec<VersionFacts>, ObserveError> {
    let facts = match &seen.dataset {
        Some(Reference::Ready(facts)) => Some(facts),
        _ => None,
    };
    // a config without its Job was never used
    let config = seen.config.as_ref().filter(|_| seen.job.is_some());
    let inputs = vitrine_plan::training_run::inputs(object, facts, config, &ctx.policy);
    let Some(inputs) = inputs else { return Ok(Vec::new()) };
    let found = ctx
        .registry
        .reusable(
            &seen.namespace_uid,
            &object.spec.output.model,
            &inputs.dataset_digest,
            &inputs.spec_hash,
            &inputs.trainer_image,
        )
        .await?;
    // what is lost is trained again, and not handed to a new run
    let mut whole = Vec::new();
    for version in found {
        if ctx.registry.has_bytes(&seen.namespace_uid, &version).await? {
            whole.push(version);
        }
    }
    Ok(whole)
}

#[cfg(test)]
#[path = "training_run_tests.rs"]
mod tests;
