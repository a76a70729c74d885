//! Model files that are taken apart and put together wrongly.

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use vitrine_model::{ArtifactError, Model};

/// Reads, and uses what was read.
pub fn attempt(bytes: &[u8]) -> Result<(), ArtifactError> {
    let model = Model::from_bytes(bytes)?;
    let _ = model.verify_probes();
    let prediction = model.predict_one(&[Some("piscine chêne roman <b>"), None]);
    assert_eq!(prediction.scores.len(), model.info().classes.len());
    Ok(())
}

pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

/// A good file taken apart, changed by `change`, and put together again.
pub fn changed(good: &[u8], change: impl FnOnce(&mut Value, &mut Vec<Tensor>)) -> Result<(), ArtifactError> {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(good).unwrap();
    let mut info: Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["vitrine"]).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(good).unwrap();
    let mut tensors: Vec<Tensor> = parsed
        .iter()
        .map(|(name, view)| Tensor {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        })
        .collect();
    change(&mut info, &mut tensors);
    let views =
        tensors.iter().map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.data).unwrap()));
    let metadata = [("vitrine".to_owned(), info.to_string())].into_iter().collect();
    attempt(&safetensors::serialize(views, Some(metadata)).unwrap())
}

pub fn tensor<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}

#[track_caller]
pub fn refused(result: Result<(), ArtifactError>, expected: &str) {
    match result {
        Err(ArtifactError::Corrupt { what }) => {
            assert!(what.contains(expected), "{what:?} lacks {expected:?}");
        }
        other => panic!("expected a corrupt file with {expected:?}, got {other:?}"),
    }
}
