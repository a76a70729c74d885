//! A small world of Deployments, one Service and a registry, what may happen in it, and how a plan
//! is carried out in it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use vitrine_crds::{ModelDeployment, ModelDeploymentStatus, names};
use vitrine_plan::{
    Child, DeploymentFacts, ModelDeploymentObserved, Plan, PodFacts, Policy, RegistryOp, VersionFacts,
    model_deployment,
};

use crate::common::{SERVE, at, digest, ended, pod, policy, serve, version};

pub struct Sim {
    pub live: Deployment,
    pub ready: i32,
    pub updated: i32,
    pub late: bool,
    /// Whether the operator's whole apply holds `spec.replicas`, and whether another manager does:
    /// the field is reset when an apply stops naming it and nobody else holds it.
    applied: bool,
    held: bool,
}

impl Sim {
    /// Somebody else writes `spec.replicas`.
    pub fn scale(&mut self, replicas: i32) {
        if replicas != self.replicas() {
            self.applied = false;
        }
        self.held = true;
        self.live.spec.as_mut().unwrap().replicas = Some(replicas);
        self.ready = self.ready.min(replicas);
        self.updated = self.updated.min(replicas);
    }

    /// The whole apply of the operator.
    fn apply(&mut self, wanted: &Deployment) {
        let mut live = wanted.clone();
        live.metadata.uid.clone_from(&self.live.metadata.uid);
        let named = wanted.spec.as_ref().unwrap().replicas;
        let reset = self.applied && !self.held;
        let kept = if reset { 1 } else { self.replicas() };
        live.spec.as_mut().unwrap().replicas = Some(named.unwrap_or(kept));
        self.held &= named.is_none_or(|n| n == self.replicas());
        self.applied = named.is_some();
        let template = |d: &Deployment| d.spec.as_ref().unwrap().template.clone();
        if template(&live) != template(&self.live) {
            self.updated = 0;
            self.late = false;
        }
        self.live = live;
        self.ready = self.ready.min(self.replicas());
        self.updated = self.updated.min(self.replicas());
    }

    pub fn replicas(&self) -> i32 {
        self.live.spec.as_ref().unwrap().replicas.unwrap()
    }

    fn annotation(&self, key: &str) -> String {
        self.live.metadata.annotations.as_ref().unwrap()[key].clone()
    }
}

pub struct World {
    pub object: ModelDeployment,
    pub policy: Policy,
    /// Versions whose pods never become ready.
    pub bad: Vec<i64>,
    pub champion: Option<i64>,
    pub challenger: Option<i64>,
    pub owner: Option<String>,
    pub deployments: BTreeMap<String, Sim>,
    pub configs: BTreeMap<String, ConfigMap>,
    pub service: Option<Service>,
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    pub siblings: BTreeMap<String, Service>,
    pub rollouts: Vec<(i64, String, i64, String)>,
    pub clock: i64,
    uids: usize,
}

/// Versions 5 and up are the bytes of 1 and up: a run that learned the same again.
fn seed(number: i64) -> String {
    format!("v{}", (number - 1) % 4 + 1)
}

pub fn facts(number: i64) -> VersionFacts {
    version(number, &seed(number), 0.8)
}

pub fn selected(service: &Service) -> String {
    service.spec.as_ref().unwrap().selector.as_ref().unwrap()[names::LABEL_MODEL_DIGEST].clone()
}

pub fn child(number: i64) -> String {
    format!("shop-{}", names::short_digest(&digest(&format!("{}-model", seed(number)))))
}

impl World {
    pub fn new(champion: Option<i64>, challenger: Option<i64>) -> Self {
        Self {
            object: serve(SERVE),
            policy: policy(),
            bad: vec![],
            champion,
            challenger,
            owner: None,
            deployments: BTreeMap::new(),
            configs: BTreeMap::new(),
            service: None,
            autoscaler: None,
            siblings: BTreeMap::new(),
            rollouts: vec![],
            clock: 0,
            uids: 0,
        }
    }

    pub fn uid(&mut self) -> String {
        self.uids += 1;
        format!("u{}", self.uids)
    }

    pub fn pods(sim: &Sim) -> Vec<PodFacts> {
        let short = Some(names::short_digest(&sim.annotation(names::ANNOTATION_MODEL_DIGEST)).to_owned());
        (0..sim.replicas())
            .map(|i| {
                let name = format!("pod-{i}");
                let base = match (i < sim.ready, sim.late) {
                    (true, _) => pod(&name, "Running"),
                    (false, false) => pod(&name, "Pending"),
                    (false, true) => ended(&name, 80, "Error", "probe 3 differs"),
                };
                PodFacts { model_digest: short.clone(), ready: i < sim.ready, ..base }
            })
            .collect()
    }

    pub fn observe(&self) -> ModelDeploymentObserved {
        let deployment = |(name, sim): (&String, &Sim)| DeploymentFacts {
            name: name.clone(),
            uid: sim.live.metadata.uid.clone().unwrap(),
            owned: true,
            digest: sim.annotation(names::ANNOTATION_MODEL_DIGEST),
            version: sim.annotation(names::ANNOTATION_MODEL_VERSION).parse().unwrap(),
            image: sim.live.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0]
                .image
                .clone()
                .unwrap(),
            replicas: sim.replicas(),
            ready: sim.ready,
            updated_ready: sim.updated,
            observed: true,
            deadline_exceeded: sim.late,
            refused: None,
            live: sim.live.clone(),
        };
        ModelDeploymentObserved {
            namespace_uid: "ns".into(),
            stable: self.champion.map(facts),
            candidate: self.challenger.map(facts),
            alias_owner: self.owner.clone(),
            deployments: self.deployments.iter().map(deployment).collect(),
            configs: self.configs.values().cloned().collect(),
            service: self.service.clone().map(|s| (s, true)),
            autoscaler: self.autoscaler.clone().map(|a| (a, true)),
            siblings: self.siblings.values().cloned().collect(),
            pods: self.deployments.values().flat_map(Self::pods).collect(),
        }
    }

    pub fn plan(&self, now: i64) -> Plan<ModelDeploymentStatus> {
        model_deployment::plan(&self.object, &self.observe(), &self.policy, &at(now))
    }

    pub fn put(&mut self, child: &Child) {
        match child {
            Child::ConfigMap(config) => {
                let name = config.metadata.name.clone().unwrap();
                let mut config = (**config).clone();
                let old = self.configs.get(&name).and_then(|c| c.metadata.uid.clone());
                config.metadata.uid = Some(old.unwrap_or_else(|| self.uid()));
                self.configs.insert(name, config);
            }
            Child::Deployment(wanted) => {
                let name = wanted.metadata.name.clone().unwrap();
                assert!(self.configs.contains_key(&name), "the Deployment came before its config");
                if let Some(old) = self.deployments.get_mut(&name) {
                    old.apply(wanted);
                    return;
                }
                let mut live = (**wanted).clone();
                live.metadata.uid = Some(self.uid());
                let applied = live.spec.as_mut().unwrap().replicas.is_some();
                live.spec.as_mut().unwrap().replicas.get_or_insert(1);
                self.deployments
                    .insert(name, Sim { live, ready: 0, updated: 0, late: false, applied, held: false });
            }
            Child::ScaleDeployment { name, uid, replicas } => {
                let traffic = self.service.as_ref().is_some_and(|s| name.ends_with(&selected(s)));
                let on = self.object.spec.autoscaling.is_some();
                let held = on && traffic && self.autoscaled().as_ref() == Some(name);
                let sim = self.deployments.get_mut(name).unwrap();
                assert_eq!(sim.live.metadata.uid.as_ref(), Some(uid));
                let marks = sim.live.metadata.annotations.as_ref().unwrap();
                let hands_over = on && !marks.contains_key(names::ANNOTATION_AUTOSCALED);
                assert!(sim.replicas() != *replicas || hands_over, "a write that changes nothing");
                assert!(!held || sim.replicas() == 0 || hands_over, "the autoscaler's number was written");
                sim.scale(*replicas);
            }
            Child::Autoscaler(wanted) => {
                let traffic = self.service.as_ref().map(selected).unwrap();
                let mut wanted = (**wanted).clone();
                let target = &wanted.spec.as_ref().unwrap().scale_target_ref.name;
                assert!(target.ends_with(&traffic), "the autoscaler leads the traffic");
                assert!(self.deployments.contains_key(target), "the autoscaler came before its Deployment");
                let (uid, status) = match self.autoscaler.take() {
                    Some(old) => (old.metadata.uid, old.status),
                    None => (Some(self.uid()), None),
                };
                wanted.metadata.uid = uid;
                wanted.status = status;
                self.autoscaler = Some(wanted);
            }
            Child::Service(service) if service.metadata.name != self.object.metadata.name => {
                let name = service.metadata.name.clone().unwrap();
                let mut service = (**service).clone();
                let old = self.siblings.get(&name).and_then(|s| s.metadata.uid.clone());
                service.metadata.uid = Some(old.unwrap_or_else(|| self.uid()));
                self.siblings.insert(name, service);
            }
            Child::Service(service) => {
                self.check_move(service);
                self.service = Some((**service).clone());
            }
            other => panic!("not of this kind: {other:?}"),
        }
    }

    /// Traffic goes to a Deployment that is fully ready, unless no other one answers.
    pub fn check_move(&self, new: &Service) {
        let to = selected(new);
        if self.service.as_ref().is_some_and(|old| selected(old) == to) {
            return;
        }
        let is_target = |name: &String| name.ends_with(&to);
        let all = |sim: &Sim| match self.object.spec.autoscaling {
            Some(_) => sim.replicas(),
            None => self.object.spec.replicas.min(sim.replicas()),
        };
        let full = self.deployments.iter().any(|(name, sim)| is_target(name) && sim.updated >= all(sim));
        let best = self.deployments.iter().filter(|(n, _)| !is_target(n)).map(|(_, s)| s.ready).max();
        let here = self.deployments.iter().filter(|(n, _)| is_target(n)).map(|(_, s)| s.ready).max();
        assert!(full || best.unwrap_or(0) <= here.unwrap_or(0), "traffic moved to {to} too early");
    }

    pub fn pass(&mut self, killed_after: Option<usize>) {
        let before = self.object.spec.clone();
        let plan = self.plan(self.clock);
        let mut left = killed_after.unwrap_or(usize::MAX);
        let mut go = move || {
            let goes = left > 0;
            left = left.saturating_sub(1);
            goes
        };
        for op in &plan.registry {
            if !go() {
                return;
            }
            self.record(op);
        }
        for child in &plan.apply {
            if !go() {
                return;
            }
            self.put(child);
        }
        for gone in &plan.delete {
            if !go() {
                return;
            }
            let traffic = self.service.as_ref().map(selected);
            assert!(!traffic.is_some_and(|t| gone.name.ends_with(&t)), "{gone:?} has the traffic");
            if gone.kind == "Deployment" {
                assert_ne!(self.autoscaled().as_ref(), Some(&gone.name), "the autoscaler acts on it");
            }
            let uid = match gone.kind {
                "Deployment" => self.deployments.remove(&gone.name).unwrap().live.metadata.uid,
                "ConfigMap" => self.configs.remove(&gone.name).unwrap().metadata.uid,
                "HorizontalPodAutoscaler" => self.autoscaler.take().unwrap().metadata.uid,
                "Service" => self.siblings.remove(&gone.name).unwrap().metadata.uid,
                other => panic!("{other}"),
            };
            assert_eq!(uid.as_ref(), Some(&gone.uid));
        }
        if go() {
            self.object.status = Some(plan.status);
        }
        assert_eq!(before, self.object.spec);
    }

    pub fn record(&mut self, op: &RegistryOp) {
        match op {
            RegistryOp::SetAlias { alias, version, who_uid, .. } => {
                assert_eq!((alias.as_str(), who_uid.as_str()), ("champion", "uid-shop"));
                assert!(!self.bad.contains(version), "version {version} never answered");
                assert_ne!(self.champion, Some(*version), "a move that moves nothing");
                self.champion = Some(*version);
            }
            RegistryOp::RecordRollout { version, digest, generation, result, .. } => {
                let row = (*version, digest.clone(), *generation, result.clone());
                if !self.rollouts.contains(&row) {
                    self.rollouts.push(row);
                }
            }
            other => panic!("not of this kind: {other:?}"),
        }
    }

    pub fn is_bad(bad: &[i64], sim: &Sim) -> bool {
        bad.contains(&sim.annotation(names::ANNOTATION_MODEL_VERSION).parse().unwrap())
    }

    /// Name of the Deployment that the autoscaler acts on.
    pub fn autoscaled(&self) -> Option<String> {
        let spec = self.autoscaler.as_ref()?.spec.as_ref()?;
        Some(spec.scale_target_ref.name.clone())
    }

    /// The load asks for so many pods: Kubernetes' autoscaler keeps to its bounds and leaves what is
    /// at zero.
    pub fn load(&mut self, pods: i32) {
        let Some(name) = self.autoscaled() else { return };
        let bounds = self.autoscaler.as_ref().unwrap().spec.clone().unwrap();
        let pods = pods.min(bounds.max_replicas).max(bounds.min_replicas.unwrap());
        if let Some(sim) = self.deployments.get_mut(&name).filter(|s| ![0, pods].contains(&s.replicas())) {
            sim.scale(pods);
        }
    }

    /// Pods of good versions become ready.
    pub fn ready(&mut self) {
        for sim in self.deployments.values_mut().filter(|s| !Self::is_bad(&self.bad, s)) {
            sim.ready = sim.replicas();
            sim.updated = sim.replicas();
            sim.late = false;
        }
    }

    /// Time runs out for bad versions.
    pub fn late(&mut self) {
        for sim in self.deployments.values_mut().filter(|s| Self::is_bad(&self.bad, s)) {
            sim.late = sim.updated < sim.replicas();
        }
    }

    pub fn change(&mut self, how: impl FnOnce(&mut vitrine_crds::ModelDeploymentSpec)) {
        how(&mut self.object.spec);
        *self.object.metadata.generation.as_mut().unwrap() += 1;
    }

    /// Another operator takes over: other defaults, other pods, another address.
    pub fn upgrade(&mut self) {
        self.policy.server_image = "images.test/server:2".into();
        self.policy.drain_seconds += 7;
        self.policy.max_concurrency += 1;
        self.policy.image_pull_secrets.push("registry".into());
        self.policy.serve_resources.limits.get_mut("memory").unwrap().0 = "3Gi".into();
    }

    /// Switches autoscaling on between these bounds, or off.
    pub fn autoscale(&mut self, bounds: Option<(i32, i32)>) {
        self.change(|spec| {
            spec.autoscaling = bounds.map(|(min, max)| {
                let json = serde_json::json!({"minReplicas": min, "maxReplicas": max});
                serde_json::from_value(json).unwrap()
            });
            if bounds.is_some() {
                spec.replicas = spec.replicas.max(1);
            }
        });
    }

    pub fn settle(&mut self) {
        for _ in 0..20 {
            self.clock += 1;
            self.pass(None);
            self.ready();
            self.late();
        }
    }

    pub fn status(&self) -> &ModelDeploymentStatus {
        self.object.status.as_ref().unwrap()
    }

    pub fn quiet(&self) {
        for later in [0, 1000] {
            let again = self.plan(self.clock + later);
            let writes = (&again.registry, &again.apply, &again.delete, &again.events);
            assert_eq!(writes, (&vec![], &vec![], &vec![], &vec![]));
            assert_eq!(&again.status, self.status());
        }
    }
}
