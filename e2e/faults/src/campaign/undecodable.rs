//! C8, objects that were stored before a schema was tightened and that the operator cannot read: they must
//! not stop the watch of the others, and their author must be told.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::case::collect;
use crate::oracle::{Violation, judge};
use crate::rig::wait;
use crate::stage::{Run, Stage};
use crate::workload::{self, Step};

const NAME: &str = "datasets.vitrine.dev";

/// Stores such an object, then lives on with it, also through a restart.
pub async fn play(stage: &mut Stage, quiet: Duration) -> Result<Vec<Violation>> {
    let mut run = stage.prepare().await?;
    run.operator.start(None)?;
    run.started().await?;
    let trouble = live(&mut run, quiet).await.err().map(|e| format!("{e:#}"));
    // what cannot be read cannot be listed as ours either: it goes first
    let api = run.api("datasets");
    if api.get_opt("unreadable").await?.is_some() {
        api.delete("unreadable", &DeleteParams::default()).await?;
    }
    let evidence = collect(&mut run, trouble).await?;
    run.end().await?;
    Ok(judge(&evidence, None))
}

async fn live(run: &mut Run<'_>, quiet: Duration) -> Result<()> {
    run.step(&Step::Apply(workload::dataset("shop", "X.csv"))).await?;
    run.step(&Step::Condition("datasets", "shop", "Ready", "True", "")).await?;
    store(run).await?;
    run.step(&Step::Condition("datasets", "unreadable", "Ready", "False", "InvalidSpec")).await?;
    run.step(&Step::Apply(workload::run("first", 42))).await?;
    run.step(&Step::Condition("trainingruns", "first", "Succeeded", "True", "")).await?;
    run.operator.kill();
    run.step(&Step::Apply(workload::dataset("later", "X.csv"))).await?;
    run.step(&Step::Condition("datasets", "later", "Ready", "True", "")).await?;
    run.settle(quiet).await
}

/// Relaxes the schema, stores an object that the types cannot hold, and puts the schema back.
async fn store(run: &Run<'_>) -> Result<()> {
    let definitions = Api::<CustomResourceDefinition>::all(run.stage.rig.admin.clone());
    let strict = definitions.get(NAME).await?;
    let mut relaxed = serde_json::to_value(&strict)?;
    let schema = relaxed.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").context("a schema")?;
    schema["properties"]["spec"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("x-kubernetes-validations");
    }
    definitions.replace(NAME, &PostParams::default(), &serde_json::from_value(relaxed)?).await?;
    let object = json!({"apiVersion": "vitrine.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": "unreadable"},
        "spec": {"source": 5, "schema": ["x"]}});
    let api = run.api("datasets");
    wait("the relaxed schema", || async {
        Ok(api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await.is_ok())
    })
    .await?;
    let back: Value = json!({"spec": serde_json::to_value(&strict.spec)?});
    definitions.patch(NAME, &PatchParams::default(), &Patch::Merge(back)).await?;
    Ok(())
}
