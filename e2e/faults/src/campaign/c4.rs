//! C4, leaders: the Lease is stolen, the leader is paused past its Lease with a write in flight, cut off
//! from the apiserver, or joined by a second process. A Lease is no lock: what holds is the epoch in the
//! registry, the lock on the volume, and names and UIDs in the cluster.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use vitrine_crds::names::LEASE;

use crate::case::collect;
use crate::operator::Operator;
use crate::oracle::{Reference, Violation, judge};
use crate::proxy::rules::{Action, Point, Rule};
use crate::rig::SYSTEM;
use crate::stage::{PATIENCE, Run, Stage};
use crate::workload;

/// Longest time in which a leader that lost its Lease may go on (it renews every few seconds and gives
/// up 16 s after the last renewal).
const DEPOSED: Duration = Duration::from_secs(20);
/// Longest time in which a leader hears of a theft: it renews every 8 s.
const HEARD: Duration = Duration::from_secs(12);
/// After a leader heard that it leads no more, what it had sent may still arrive.
const IN_FLIGHT: Duration = Duration::from_secs(2);
/// Longer than a Lease lasts without a renewal.
const PAUSE: Duration = Duration::from_secs(22);

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Story {
    /// Somebody edits the holder of the Lease.
    Stolen,
    /// Paused before a registration; meanwhile another leader took the epoch.
    PausedBeforeRegistering,
    /// Paused within the transaction: no other leader can take the epoch.
    PausedWithinTransaction,
    /// Paused with a Job's create on the wire, which arrives after the Lease went to somebody else.
    PausedOnTheWire,
    /// No connection to the apiserver for longer than the Lease lasts.
    Partitioned,
    /// Every second renewal is answered with a conflict.
    Storm,
    /// A second process on the same volume.
    Second,
}

impl Story {
    /// All of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As `--story` takes it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

/// What came of a story.
#[derive(Clone, Debug)]
pub struct Played {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// Whether there is evidence that it happened.
    pub happened: bool,
}

/// Plays a story in the workload `promote`; what must hold is what must hold after any run.
pub async fn play(stage: &mut Stage, story: Story, reference: &Reference, quiet: Duration) -> Result<Played> {
    let workload = workload::named("promote").context("workload promote")?;
    let mut run = stage.prepare().await?;
    let failpoint = match story {
        // the second registry write of the workload registers the first version
        Story::PausedBeforeRegistering => Some("registry-before:2:stop"),
        Story::PausedWithinTransaction => Some("registry-uncommitted:2:stop"),
        _ => None,
    };
    run.operator.start(failpoint)?;
    run.started().await?;
    let mut happened = false;
    let trouble = async {
        run.steps(&workload.steps[..2]).await?;
        disturb(&mut run, story, &mut happened).await?;
        run.steps(&workload.steps[2..]).await?;
        if story == Story::Storm {
            happened = stormed(&run).await;
        }
        run.settle(quiet).await
    }
    .await
    .err()
    .map(|e| format!("{e:#}"));
    let evidence = collect(&mut run, trouble).await?;
    run.end().await?;
    Ok(Played { violations: judge(&evidence, Some(reference)), happened })
}

/// Does what the story says; `happened` becomes true with the evidence of it.
async fn disturb(run: &mut Run<'_>, story: Story, happened: &mut bool) -> Result<()> {
    match story {
        Story::Stolen => {
            let stolen = steal(run).await?;
            let heard = heard(run, stolen).await?;
            *happened = true;
            // who still leads would now do this
            tokio::time::sleep_until((heard + IN_FLIGHT).into()).await;
            run.apply(&workload::run("first", 42)).await?;
            deposed(run, stolen).await
        }
        Story::Partitioned => {
            let start = Instant::now();
            run.operator.proxy.set_down(true);
            let ended = deposed(run, start).await;
            *happened = run.operator.proxy.refused() + run.operator.proxy.gates().broken() > 0;
            run.operator.proxy.set_down(false);
            ended
        }
        Story::Storm => {
            let conflict = Action::status(409, "Conflict");
            for nth in [1, 3, 5] {
                run.operator.proxy.add(Rule::nth("patch", "leases", nth, Point::Before, conflict.clone()));
            }
            Ok(())
        }
        Story::Second => second(run, happened).await,
        Story::PausedOnTheWire => on_the_wire(run, happened).await,
        Story::PausedBeforeRegistering | Story::PausedWithinTransaction => {
            in_registry(run, story, happened).await
        }
    }
}

/// Waits until every renewal that was to be refused was; a renewal comes every few seconds.
async fn stormed(run: &Run<'_>) -> bool {
    let end = Instant::now() + PATIENCE;
    while run.operator.proxy.rules_left() > 0 {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

/// When the leader got the first answer about the Lease after a time.
fn lease_answer(run: &Run<'_>, since: Instant) -> Option<Instant> {
    run.operator.proxy.log().into_iter().find(|e| e.call.is_lease() && e.at > since).map(|e| e.at)
}

/// Waits until the leader heard of a theft.
async fn heard(run: &Run<'_>, stolen: Instant) -> Result<Instant> {
    loop {
        if let Some(at) = lease_answer(run, stolen) {
            return Ok(at);
        }
        ensure!(stolen.elapsed() < HEARD, "the leader did not ask for its Lease in {} s", HEARD.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Gives the Lease to somebody who does not exist; returns when.
async fn steal(run: &Run<'_>) -> Result<Instant> {
    let leases = Api::<Lease>::namespaced(run.stage.rig.admin.clone(), SYSTEM);
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let theft = json!({"spec": {"holderIdentity": "thief", "renewTime": now, "acquireTime": now}});
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(theft)).await?;
    Ok(Instant::now())
}

/// The leader must end, and until then write nothing once it heard that the Lease is somebody else's. A
/// leader that was paused may find out by its own clock instead: then it counts from when it went on.
async fn deposed(run: &mut Run<'_>, since: Instant) -> Result<()> {
    let status = run.operator.ended(DEPOSED).await.context("the deposed leader goes on")?;
    ensure!(!status.success(), "a deposed leader ends with a failure, so that it is started again");
    let over = lease_answer(run, since).unwrap_or(since) + IN_FLIGHT;
    let late = run.operator.proxy.writes().into_iter().filter(|e| e.at > over);
    let late: Vec<String> = late.map(|e| e.call.to_string()).collect();
    ensure!(late.is_empty(), "writes of a leader whose Lease was over: {late:?}");
    Ok(())
}

/// A second process on the same volume refuses to start, says why, and disturbs nobody.
async fn second(run: &mut Run<'_>, happened: &mut bool) -> Result<()> {
    let folder = run.operator.dir.clone();
    let mut second = Operator::new(&run.stage.rig, &run.stage.programs, "second", Some(&folder)).await?;
    second.start(None)?;
    *happened = true;
    let status = second.ended(Duration::from_secs(10)).await?;
    ensure!(!status.success(), "a second process on the same volume must not start");
    ensure!(second.log().contains("locked by another process"), "it says why: {}", second.log());
    ensure!(second.proxy.writes().is_empty(), "it writes nothing");
    ensure!(run.operator.running(), "the first goes on");
    Ok(())
}

/// A create leaves the leader and is held up until long after the leader lost its Lease.
async fn on_the_wire(run: &mut Run<'_>, happened: &mut bool) -> Result<()> {
    run.operator.proxy.add(Rule::nth("create", "jobs", 1, Point::Before, Action::Hold));
    let next = workload::run("first", 42);
    run.step(&crate::workload::Step::Apply(next)).await?;
    run.until("the create on the wire", async |run| Ok(run.operator.proxy.rules_left() == 0)).await?;
    run.operator.signal(Signal::STOP);
    *happened = true;
    steal(run).await?;
    tokio::time::sleep(PAUSE).await;
    run.operator.proxy.release();
    let woken = Instant::now();
    run.operator.signal(Signal::CONT);
    deposed(run, woken).await
}

/// The leader stops itself at a place in the registry; another one takes the epoch, or cannot.
async fn in_registry(run: &mut Run<'_>, story: Story, happened: &mut bool) -> Result<()> {
    run.step(&crate::workload::Step::Apply(workload::run("first", 42))).await?;
    let pid = run.operator.pid().context("the operator runs")?;
    run.until("the leader to stop itself", async |_| Ok(is_stopped(pid))).await?;
    *happened = true;
    let rows = versions(run).await?;
    let taken = take_epoch(run).await;
    let woken = steal(run).await?;
    run.operator.signal(Signal::CONT);
    if story == Story::PausedWithinTransaction {
        let refused = taken.err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(
            refused.contains("locked"),
            "the epoch cannot be taken within another leader's transaction: {refused:?}"
        );
        return deposed(run, woken).await;
    }
    taken?;
    deposed(run, woken).await?;
    ensure!(versions(run).await? == rows, "a deposed leader registered a version");
    if !run.operator.log().contains("another process leads") {
        bail!("the deposed leader does not say why it stops");
    }
    Ok(())
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

async fn pool(run: &Run<'_>) -> Result<sqlx::SqlitePool> {
    let file = run.operator.dir.join("registry/registry.db");
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(1));
    Ok(SqlitePoolOptions::new().max_connections(1).connect_with(options).await?)
}

/// What another leader does first.
async fn take_epoch(run: &Run<'_>) -> Result<()> {
    let pool = pool(run).await?;
    let done = sqlx::query("UPDATE fence SET epoch = epoch + 1 WHERE id = 1").execute(&pool).await;
    pool.close().await;
    done.context("taking the epoch")?;
    Ok(())
}

async fn versions(run: &Run<'_>) -> Result<i64> {
    let pool = pool(run).await?;
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM versions").fetch_one(&pool).await?;
    pool.close().await;
    Ok(rows)
}
