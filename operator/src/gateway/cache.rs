//! Identities that were found out a moment ago, by the hash of their token.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::identity::Identity;

/// Hash of a token: tokens themselves are not kept.
pub(super) type TokenHash = [u8; 32];

/// A bounded map with an age.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Mutex<HashMap<TokenHash, (Instant, Identity)>>,
    age: Duration,
    most: usize,
}

impl Cache {
    /// Keeps at most `most` identities for `age`.
    pub fn new(age: Duration, most: usize) -> Self {
        Self { entries: Mutex::default(), age, most }
    }

    pub fn hash(token: &str) -> TokenHash {
        Sha256::digest(token.as_bytes()).into()
    }

    pub fn get(&self, token: &TokenHash, now: Instant) -> Option<Identity> {
        let entries = self.entries.lock().ok()?;
        let (since, identity) = entries.get(token)?;
        (now.duration_since(*since) < self.age).then(|| identity.clone())
    }

    /// Forgets what is too old, and the oldest if there are too many.
    pub fn put(&self, token: TokenHash, identity: Identity, now: Instant) {
        let Ok(mut entries) = self.entries.lock() else { return };
        entries.retain(|_, (since, _)| now.duration_since(*since) < self.age);
        if entries.len() >= self.most {
            let oldest = entries.iter().min_by_key(|(_, (since, _))| *since).map(|(token, _)| *token);
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        entries.insert(token, (now, identity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::identity::{Owner, Workload};

    fn identity(pod: &str) -> Identity {
        Identity {
            namespace: String::new(),
            namespace_uid: String::new(),
            pod: pod.to_owned(),
            pod_uid: String::new(),
            owner: Owner { kind: String::new(), name: String::new(), uid: String::new() },
            workload: Workload::Job { name: String::new(), uid: String::new() },
            reads: std::collections::BTreeSet::new(),
        }
    }

    #[test]
    fn an_identity_is_known_until_its_age_and_by_its_own_token_only() {
        let cache = Cache::new(Duration::from_mins(1), 8);
        let start = Instant::now();
        cache.put(Cache::hash("a"), identity("pod"), start);
        let later = |s| start + Duration::from_secs(s);
        assert_eq!(cache.get(&Cache::hash("a"), later(59)), Some(identity("pod")));
        assert_eq!(cache.get(&Cache::hash("b"), later(1)), None);
        assert_eq!(cache.get(&Cache::hash("a"), later(60)), None);
    }

    #[test]
    fn the_map_stays_bounded_and_forgets_the_oldest() {
        let cache = Cache::new(Duration::from_mins(1), 3);
        let start = Instant::now();
        for n in 0..10_u64 {
            cache.put(Cache::hash(&n.to_string()), identity("pod"), start + Duration::from_millis(n));
        }
        let known: Vec<u64> = (0..10)
            .filter(|n| cache.get(&Cache::hash(&n.to_string()), start + Duration::from_millis(10)).is_some())
            .collect();
        assert_eq!(known, [7, 8, 9]);
    }
}
