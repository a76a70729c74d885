//! What is created: 40 % Datasets, 40 % TrainingRuns (one for each Dataset), 20 % ModelDeployments (one
//! for every second run's model, with promotion from challenger to champion), spread over a few
//! namespaces; 2 % of the Jobs of Datasets and of runs fail for good.

use serde_json::{Value, json};

/// Namespaces.
pub const NAMESPACES: usize = 5;
/// Plurals of the three kinds.
pub const KINDS: [&str; 3] = ["datasets", "trainingruns", "modeldeployments"];

/// One resource.
#[derive(Clone, Debug)]
pub struct Item {
    /// Plural of its kind.
    pub plural: &'static str,
    /// Which namespace.
    pub namespace: usize,
    /// Name.
    pub name: String,
    /// Manifest without namespace.
    pub manifest: Value,
}

/// How many of each kind make N resources.
pub fn counts(n: usize) -> [usize; 3] {
    let (datasets, runs) = (n * 2 / 5, n * 2 / 5);
    [datasets, runs, n - datasets - runs]
}

/// The resources of a run of N, by kind.
pub fn items(n: usize) -> [Vec<Item>; 3] {
    let [datasets, runs, deployments] = counts(n);
    [
        (0..datasets).map(|i| dataset(&dataset_name(i), i % NAMESPACES)).collect(),
        (0..runs).map(|i| run(&run_name(i), &of_run(i), &format!("model-{i}"), i % NAMESPACES)).collect(),
        (0..deployments)
            .map(|i| deployment(&format!("m-{i}"), &format!("model-{}", 2 * i), 2 * i % NAMESPACES))
            .collect(),
    ]
}

/// The names begin as [`vitrine_faults::completer::Behaviour`] wants it.
fn dataset_name(i: usize) -> String {
    if i % 50 == 49 { format!("data-d-{i}") } else { format!("d-{i}") }
}

/// An odd number fails: ModelDeployments serve the models of even ones.
fn run_name(i: usize) -> String {
    if i % 50 == 25 { format!("data-r-{i}") } else { format!("r-{i}") }
}

/// The Dataset of a run: its own, or that of the same namespace before it where its own fails.
fn of_run(i: usize) -> String {
    dataset_name(if i % 50 == 49 { i - NAMESPACES } else { i })
}

fn item(plural: &'static str, kind: &str, name: &str, namespace: usize, spec: &Value) -> Item {
    let manifest = json!({"apiVersion": "vitrine.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
        "spec": spec});
    Item { plural, namespace, name: name.to_owned(), manifest }
}

/// A Dataset.
pub fn dataset(name: &str, namespace: usize) -> Item {
    let spec = json!({"source": {"pvc": {"claimName": "data"}, "files": {"features": "X.csv"}},
        "schema": {"text": ["designation"], "label": "code"}});
    item("datasets", "Dataset", name, namespace, &spec)
}

/// A TrainingRun.
pub fn run(name: &str, dataset: &str, model: &str, namespace: usize) -> Item {
    let spec = json!({"datasetRef": {"name": dataset}, "seed": 42, "gate": [{"metric": "F1Weighted", "min": 0.5}],
        "output": {"model": model}});
    item("trainingruns", "TrainingRun", name, namespace, &spec)
}

/// A ModelDeployment.
pub fn deployment(name: &str, model: &str, namespace: usize) -> Item {
    let spec = json!({"model": {"name": model, "alias": "champion", "candidateAlias": "challenger"},
        "replicas": 1});
    item("modeldeployments", "ModelDeployment", name, namespace, &spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_for_what_fails_or_is_elsewhere() {
        let [datasets, runs, deployments] = items(1000);
        assert_eq!([datasets.len(), runs.len(), deployments.len()], [400, 400, 200]);
        let failing = |items: &[Item]| items.iter().filter(|i| i.name.starts_with("data-")).count();
        assert_eq!((failing(&datasets), failing(&runs)), (8, 8), "2 % of the Jobs");
        for run in &runs {
            let name = run.manifest["spec"]["datasetRef"]["name"].as_str().unwrap();
            assert!(!name.starts_with("data-"), "{}", run.name);
            assert!(datasets.iter().any(|d| d.name == name && d.namespace == run.namespace), "{}", run.name);
        }
        for deployment in &deployments {
            let model = &deployment.manifest["spec"]["model"]["name"];
            let of = |r: &&Item| r.manifest["spec"]["output"]["model"] == *model;
            let run = runs.iter().find(of).unwrap();
            assert!(!run.name.starts_with("data-") && run.namespace == deployment.namespace, "{model}");
        }
    }
}
