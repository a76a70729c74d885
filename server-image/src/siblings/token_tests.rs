//! Every token that must not be believed, beside the two kinds that must.

use serde_json::{Value, json};
use vitrine_contract::siblings::Issuer;

use super::*;
use cluster::{Cluster, ISSUER, claims, encode, now};

#[path = "../../tests/common/cluster.rs"]
mod cluster;

/// Public key of a cluster that signs with RSA, and a token of it (valid until 2100), made by OpenSSL.
const RSA_MODULUS: &str = concat!(
    "1cz6kbCP3v7bhWBE3WBK5FZT-NqqzUlydRdEZF0gWsLR2vlUVFRQQMO76kjfdwQixzWbRM-WdGxvSbTsiiIopxUMDtoy-Rv2fMzP",
    "Qjj6Gumh0vTOzbldiFcmdjjFqW9n2TbiruXg1CYhVN_kNL8k5-wXR-2Y12yj-PRq65s1Xw9WguA98dtla9KtYoJW4wu_jJ0tY-Vf",
    "7qc6sZ9V2RYYTGpp20B-V5GhUjOpbgOPdtL1Tdp2HR5fDqFwzbqriv6Hz_k101o4JXXhI-Zgp3rAuTW_U1o98nbRIZU4DGwLqOMP",
    "4Y5-nk8-3Ah_02Aq1VdqxF9iwWyh3DRrXozlXnnvqw",
);
const RSA_TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYS0xIn0.eyJhdWQiOlsidml0cmluZS1zaWJsaW5nIl0sImV4cCI6NDEwMjQ0NDgwMCwi",
    "aWF0IjoxNzAwMDAwMDAwLCJuYmYiOjE3MDAwMDAwMDAsImlzcyI6Imh0dHBzOi8va3ViZXJuZXRlcy5kZWZhdWx0LnN2Yy5jbHVz",
    "dGVyLmxvY2FsIiwianRpIjoiN2EwYyIsImt1YmVybmV0ZXMuaW8iOnsibmFtZXNwYWNlIjoic2hvcCIsIm5vZGUiOnsibmFtZSI6",
    "Im4xIiwidWlkIjoidTEifSwicG9kIjp7Im5hbWUiOiJzaG9wLWUwYjkwOGI5ZjgteCIsInVpZCI6InUyIn0sInNlcnZpY2VhY2Nv",
    "dW50Ijp7Im5hbWUiOiJkZWZhdWx0IiwidWlkIjoidTMifX0sInN1YiI6InN5c3RlbTpzZXJ2aWNlYWNjb3VudDpzaG9wOmRlZmF1",
    "bHQifQ.jfusj7tnpwvURYYALT4TDEW9Sn7Ccg3JmUPk6uC55m9cNQZr1DpIlKSNdX4Gh7N3fjyck4hpWBw1qXxBq4kj990Zum8lo",
    "spBYumS-KaaFOHG2-6tLrs2X6ouqV6iZxI-xxBV_BwQ1ozLN4M2JoTUCwfLFtlwhOfc_z4b4yb2MdRM-DDKgJyeWseUwaqIaS7bz",
    "ZFM2SsghITaRJjgfpuPQDjrjxsuz4SuzyPr0wEgem_r2r8NLCdmJgOiJWevgTA1n3EbHLNIcYEXAITHiiDCo0pXoYHleLEZyx8Cv",
    "KimFlcOf8li839iz6tSrUqN5slgzG4pFby0XtMCBotZr7_5Sg",
);

type Change = fn(&mut Value);

fn rsa() -> Key {
    let (n, e) = (Some(RSA_MODULUS.to_owned()), Some("AQAB".to_owned()));
    Key { kid: "rsa-1".into(), kty: "RSA".into(), n, e, ..Key::default() }
}

fn trust(keys: Vec<Key>) -> Trust {
    let issuer = Issuer { issuer: ISSUER.into(), keys };
    Trust::new(&Siblings { url: "http://x".into(), namespace: "shop".into(), issuer })
}

/// What becomes of a token with these changed claims.
fn with(change: impl FnOnce(&mut Value)) -> Result<String, Refusal> {
    let cluster = Cluster::new("k");
    let mut claims = claims();
    change(&mut claims);
    trust(vec![cluster.key()]).pod_of(&cluster.sign(&claims))
}

#[test]
fn a_pod_of_the_namespace_is_recognised_by_both_kinds_of_keys() {
    assert_eq!(with(|_| ()), Ok("caller".into()));
    assert_eq!(trust(vec![rsa()]).pod_of(RSA_TOKEN), Ok("shop-e0b908b9f8-x".into()));
    // one audience as a text, as the standard allows
    assert_eq!(with(|c| c["aud"] = AUDIENCE.into()), Ok("caller".into()));
}

#[test]
fn a_token_for_somebody_else_or_of_another_time_is_refused_and_says_why() {
    let cases: [(&str, Change); 10] = [
        ("expired", |c| c["exp"] = (now() - LEEWAY - 5).into()),
        ("not valid yet", |c| c["nbf"] = (now() + LEEWAY + 60).into()),
        ("audience", |c| c["aud"] = json!(["vitrine"])),
        ("audience", |c| c["aud"] = json!(["https://kubernetes.default.svc.cluster.local"])),
        ("issuer", |c| c["iss"] = "https://elsewhere".into()),
        ("exp", |c| drop(c.as_object_mut().unwrap().remove("exp"))),
        ("exp", |c| c["exp"] = "4102444800".into()),
        ("aud", |c| drop(c.as_object_mut().unwrap().remove("aud"))),
        ("iss", |c| drop(c.as_object_mut().unwrap().remove("iss"))),
        ("nbf", |c| c["nbf"] = "soon".into()),
    ];
    for (word, change) in cases {
        match with(change) {
            Err(Refusal::Invalid(why)) => assert!(why.contains(word), "{word}: {why}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    // clocks differ
    assert!(with(|c| c["exp"] = (now() - 5).into()).is_ok());
    assert!(with(|c| c["nbf"] = (now() + 5).into()).is_ok());
}

#[test]
fn another_namespace_and_what_is_no_pod_are_foreign() {
    let cases: [Change; 4] = [
        |c| c["kubernetes.io"]["namespace"] = "other".into(),
        |c| drop(c["kubernetes.io"].as_object_mut().unwrap().remove("pod")),
        |c| drop(c.as_object_mut().unwrap().remove("kubernetes.io")),
        // what the subject says counts for nothing
        |c| {
            c["kubernetes.io"]["namespace"] = "other".into();
            c["sub"] = "system:serviceaccount:shop:default".into();
        },
    ];
    for change in cases {
        assert!(matches!(with(change), Err(Refusal::Foreign(_))));
    }
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    let refused = |trust: &Trust, token: &str| match trust.pod_of(token) {
        Err(Refusal::Invalid(_) | Refusal::UnknownKey(_)) => {}
        other => panic!("{token}: {other:?}"),
    };
    let cluster = Cluster::new("k");
    let elliptic = trust(vec![cluster.key()]);
    let (token, rsa) = (cluster.token(), trust(vec![rsa()]));
    for (trust, token) in [(&elliptic, token.as_str()), (&rsa, RSA_TOKEN)] {
        let parts: Vec<&str> = token.split('.').collect();
        let mut payload: Value = claims();
        payload["kubernetes.io"]["pod"]["name"] = "evil".into();
        refused(trust, &format!("{}.{}.{}", parts[0], encode(payload.to_string()), parts[2]));
        refused(trust, &format!("{}.{}.", parts[0], parts[1]));
        refused(trust, &format!("{}.{}", parts[0], parts[1]));
        let flipped = if parts[2].starts_with('A') { "B" } else { "A" };
        refused(trust, &format!("{}.{}.{flipped}{}", parts[0], parts[1], &parts[2][1..]));
    }
    for text in ["", "x", "..", "a.b.c", &"a".repeat(100_000)] {
        refused(&elliptic, text);
    }
}

#[test]
fn the_algorithm_is_that_of_the_key_whatever_the_token_says() {
    let cluster = Cluster::new("k");
    let trust = trust(vec![cluster.key(), rsa()]);
    let claims = claims();
    // none
    for none in ["none", "None", "NONE"] {
        let head = encode(json!({"alg": none, "kid": "k"}).to_string());
        let token = format!("{head}.{}.", encode(claims.to_string()));
        assert!(matches!(trust.pod_of(&token), Err(Refusal::Invalid(_))), "{none}");
    }
    // the public key as the secret of a HMAC
    let point = cluster.key();
    for (kid, secret) in [("k", point.x.unwrap()), ("rsa-1", RSA_MODULUS.to_owned())] {
        let head = encode(json!({"alg": "HS256", "kid": kid}).to_string());
        let message = format!("{head}.{}", encode(claims.to_string()));
        for secret in [secret.as_bytes().to_vec(), base64_of(&secret)] {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let token = format!("{message}.{}", encode(ring::hmac::sign(&key, message.as_bytes())));
            assert!(matches!(trust.pod_of(&token), Err(Refusal::Invalid(_))), "{kid}");
        }
    }
    // a sound signature under the name of another key or algorithm
    for head in [json!({"alg": "ES256", "kid": "rsa-1"}), json!({"alg": "RS256", "kid": "k"})] {
        assert!(matches!(trust.pod_of(&cluster.sign_with_head(&head, &claims)), Err(Refusal::Invalid(_))));
    }
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn a_key_that_was_not_published_is_named_so_that_the_config_is_read_again() {
    let (known, other) = (Cluster::new("k"), Cluster::new("new"));
    let unknown = Err(Refusal::UnknownKey("new".into()));
    assert_eq!(trust(vec![known.key()]).pod_of(&other.token()), unknown);
    // the same name does not make it the same key
    let impostor = Cluster::new("k");
    assert!(matches!(trust(vec![known.key()]).pod_of(&impostor.token()), Err(Refusal::Invalid(_))));
    // keys that nobody here can use are as good as unknown
    let odd = Key { crv: Some("P-521".into()), ..other.key() };
    assert_eq!(trust(vec![odd]).pod_of(&other.token()), unknown);
}
