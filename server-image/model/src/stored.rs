//! How a classifier lies in a model file: linear weights are scored where they lie, trees are read
//! into memory. What the tensors are called is in [`crate::artifact`].

use std::ops::Range;

use safetensors::tensor::Dtype;

use crate::artifact::{ArtifactError, Named, Reader, corrupt, floats, tensor};
use crate::head::{Algorithm, Head};
use crate::trees::{Boosted, Forest, Trees};

/// A classifier as a file has it; every range and every node was checked.
#[derive(Debug, Clone)]
pub(crate) enum StoredHead {
    /// Places in the file.
    Linear { weights: Range<usize>, intercepts: Range<usize> },
    /// A random forest.
    Forest(Forest),
    /// Boosted trees.
    Boosted(Boosted),
}

/// The tensors of a classifier.
pub(crate) fn tensors(head: &Head) -> Result<Vec<Named<'_>>, ArtifactError> {
    let classes = head.classes();
    match head {
        Head::Linear(head) => Ok(vec![
            floats("head.weights", vec![head.features, classes], &head.weights)?,
            floats("head.intercepts", vec![classes], &head.intercepts)?,
        ]),
        Head::Forest(forest) => {
            let mut all = nodes(&forest.trees)?;
            let leaves = forest.leaves.len() / classes;
            all.push(floats("trees.values", vec![leaves, classes], &forest.leaves)?);
            Ok(all)
        }
        Head::Boosted(boosted) => {
            let mut all = nodes(&boosted.trees)?;
            all.push(floats("trees.values", vec![boosted.values.len(), 1], &boosted.values)?);
            all.push(floats("trees.base", vec![classes], &boosted.base)?);
            Ok(all)
        }
    }
}

fn nodes(trees: &Trees) -> Result<Vec<Named<'_>>, ArtifactError> {
    let nodes = trees.nodes();
    Ok(vec![
        numbers("trees.roots", &trees.roots)?,
        numbers("trees.features", &trees.feature)?,
        floats("trees.thresholds", vec![nodes], &trees.threshold)?,
        numbers("trees.left", &trees.left)?,
        numbers("trees.right", &trees.right)?,
        tensor("trees.defaultLeft", Dtype::U8, vec![nodes], &trees.default_left)?,
    ])
}

fn numbers<'a>(name: &'static str, data: &'a [u32]) -> Result<Named<'a>, ArtifactError> {
    tensor(name, Dtype::U32, vec![data.len()], bytemuck::cast_slice(data))
}

/// Finds the classifier of a file and checks all of it but the finiteness of linear weights.
pub(crate) fn read(
    reader: &Reader<'_>,
    algorithm: Algorithm,
    classes: usize,
    features: usize,
) -> Result<StoredHead, ArtifactError> {
    let unsound = |e: crate::trees::TreeError| corrupt(e.to_string());
    match algorithm {
        Algorithm::LinearSvm { .. }
        | Algorithm::LogisticRegression { .. }
        | Algorithm::ComplementNaiveBayes { .. } => Ok(StoredHead::Linear {
            weights: reader.shaped("head.weights", Dtype::F32, &[features, classes])?,
            intercepts: reader.shaped("head.intercepts", Dtype::F32, &[classes])?,
        }),
        Algorithm::RandomForest { .. } => {
            let leaves = reader.table("trees.values", classes)?;
            let forest = Forest { classes, features, trees: read_nodes(reader)?, leaves };
            forest.check().map_err(unsound)?;
            Ok(StoredHead::Forest(forest))
        }
        Algorithm::GradientBoosting { .. } => {
            let base = reader.shaped("trees.base", Dtype::F32, &[classes])?;
            let (values, base) = (reader.table("trees.values", 1)?, reader.floats(base));
            let boosted = Boosted { classes, features, base, trees: read_nodes(reader)?, values };
            boosted.check().map_err(unsound)?;
            Ok(StoredHead::Boosted(boosted))
        }
    }
}

fn read_nodes(reader: &Reader<'_>) -> Result<Trees, ArtifactError> {
    let numbers = |name| Ok(reader.numbers(reader.find(name, Dtype::U32)?.0));
    let threshold = reader.find("trees.thresholds", Dtype::F32)?.0;
    let default_left = reader.find("trees.defaultLeft", Dtype::U8)?.0;
    Ok(Trees {
        roots: numbers("trees.roots")?,
        feature: numbers("trees.features")?,
        threshold: reader.floats(threshold),
        left: numbers("trees.left")?,
        right: numbers("trees.right")?,
        default_left: reader.bytes[default_left].to_vec(),
    })
}
