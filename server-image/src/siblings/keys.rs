//! The cluster's keys as the config file has them now. The operator writes new keys into the
//! ConfigMap and the kubelet into the file; neither restarts a pod, so the file is read again when
//! a caller shows a key that is not known.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use vitrine_contract::serve::ServeConfig;
use vitrine_contract::siblings::Siblings;

use super::token::{Refusal, Trust};

/// Least time between two looks at the file: anybody can make up keys.
const PAUSE: Duration = Duration::from_secs(2);

/// The keys, kept up to date.
#[derive(Debug)]
pub struct Keys {
    config: PathBuf,
    trust: RwLock<Option<Arc<Trust>>>,
    looked: Mutex<Option<Instant>>,
}

impl Keys {
    /// The keys that the config had at start, if any.
    pub fn new(known: Option<&Siblings>, config: PathBuf) -> Self {
        let trust = known.map(|siblings| Arc::new(Trust::new(siblings)));
        Self { config, trust: RwLock::new(trust), looked: Mutex::default() }
    }

    /// The name of the pod that holds this token; none: no keys were published.
    pub async fn pod_of(&self, token: &str) -> Option<Result<String, Refusal>> {
        let first = self.trust().map(|trust| trust.pod_of(token));
        let unknown = matches!(first, None | Some(Err(Refusal::UnknownKey(_))));
        if unknown && self.look_again().await { self.trust().map(|t| t.pod_of(token)) } else { first }
    }

    fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file, unless that was done a moment ago.
    async fn look_again(&self) -> bool {
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|at| at.elapsed() < PAUSE) {
                return false;
            }
            *looked = Some(Instant::now());
        }
        let text = match tokio::fs::read_to_string(&self.config).await {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %self.config.display(), %error, "the config cannot be read again");
                return false;
            }
        };
        let Ok(ServeConfig { siblings: Some(siblings), .. }) = serde_json::from_str(&text) else {
            return false;
        };
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Trust::new(&siblings)));
        true
    }
}
