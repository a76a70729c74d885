//! The phases of a run, each with its gates.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;
use vitrine_faults::completer::Completer;
use vitrine_faults::rig::Rig;

use crate::audit::{Audit, Call, most_at_once, tally};
use crate::crowd::Crowd;
use crate::floor::{self, Floor};
use crate::mix::{self, Item, KINDS, NAMESPACES};
use crate::report::{Limit, Sheet};
use crate::subject::Subject;

/// Nothing written for so long: it is over.
const QUIET: Duration = Duration::from_secs(3);
/// Longest time until it is over.
const SETTLE: Duration = Duration::from_mins(15);
/// Writes at once that the chart's `concurrency` lets the controllers of the three kinds do.
const CONCURRENCY: f64 = 3.0 * 8.0;
/// Resources that are changed one by one.
const CHANGES: usize = 10;
/// Datasets that arrive one by one, and how many in a second.
const ARRIVALS: (usize, u64) = (60, 20);

/// One run.
pub struct Run<'a> {
    /// The cluster.
    pub rig: &'a Rig,
    /// The users.
    pub crowd: Crowd,
    /// Controllers and pods.
    pub completer: Completer,
    /// The operator.
    pub subject: Subject,
    /// What it asked.
    pub audit: Audit,
    /// What was found.
    pub sheet: Sheet,
    /// Resources.
    pub n: usize,
    /// Resources that were there before.
    pub seeds: usize,
    /// Time that a pod works.
    pub work: Duration,
}

impl Run<'_> {
    /// Namespaces with a prefix.
    pub fn namespaces(prefix: &str) -> Vec<String> {
        (0..NAMESPACES).map(|i| format!("{prefix}-{i}")).collect()
    }

    /// Waits until the operator has written nothing for a while; what it asked until then.
    async fn quiet(&mut self, quiet: Duration) -> Result<Vec<Call>> {
        let (mut calls, mut last) = (Vec::new(), Instant::now());
        let end = last + SETTLE;
        while last.elapsed() < quiet {
            ensure!(
                Instant::now() < end,
                "the operator still writes: {:?}",
                tally(calls.iter().rev().take(50))
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
            let more = self.audit.next()?;
            if more.iter().any(Call::writes) {
                last = Instant::now();
            }
            calls.extend(more);
        }
        Ok(calls)
    }

    /// 1: everything is created at once, and comes true.
    pub async fn converge(&mut self, floor: Floor) -> Result<()> {
        eprintln!("1 converge");
        self.quiet(QUIET).await?;
        let items = mix::items(self.n);
        let before = self.subject.usage().await?;
        let begun = Instant::now();
        self.crowd.create_all(&items, "bench", |_, _| ()).await?;
        let created = begun.elapsed().as_secs_f64();
        let limit = Duration::from_secs(120 + self.n as u64);
        let last = self.crowd.board.wait_true("bench", self.n + self.seeds, limit).await?;
        let took = (last - begun).as_secs_f64();
        let calls = self.quiet(QUIET).await?;
        let used = self.subject.usage().await?;
        let (reconciles, cpu) = (used.reconciles - before.reconciles, used.cpu - before.cpu);
        let n = self.n as f64;
        // a deployment waits for a run, and a run for a Dataset: three pods one after the other
        let delay = 3.0 * self.work.as_secs_f64();
        let sheet = &mut self.sheet;
        sheet.value("all created, s", created);
        sheet.value("converged (first create to last Ready), s", took);
        sheet.value("floor, s", floor.seconds);
        sheet.value("floor: writes per resource", floor.writes);
        let most = 1.5 * floor.seconds + delay;
        sheet.gate("converge / (1.5 x floor + completer delay)", took / most, Limit::AtMost(1.0));
        sheet.gate("reconciles per resource", reconciles / n, Limit::AtMost(8.0));
        sheet.gate("CPU ms per reconcile", 1000.0 * cpu / reconciles, Limit::AtMost(1.0));
        sheet.value("CPU seconds per 1,000 resources", 1000.0 * cpu / n);
        for (kind, (of, items)) in std::iter::zip(used.of_kind, before.of_kind).zip(&items).enumerate() {
            let each = (of.0 - of.1) / items.len() as f64;
            sheet.value(&format!("reconciles of one of {}", KINDS[kind]), each);
        }
        sheet.value("failed reconciles", used.errors - before.errors);
        let reads = |verb: &str| calls.iter().filter(|c| c.verb == verb && !c.is_lease()).count() as f64;
        sheet.gate("GET per reconcile", reads("get") / reconciles, Limit::Exactly(0.0));
        sheet.must("LIST after the start", reads("list"), Limit::Exactly(0.0));
        let refused = calls.iter().filter(|c| c.code >= 400 && !c.is_lease()).count();
        sheet.gate("answers 4xx and 5xx", refused as f64, Limit::Exactly(0.0));
        let counted = calls.iter().filter(|c| c.writes() && !c.is_event() && c.code < 400).count() as f64;
        let at_once = most_at_once(calls.iter().filter(|c| c.writes() && !c.is_lease()));
        sheet.gate("writes at once, most", at_once as f64, Limit::AtMost(CONCURRENCY));
        let own = used.writes - before.writes;
        sheet.must("writes: audit log - the operator's own count", counted - own, Limit::Exactly(0.0));
        sheet.fact("calls", json!(tally(calls.iter())));
        let codes = tally_codes(&calls);
        sheet.fact("refusals", json!(codes));
        self.writes(&items, &calls);
        let warnings = self.subject.warnings();
        self.sheet.fact("warnings", json!(warnings));
        Ok(())
    }

    /// Writes per resource: the same number for all of a kind.
    fn writes(&mut self, items: &[Vec<Item>; 3], calls: &[Call]) {
        let mut of: HashMap<(String, &str), BTreeMap<String, usize>> = HashMap::new();
        for call in calls.iter().filter(|c| c.writes() && c.code < 400) {
            *of.entry((call.namespace.clone(), call.owner())).or_default().entry(call.what()).or_default() +=
                1;
        }
        let total: usize = of.values().flat_map(BTreeMap::values).sum();
        let floor = self.sheet.value_of("floor: writes per resource").unwrap_or(f64::MAX);
        self.sheet.must(
            "floor: writes of which the operator needs less",
            (floor - total as f64 / self.n as f64).max(0.0),
            Limit::Exactly(0.0),
        );
        self.sheet.value("writes per resource, all kinds", total as f64 / self.n as f64);
        let (mut odd, mut odd_children) = (0, 0);
        for items in items {
            for failing in [false, true] {
                let ours = items.iter().filter(|i| i.name.starts_with("data-") == failing);
                let (mut all, mut children) = (BTreeMap::new(), BTreeMap::new());
                for item in ours {
                    let key = (format!("bench-{}", item.namespace), item.name.as_str());
                    let shape = of.get(&key).cloned().unwrap_or_default();
                    let mut of_children = shape.clone();
                    of_children.retain(|what, _| !what.contains("events") && !what.contains("/status"));
                    *all.entry(shape.values().sum::<usize>()).or_default() += 1;
                    *children.entry(format!("{of_children:?}")).or_default() += 1;
                }
                let Some(item) = items.first().filter(|_| !all.is_empty()) else { continue };
                odd += unusual(&all);
                odd_children += unusual(&children);
                let name = format!("{}{}", item.plural, if failing { " that fail" } else { "" });
                self.sheet.fact(&format!("writes of one of {name}: how many resources"), json!(all));
                self.sheet.fact(&format!("writes to children of one of {name}"), json!(children));
            }
        }
        let what = "writes to children: resources unlike the rest of their kind";
        self.sheet.gate(what, odd_children as f64, Limit::Exactly(0.0));
        let what = "all writes: resources unlike the rest of their kind";
        self.sheet.gate(what, odd as f64, Limit::Exactly(0.0));
    }

    /// 2: nothing happens.
    pub async fn idle(&mut self, time: Duration) -> Result<()> {
        eprintln!("2 idle for {} s", time.as_secs());
        self.quiet(QUIET).await?;
        let before = self.subject.usage().await?;
        tokio::time::sleep(time).await;
        let calls = self.audit.next()?;
        let used = self.subject.usage().await?;
        let writes = calls.iter().filter(|c| c.writes()).count() as f64;
        let lease = calls.iter().filter(|c| c.is_lease() && c.verb != "get").count() as f64;
        let sheet = &mut self.sheet;
        sheet.must(
            &format!("idle {} s: writes except the Lease", time.as_secs()),
            writes,
            Limit::Exactly(0.0),
        );
        sheet.value("idle: writes of the Lease per minute", lease * 60.0 / time.as_secs_f64());
        sheet.value("idle: reconciles", used.reconciles - before.reconciles);
        let share = 100.0 * (used.cpu - before.cpu) / time.as_secs_f64();
        sheet.gate("idle: CPU, % of a core", share, Limit::AtMost(1.0));
        let most = 30.0 + 8.0 * self.n as f64 / 1000.0;
        sheet.gate("RSS, MB", self.subject.memory("VmRSS")?, Limit::AtMost(most));
        sheet.value("RSS without pages of the program's file, MB", self.subject.memory("RssAnon")?);
        sheet.value("RSS at its peak, MB", self.subject.memory("VmHWM")?);
        Ok(())
    }

    /// 3: kill -9 and start again.
    pub async fn restart(&mut self) -> Result<()> {
        eprintln!("3 restart");
        self.subject.kill();
        self.audit.next()?;
        let begun = Instant::now();
        let started = self.subject.start().await?;
        let all = self.n as f64;
        while self.subject.usage().await?.reconciles < all {
            ensure!(begun.elapsed() < SETTLE, "not every resource was looked at");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let looked = begun.elapsed().as_secs_f64();
        let calls = self.quiet(QUIET).await?;
        let used = self.subject.usage().await?;
        let sheet = &mut self.sheet;
        sheet.gate("restart: ready, s", started.ready, Limit::AtMost(10.0));
        sheet.value("restart: leads, s", started.leads);
        sheet.value("restart: every resource looked at, s", looked);
        let writes = calls.iter().filter(|c| c.writes()).count() as f64;
        sheet.must("restart: writes", writes, Limit::Exactly(0.0));
        sheet.value("restart: CPU seconds", used.cpu);
        let gets = calls.iter().filter(|c| c.verb == "get" && !c.is_lease()).count() as f64;
        sheet.gate("restart: GET", gets, Limit::Exactly(0.0));
        sheet.value("restart: LIST", calls.iter().filter(|c| c.verb == "list").count() as f64);
        let peak = self.subject.memory("VmHWM")?;
        self.sheet.value("restart: RSS at its peak, MB", peak);
        Ok(())
    }

    /// 4: one of many changes.
    pub async fn change(&mut self) -> Result<()> {
        eprintln!("4 one change");
        let [.., deployments] = mix::items(self.n);
        let (mut slowest, mut counts, mut strange) = (0.0_f64, BTreeMap::<usize, usize>::new(), 0);
        for item in deployments.iter().take(CHANGES) {
            let namespace = format!("bench-{}", item.namespace);
            self.audit.next()?;
            let at = Timestamp::now().as_microsecond();
            let change = Patch::Merge(json!({"spec": {"replicas": 2}}));
            self.crowd
                .api(item.plural, &namespace)
                .patch(&item.name, &PatchParams::default(), &change)
                .await?;
            let calls = self.quiet(self.work + Duration::from_millis(1500)).await?;
            let writes: Vec<&Call> = calls.iter().filter(|c| c.writes()).collect();
            let first = writes.iter().map(|c| c.start).min().context("a change that nobody answered")?;
            slowest = slowest.max((first - at) as f64 / 1000.0);
            strange += writes.iter().filter(|c| c.owner() != item.name).count();
            *counts.entry(writes.len()).or_default() += 1;
        }
        let sheet = &mut self.sheet;
        sheet.gate("one change: to the first write, slowest of 10, ms", slowest, Limit::AtMost(100.0));
        sheet.must("one change: writes to other resources", strange as f64, Limit::Exactly(0.0));
        sheet.gate("one change: different numbers of writes", counts.len() as f64, Limit::Exactly(1.0));
        sheet.fact("one change: writes", json!(counts.keys().collect::<Vec<_>>()));
        Ok(())
    }

    /// 5: a new configuration, which leaves all serving pods alone, while a user wants something else.
    pub async fn bump(&mut self) -> Result<()> {
        eprintln!("5 configuration change");
        self.subject.stop().await?;
        self.subject.flag("--drain-seconds=17");
        self.audit.next()?;
        let begun = Instant::now();
        self.subject.start().await?;
        let at = Timestamp::now().as_microsecond();
        let user = mix::dataset("meanwhile", 0);
        self.crowd.create(&user, "bench").await?;
        let calls = self.quiet(self.work + QUIET).await?;
        let seconds = begun.elapsed().saturating_sub(self.work + QUIET).as_secs_f64();
        let served = calls.iter().find(|c| c.resource == "jobs" && c.owner() == "meanwhile");
        let served = served.context("the user's Dataset got no Job")?.end - at;
        let written = calls.iter().filter(|c| c.resource == "deployments" && c.writes()).count();
        let sheet = &mut self.sheet;
        sheet.value("configuration change: seconds", seconds);
        let what = "configuration change: writes to Deployments";
        sheet.must(what, written as f64, Limit::Exactly(0.0));
        sheet.gate(
            "configuration change: a user's Job meanwhile, s",
            served as f64 / 1e6,
            Limit::AtMost(1.0),
        );
        Ok(())
    }

    /// 1 again, as in daily life: new resources arrive one by one.
    pub async fn arrivals(&mut self) -> Result<()> {
        eprintln!("  arrivals");
        self.quiet(QUIET).await?;
        let mut created = HashMap::new();
        let mut tick = tokio::time::interval(Duration::from_millis(1000 / ARRIVALS.1));
        for i in 0..ARRIVALS.0 {
            tick.tick().await;
            let item = mix::dataset(&format!("new-{i}"), i % NAMESPACES);
            created.insert(item.name.clone(), Timestamp::now().as_microsecond());
            self.crowd.create(&item, "bench").await?;
        }
        let calls = self.quiet(self.work + QUIET).await?;
        let jobs = calls.iter().filter(|c| c.resource == "jobs" && c.verb == "create" && c.code < 400);
        let mut waits: Vec<i64> = jobs.filter_map(|c| Some(c.end - created.get(c.owner())?)).collect();
        waits.sort_unstable();
        ensure!(waits.len() == ARRIVALS.0, "{} Jobs for {} Datasets", waits.len(), ARRIVALS.0);
        let slowest = *waits.last().unwrap_or(&0) as f64 / 1e6;
        self.sheet.gate("20 arrivals a second: create to Job, slowest of 60, s", slowest, Limit::AtMost(1.0));
        Ok(())
    }

    /// 6: everything is deleted.
    pub async fn delete(&mut self) -> Result<()> {
        eprintln!("6 delete all");
        self.audit.next()?;
        let begun = Instant::now();
        for namespace in Self::namespaces("bench") {
            for plural in KINDS {
                let api = self.crowd.api(plural, &namespace);
                api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
        }
        let mut left = usize::MAX;
        while left > 0 && begun.elapsed() < SETTLE {
            tokio::time::sleep(Duration::from_millis(500)).await;
            left = self.left().await?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let calls = self.quiet(QUIET).await?;
        let sheet = &mut self.sheet;
        sheet.value("delete all: seconds until nothing is left", seconds);
        sheet.must("delete all: orphans", left as f64, Limit::Exactly(0.0));
        let writes = calls.iter().filter(|c| c.writes()).count() as f64;
        sheet.value("delete all: writes of the operator", writes);
        sheet.fact("delete all: calls", json!(tally(calls.iter())));
        Ok(())
    }

    /// Children that are left.
    async fn left(&self) -> Result<usize> {
        let ours = format!("{}={}", vitrine_crds::names::LABEL_MANAGED_BY, vitrine_crds::names::MANAGED_BY);
        let params = ListParams::default().labels(&ours);
        for namespace in Self::namespaces("bench") {
            for plural in floor::children() {
                let api = floor::child_api(&self.rig.admin, plural, &namespace);
                let found = api.list_metadata(&params).await?.items.len();
                if found > 0 {
                    return Ok(found);
                }
            }
        }
        Ok(0)
    }
}

/// Refused calls by code and kind.
fn tally_codes(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for call in calls.iter().filter(|c| c.code >= 400) {
        *all.entry(format!("{} {}", call.code, call.what())).or_default() += 1;
    }
    all
}

/// How many are not as most are.
fn unusual<K>(how_many: &BTreeMap<K, usize>) -> usize {
    how_many.values().sum::<usize>() - how_many.values().max().copied().unwrap_or_default()
}
