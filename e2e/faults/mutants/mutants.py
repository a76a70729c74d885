"""The mutants: what is broken, where, and the part of a campaign that must notice it.

`changes`: (file, text that stands there exactly once, text instead). `expect`: the invariant that must be
found violated.
"""
import json

PLAN = "operator/plan/src/"
OPERATOR = "operator/src/"


def repro(workload, **faults):
    """The arguments that run one case."""
    case = {"workload": workload, "faults": {"rules": [], "failpoint": None, **faults}}
    return ["c1", "--jobs", "1", "--repro", json.dumps(case)]


def rule(verb, resource, point, action, skip=0, times=1):
    return {"verb": verb, "resource": resource, "skip": skip, "times": times, "point": point, "action": action}


MUTANTS = [
    {
        "name": "generate-name",
        "expect": "I2",
        "broken": "Jobs get a name from the apiserver instead of one that follows from their inputs",
        "changes": [(
            OPERATOR + "apply/children.rs",
            "    let created = ctx.api::<Job>(namespace).create(&params, job).await;",
            "    let mut job = job.clone();\n"
            "    job.metadata.generate_name = job.metadata.name.take().map(|n| format!(\"{n}-\"));\n"
            "    let job = &job;\n"
            "    let created = ctx.api::<Job>(namespace).create(&params, job).await;",
        )],
        "campaign": repro("dataset", rules=[rule("create", "jobs", "applied", "kill")]),
    },
    {
        "name": "no-uid-check-on-already-exists",
        "expect": "I1",
        "broken": "a Job that exists counts as ours, whoever owns it",
        "changes": [
            (OPERATOR + "apply/children.rs",
             "                Some(live) if !owned_by(&live.metadata, &owner.uid) => {",
             "                Some(live) if live.metadata.uid.is_none() => {"),
            (OPERATOR + "observe/jobs.rs", "        owned: owned_by(&job.metadata, owner_uid),",
             "        owned: !owner_uid.is_empty(),"),
        ],
        "campaign": repro("foreign-job"),
    },
    {
        "name": "unfenced-registration",
        "expect": "I1",
        "broken": "the registry takes writes of an older leader",
        "changes": [(
            OPERATOR + "registry/apply.rs",
            "WHERE id = 1 AND epoch = $1",
            "WHERE id = 1 AND epoch >= $1",
        )],
        "campaign": ["c4", "--story", "paused-before-registering"],
    },
    {
        "name": "ready-without-probe",
        "expect": "I1",
        "broken": "serving pods count as ready before digest and probes are verified",
        "changes": [(
            PLAN + "model_deployment/children.rs",
            "        container.readiness_probe = Some(probe(paths::READY_PATH, 1, 2));",
            "        container.readiness_probe = None;",
        )],
        "campaign": repro("rollback"),
    },
    {
        "name": "status-only-idempotence",
        "expect": "I2",
        "broken": "which Job is the current one follows from status alone",
        "changes": [(
            PLAN + "attempt.rs",
            "    named.unwrap_or_else(|| numbered(owner, uid, key, 1))",
            "    named.unwrap_or_else(|| numbered(owner, uid, key, i32::try_from(std::process::id()).unwrap_or(1)))",
        )],
        "campaign": repro("dataset", rules=[rule("create", "jobs", "applied", "kill")]),
    },
    {
        "name": "no-owner-check",
        "expect": "I3",
        "broken": "a first apply takes over what it meets",
        "changes": [
            (OPERATOR + "apply/children.rs",
             "        Met::Foreign => Err(collision(kind, namespace, &name)),",
             "        Met::Foreign => Ok(write(ctx, kind, plural, namespace, child).await?),"),
            (PLAN + "model_deployment/mod.rs",
             "        if self.seen.service.as_ref().is_some_and(|(_, owned)| !owned) {",
             "        if self.seen.service.as_ref().is_some_and(|(_, owned)| !owned && self.owner.name.is_empty()) {"),
        ],
        "campaign": repro("foreign-service"),
    },
    {
        "name": "delete-without-precondition",
        "expect": "I3",
        "broken": "a delete does not name the UID of what it means",
        "changes": [(
            OPERATOR + "apply/children.rs",
            "    let uid = Preconditions { uid: Some(child.uid.clone()), resource_version: None };",
            "    let uid = Preconditions { uid: Some(child.uid.clone()).filter(String::is_empty), resource_version: None };",
        )],
        "campaign": repro("change"),
    },
    {
        "name": "timestamp-in-status",
        "expect": "I1",
        "broken": "status holds the time of the last pass",
        "changes": [(
            PLAN + "dataset/status.rs",
            "        parts.join(\", \")\n    )",
            "        format!(\"{}; seen {:?}\", parts.join(\", \"), std::time::SystemTime::now())\n    )",
        )],
        "campaign": repro("dataset"),
    },
    {
        "name": "watch-error-swallowed",
        "expect": "I1",
        "broken": "a watch that failed is not opened again",
        "changes": [(
            OPERATOR + "watch.rs",
            "                continue;\n            }\n        };\n        match decode(event) {",
            "                std::future::pending::<()>().await;\n                continue;\n            }\n        };\n        match decode(event) {",
        )],
        "campaign": repro("deploy", lags=[{"resource": "deployments", "step": 4, "millis": 1500, "how": "lost"}]),
    },
    {
        "name": "unbounded-retry",
        "expect": "I12",
        "broken": "what failed is tried again at once",
        "changes": [
            (OPERATOR + "backoff.rs", "    (!left.is_zero()).then_some(left)\n",
             "    (left.is_zero() && left.as_secs() > 1).then_some(left)\n"),
        ],
        # a status that comes after Ready is still under way when the outage begins: or nothing would be there to
        # be tried again
        "campaign": repro("promote", outage=[6, 15000],
                          rules=[rule("patch", "modeldeployments/status", "before", {"delay": 3000}, skip=2)]),
    },
]
