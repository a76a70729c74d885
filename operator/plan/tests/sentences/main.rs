//! Every reason of the closed list is produced here by a situation of a user's life, and every
//! sentence that goes with it is written into `crds/REASONS.md`: a text that changes shows in a
//! review, and a reason that nothing produces fails. Written anew by
//! `VITRINE_WRITE=1 cargo test -p vitrine-plan --test sentences`.
#![allow(clippy::unwrap_used)]

mod book;
#[path = "../common/mod.rs"]
mod common;
mod serving;
mod work;

use book::Book;
use vitrine_crds::condition::Reason;

fn everything() -> Book {
    let mut book = Book::default();
    work::datasets(&mut book);
    work::runs(&mut book);
    work::causes(&mut book);
    serving::deployments(&mut book);
    serving::faults(&mut book);
    book
}

#[test]
fn every_reason_is_produced_by_something() {
    let book = everything();
    let never: Vec<_> = Reason::ALL.iter().filter(|reason| !book.tells(**reason)).collect();
    assert!(never.is_empty(), "nothing produces {never:?}: remove them, or add the situation here");
}

#[test]
fn every_failure_says_more_than_its_reason() {
    for (reason, sentence) in everything().failures() {
        assert!(sentence.len() > 40 && sentence.contains(' '), "{reason}: {sentence:?}");
        assert!(![".;", ";;", ":;"].iter().any(|slip| sentence.contains(slip)), "{reason}: {sentence:?}");
    }
}

#[test]
fn the_document_is_what_users_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/REASONS.md");
    let text = everything().markdown();
    if std::env::var_os("VITRINE_WRITE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "crds/REASONS.md is not what the plan says: VITRINE_WRITE=1 cargo test -p vitrine-plan --test sentences, and read the difference"
    );
}
