//! What an apiserver publishes, and what becomes of it.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::testing::{Server, deployment, refusal, world};

fn rsa(kid: &str) -> Value {
    json!({"use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256", "n": "AQ", "e": "AQAB"})
}

/// An apiserver with keys that a test may change; none: it refuses.
fn publishing(keys: &Arc<Mutex<Option<Vec<Value>>>>) -> Server {
    let keys = keys.clone();
    Server::new(move |seen| match (seen.path.as_str(), &*keys.lock().unwrap()) {
        (DISCOVERY, Some(_)) => {
            (200, json!({"issuer": "https://cluster", "jwks_uri": "https://elsewhere/keys"}))
        }
        (KEYS, Some(keys)) => (200, json!({"keys": keys})),
        _ => refusal(403, "Forbidden"),
    })
}

fn kids(issuer: Option<Issuer>) -> Vec<String> {
    issuer.map(|i| i.keys.into_iter().map(|k| k.kid).collect()).unwrap_or_default()
}

#[tokio::test]
async fn signing_keys_are_taken_in_one_order_and_odd_ones_left_out() {
    let curve = json!({"kty": "EC", "kid": "c", "crv": "P-256", "x": "AQ", "y": "Ag"});
    let other_use = json!({"use": "enc", "kty": "RSA", "kid": "d", "n": "AQ", "e": "AQAB"});
    let odd = [json!({"kty": "RSA"}), json!({"kty": "oct", "kid": "e", "k": "AQ"}), json!("x"), other_use];
    let mut all = vec![rsa("b"), curve, rsa("a"), rsa("b")];
    all.extend(odd);
    let keys = Arc::new(Mutex::new(Some(all.clone())));
    let server = publishing(&keys);
    let first = read(&server.client()).await.unwrap();
    assert_eq!(first.issuer, "https://cluster");
    assert_eq!(kids(Some(first.clone())), ["a", "b", "c"]);
    assert_eq!(first.keys[2].crv.as_deref(), Some("P-256"));
    all.reverse();
    *keys.lock().unwrap() = Some(all);
    assert_eq!(read(&server.client()).await.unwrap(), first, "another order is no news");
    // only reads, and only at the apiserver itself
    assert!(server.log().iter().all(|l| *l == format!("GET {DISCOVERY}") || *l == format!("GET {KEYS}")));
    *keys.lock().unwrap() = Some(vec![]);
    assert!(read(&server.client()).await.unwrap_err().contains(KEYS));
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_read_are_no_reason_not_to_begin() {
    let keys = Arc::default();
    let server = publishing(&keys);
    let known = Known::default();
    known.read(&server.client()).await;
    assert_eq!(known.get(), None);
    assert_eq!(server.log().len(), TRIES as usize);
}

#[tokio::test]
async fn new_keys_wake_every_deployment_and_are_in_its_plan_and_lost_ones_are_kept() {
    let keys = Arc::new(Mutex::new(Some(vec![rsa("a")])));
    let server = publishing(&keys);
    let mut world = world(&server, Duration::from_secs(20)).await;
    world.filled.deployment(deployment("x"));
    let ctx = world.ctx.clone();
    ctx.issuer.read(&server.client()).await;
    assert_eq!(kids(ctx.policy().issuer), ["a"]);
    let queues = Arc::new(Queues::default());
    let mut woken = queues.deployments.open().unwrap();
    tokio::time::pause();
    let reading = tokio::spawn({
        let (ctx, queues) = (ctx.clone(), queues.clone());
        async move { keep_reading(&ctx, &queues).await }
    });
    let wait = || tokio::time::sleep(REREAD * 2);
    wait().await;
    assert!(woken.try_recv().is_err(), "the same keys are no news");
    *keys.lock().unwrap() = Some(vec![rsa("a"), rsa("b")]);
    wait().await;
    assert_eq!(woken.try_recv().unwrap().obj_ref.name, "x");
    assert_eq!(kids(ctx.policy().issuer), ["a", "b"]);
    *keys.lock().unwrap() = None;
    wait().await;
    assert_eq!(kids(ctx.policy().issuer), ["a", "b"]);
    reading.abort();
}
