//! One run on a rig: a namespace of its own, an operator with empty folders, steps carried out one
//! after the other, and an operator that is started again whenever it has ended.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::completer::{Completer, Running};
use crate::operator::Operator;
use crate::rig::{Programs, Rig, SYSTEM};
use crate::workload::Step;

/// Longest time for a step to come true (invariant I1: 60 s after the faults).
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A rig with its completer, for one run after the other.
pub struct Stage {
    /// The cluster.
    pub rig: Rig,
    /// Programs.
    pub programs: Programs,
    /// Stands for controllers and pods.
    pub completer: Completer,
    _running: Running,
    runs: u32,
}

/// One run.
pub struct Run<'a> {
    /// Where.
    pub stage: &'a Stage,
    /// Its operator.
    pub operator: Operator,
    /// Its namespace.
    pub namespace: String,
    /// UID of the namespace.
    pub namespace_uid: String,
    /// Objects of somebody else: plural, name, resource version.
    foreign: Vec<(&'static str, String, Value)>,
    /// Length of the audit log at its beginning.
    audited: u64,
    started: Instant,
}

/// Plural of autoscalers.
pub const HPA: &str = "horizontalpodautoscalers";

/// Group, version and kind of what is looked at, by plural.
pub const KINDS: &[(&str, &str, &str)] = &[
    ("datasets", "vitrine.dev/v1alpha1", "Dataset"),
    ("trainingruns", "vitrine.dev/v1alpha1", "TrainingRun"),
    ("modeldeployments", "vitrine.dev/v1alpha1", "ModelDeployment"),
    ("jobs", "batch/v1", "Job"),
    ("deployments", "apps/v1", "Deployment"),
    (HPA, "autoscaling/v2", "HorizontalPodAutoscaler"),
    ("services", "v1", "Service"),
    ("configmaps", "v1", "ConfigMap"),
    ("pods", "v1", "Pod"),
];

/// What the operator watches.
pub const WATCHED: [&str; 10] = [
    "datasets",
    "trainingruns",
    "modeldeployments",
    "jobs",
    "pods",
    "deployments",
    "horizontalpodautoscalers",
    "services",
    "configmaps",
    "namespaces",
];

/// The API of a plural.
pub fn api(stage: &Stage, namespace: &str, plural: &str) -> Api<DynamicObject> {
    let (_, version, kind) = KINDS.iter().find(|k| k.0 == plural).copied().unwrap_or(("", "v1", ""));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(stage.rig.admin.clone(), namespace, &resource)
}

impl Stage {
    /// Starts a rig.
    pub async fn start(programs: &Programs, work: Duration) -> Result<Self> {
        let rig = Rig::start(programs).await?;
        let (completer, running) = Completer::start(rig.admin.clone(), work);
        Ok(Self { rig, programs: programs.clone(), completer, _running: running, runs: 0 })
    }

    /// Begins a run whose operator is not started yet.
    pub async fn prepare(&mut self) -> Result<Run<'_>> {
        self.runs += 1;
        let namespace = format!("run-{}", self.runs);
        let namespace_uid = self.rig.namespace(&namespace).await?;
        self.completer.reset();
        // nobody waits for the end of the last run's Lease
        let leases = Api::<Lease>::namespaced(self.rig.admin.clone(), SYSTEM);
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let folder = self.rig.dir.path().join(&namespace);
        let audited = self.rig.audit_length();
        let operator = Operator::new(&self.rig, &self.programs, "operator", Some(&folder)).await?;
        Ok(Run {
            stage: self,
            operator,
            namespace,
            namespace_uid,
            foreign: Vec::new(),
            audited,
            started: Instant::now(),
        })
    }
}

impl Run<'_> {
    /// Waits until the operator leads, and starts it again where a fault ended it.
    pub async fn started(&mut self) -> Result<()> {
        while self.operator.leads().await.is_err() {
            anyhow::ensure!(
                self.operator.starts() < 4,
                "the operator does not start: {}",
                self.operator.log()
            );
            self.operator.ensure()?;
        }
        Ok(())
    }

    /// The API of a plural in this run's namespace.
    pub fn api(&self, plural: &str) -> Api<DynamicObject> {
        api(self.stage, &self.namespace, plural)
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// An object as JSON, `Null` if there is none.
    pub async fn get(&self, plural: &str, name: &str) -> Result<Value> {
        let found = self.api(plural).get_opt(name).await?;
        Ok(found.map(serde_json::to_value).transpose()?.unwrap_or(Value::Null))
    }

    /// Carries out all steps.
    pub async fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for (number, step) in steps.iter().enumerate() {
            self.step(step).await.with_context(|| format!("step {}: {step:?}", number + 1))?;
        }
        Ok(())
    }

    /// Carries out one step.
    pub async fn step(&mut self, step: &Step) -> Result<()> {
        self.operator.ensure()?;
        match step {
            Step::Apply(manifest) => self.apply(manifest).await,
            Step::Change(plural, name, change) => {
                let params = PatchParams { field_manager: Some("user".into()), ..PatchParams::default() };
                self.api(plural).patch(name, &params, &Patch::Merge(change)).await?;
                Ok(())
            }
            Step::Delete(plural, name) => {
                self.api(plural).delete(name, &DeleteParams::default()).await?;
                let what = format!("{plural}/{name} to be gone");
                self.until(&what, async |run| Ok(run.get(plural, name).await?.is_null())).await
            }
            Step::Release(owner) => {
                self.stage.completer.release(owner);
                Ok(())
            }
            Step::Until(plural, name, pointer, value) => {
                let what = format!("{plural}/{name} {pointer} to be {value}");
                self.until(
                    &what,
                    async |run| Ok(run.get(plural, name).await?.pointer(pointer) == Some(value)),
                )
                .await
            }
            Step::Condition(plural, name, type_, status, reason) => {
                let what = format!("{plural}/{name} {type_}={status} {reason}");
                self.until(&what, async |run| Ok(holds(&run.get(plural, name).await?, type_, status, reason)))
                    .await
            }
            Step::Foreign(plural, name) => {
                let spec = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}}});
                self.api(plural).create(&PostParams::default(), &serde_json::from_value(spec)?).await?;
                self.foreign.push((plural, (*name).to_owned(), self.version(plural, name).await?));
                Ok(())
            }
            Step::ForeignJob(plural, name) => self.foreign_job(plural, name).await,
            Step::Freeze(resource, frozen) => {
                if *frozen {
                    return self.operator.proxy.freeze(resource).await;
                }
                self.operator.proxy.gates().thaw(resource);
                Ok(())
            }
            Step::Gone => self.until("everything to be gone", async |run| run.nothing_left().await).await,
        }
    }

    async fn version(&self, plural: &str, name: &str) -> Result<Value> {
        Ok(self.get(plural, name).await?["metadata"]["resourceVersion"].clone())
    }

    /// Takes the name of an owner's first Job.
    async fn foreign_job(&mut self, plural: &str, owner: &str) -> Result<()> {
        let uid = self.get(plural, owner).await?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let key = if plural == "datasets" { "1/" } else { "train" };
        let name = vitrine_crds::names::child_name(owner, &[&uid, key, "1"]);
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "theirs"}]});
        let job = json!({"metadata": {"name": name}, "spec": {"suspend": true, "template": {"spec": pod}}});
        self.api("jobs").create(&PostParams::default(), &serde_json::from_value(job)?).await?;
        let version = self.version("jobs", &name).await?;
        self.foreign.push(("jobs", name, version));
        Ok(())
    }

    /// Requests for which the operator has no right, as the apiserver says.
    pub fn forbidden(&self) -> Result<Vec<String>> {
        self.stage.rig.forbidden(self.audited)
    }

    /// Objects of somebody else that were changed or removed.
    pub async fn harmed(&self) -> Result<Vec<String>> {
        let mut harmed = Vec::new();
        for (plural, name, version) in &self.foreign {
            if self.version(plural, name).await? != *version {
                harmed.push(format!("{plural}/{name}"));
            }
        }
        Ok(harmed)
    }

    /// Applies a manifest, whether the operator runs or not.
    pub async fn apply(&self, manifest: &Value) -> Result<()> {
        let kind = manifest["kind"].as_str().unwrap_or_default();
        let plural = KINDS.iter().find(|k| k.2 == kind).map(|k| k.0).context("an unknown kind")?;
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        self.api(plural).patch(name, &PatchParams::apply("user"), &Patch::Apply(manifest)).await?;
        Ok(())
    }

    /// Waits until `done`, with the operator running; says what it waited for if it never comes.
    pub async fn until(
        &mut self,
        what: &str,
        done: impl AsyncFn(&mut Run<'_>) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if done(self).await? {
                return Ok(());
            }
            self.operator.ensure()?;
            if Instant::now() > end {
                bail!("waited {} s for {what}", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the operator has written nothing for `quiet`.
    pub async fn settle(&mut self, quiet: Duration) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.operator.ensure()?;
            let before = self.operator.proxy.writes().len();
            tokio::time::sleep(quiet).await;
            // who waits for a watch to open again writes nothing, and is not done
            let blind = self.blind();
            if self.operator.running() && self.operator.proxy.writes().len() == before && blind.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                if !blind.is_empty() {
                    bail!("the operator does not watch {blind:?} after {} s", PATIENCE.as_secs());
                }
                let last: Vec<String> =
                    self.operator.proxy.writes().iter().rev().take(5).map(|e| e.call.to_string()).collect();
                bail!("the operator still writes after {} s: {last:?}", PATIENCE.as_secs());
            }
        }
    }

    /// What the operator does not watch now, though it should.
    fn blind(&self) -> Vec<&'static str> {
        let gates = self.operator.proxy.gates();
        WATCHED.into_iter().filter(|resource| gates.watches(resource) == 0).collect()
    }

    /// Is nothing of ours left in the namespace?
    pub async fn nothing_left(&self) -> Result<bool> {
        Ok(self.left().await?.is_empty())
    }

    /// What is left of ours in the namespace.
    pub async fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let labels = ListParams::default().labels(&format!(
            "{}={}",
            vitrine_crds::names::LABEL_MANAGED_BY,
            vitrine_crds::names::MANAGED_BY
        ));
        for (plural, version, _) in KINDS {
            let params = if version.starts_with("vitrine") { ListParams::default() } else { labels.clone() };
            let found = self.api(plural).list(&params).await?;
            left.extend(
                found
                    .items
                    .iter()
                    .map(|o| format!("{plural}/{}", o.metadata.name.clone().unwrap_or_default())),
            );
        }
        Ok(left)
    }

    /// Deletes all resources of the user.
    pub async fn delete_all(&self) -> Result<()> {
        for (plural, version, _) in KINDS.iter().rev() {
            if version.starts_with("vitrine") {
                self.api(plural).delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
        }
        Ok(())
    }

    /// Ends the run: the operator stops and the namespace goes.
    pub async fn end(mut self) -> Result<()> {
        self.operator.kill();
        let namespaces = Api::<Namespace>::all(self.stage.rig.admin.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// Does the condition hold for the object's current generation?
pub fn holds(object: &Value, type_: &str, status: &str, reason: &str) -> bool {
    let generation = &object["metadata"]["generation"];
    object["status"]["conditions"].as_array().into_iter().flatten().any(|c| {
        c["type"] == type_
            && c["status"] == status
            && (reason.is_empty() || c["reason"] == reason)
            && c["observedGeneration"] == *generation
    })
}
