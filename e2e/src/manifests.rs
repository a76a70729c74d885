//! Manifests of the stories, as a user would write them.

/// A Dataset over the claim `data`.
pub fn dataset(name: &str) -> String {
    format!(
        r"
apiVersion: vitrine.dev/v1alpha1
kind: Dataset
metadata: {{name: {name}}}
spec:
  source:
    pvc: {{claimName: data}}
    files: {{features: X_train_update.csv, labels: Y_train_CVw08PX.csv}}
  schema: {{id: productid, text: [designation, description], label: prdtypecode}}
  resources: {{requests: {{cpu: 100m, memory: 64Mi}}, limits: {{memory: 512Mi}}}}
"
    )
}

/// A TrainingRun on the Dataset `products`.
pub struct Run<'a> {
    /// Name.
    pub name: &'a str,
    /// Seed.
    pub seed: u32,
    /// Grid of C: its length decides how long the run takes.
    pub c: &'a [f64],
    /// Model.
    pub model: &'a str,
    /// Least weighted F1 on the test split.
    pub gate: f64,
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { name: "run", seed: 42, c: &[1.0], model: "products", gate: 0.05 }
    }
}

impl Run<'_> {
    /// The manifest.
    pub fn yaml(&self) -> String {
        let Self { name, seed, model, gate, .. } = self;
        // `1` and not `1.0`: kubectl compares the text with the stored number and would always patch
        let c = self.c.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        format!(
            r"
apiVersion: vitrine.dev/v1alpha1
kind: TrainingRun
metadata: {{name: {name}}}
spec:
  datasetRef: {{name: products}}
  seed: {seed}
  search:
    features: [{{text: {{word: {{maxFeatures: 20000}}}}}}]
    candidates: [{{linearSvm: {{c: [{c}]}}}}]
  gate: [{{metric: F1Weighted, min: {gate}}}]
  output: {{model: {model}}}
  resources: {{requests: {{cpu: 100m, memory: 64Mi}}, limits: {{memory: 1Gi}}}}
"
        )
    }
}

/// A ModelDeployment that serves the champion and rolls out the challenger.
pub fn deployment(name: &str, replicas: u32) -> String {
    format!(
        r"
apiVersion: vitrine.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec:
  model: {{name: products, alias: champion, candidateAlias: challenger}}
  replicas: {replicas}
  resources: {{requests: {{cpu: 50m, memory: 32Mi}}, limits: {{memory: 256Mi}}}}
"
    )
}
