//! What the operator and its pods say to each other: config files, reports, exit codes, paths,
//! ports and the addresses of the artifact gateway.
//!
//! Plain data only: no IO and no decision. Fields are only ever added, with a default; a config with
//! one that an older pod must not leave out has a higher version than [`VERSION`] (see [`job::NEWEST`]).

pub mod exit;
pub mod gateway;
pub mod job;
pub mod paths;
pub mod report;
pub mod serve;
pub mod siblings;
pub mod template;

/// Version of the contract that this build speaks.
pub const VERSION: u32 = 1;

/// Prefix of every digest: the algorithm.
pub const DIGEST_PREFIX: &str = "sha256:";

/// Is this a digest as the contract writes it: `sha256:` and 64 lower-case hex digits?
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST_PREFIX).is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_checked_to_the_letter() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert!(is_digest(&good));
        for bad in [&good[7..], &good[..70], &good.to_uppercase(), &format!("{good}0"), "sha256:../..", ""] {
            assert!(!is_digest(bad), "{bad}");
        }
    }
}
