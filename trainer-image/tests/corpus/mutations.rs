//! A sound table with random faults: it is refused with its name, or every row of it is counted.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use vitrine_contract::exit;
use vitrine_trainer::ingest::{Places, ingest};
use vitrine_trainer::meter::Meter;
use vitrine_trainer::snapshot::Reader;

use crate::support::{Shop, challenge, products};

/// A fault at a place, which is a share of the file.
#[derive(Debug, Clone)]
enum Fault {
    Replace(f64, u8),
    Insert(f64, Vec<u8>),
    Delete(f64, usize),
    Repeat(f64, usize),
    Cut(f64),
}

fn fault() -> impl Strategy<Value = Fault> {
    let at = || 0.0..1.0;
    let byte =
        || prop_oneof![any::<u8>(), Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(0), Just(0xE9)];
    prop_oneof![
        4 => (at(), byte()).prop_map(|(at, byte)| Fault::Replace(at, byte)),
        3 => (at(), vec(byte(), 1..6)).prop_map(|(at, bytes)| Fault::Insert(at, bytes)),
        2 => (at(), 1..40_usize).prop_map(|(at, length)| Fault::Delete(at, length)),
        2 => (at(), 1..200_usize).prop_map(|(at, length)| Fault::Repeat(at, length)),
        1 => at().prop_map(Fault::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, fault: &Fault) {
    let place = |at: f64| (at * bytes.len() as f64) as usize;
    match fault {
        Fault::Replace(at, byte) => {
            let at = place(*at);
            bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
        }
        Fault::Insert(at, new) => {
            let at = place(*at);
            bytes.splice(at..at, new.iter().copied());
        }
        Fault::Delete(at, length) => {
            let at = place(*at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Fault::Repeat(at, length) => {
            let at = place(*at);
            let again = bytes[at..(at + length).min(bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
        Fault::Cut(at) => bytes.truncate(place(*at)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_with_random_faults_is_refused_with_its_name_or_counted(faults in vec(fault(), 1..6), second in any::<bool>()) {
        let (x, y) = products(20);
        let (mut x, mut y) = (x.into_bytes(), y.into_bytes());
        let (broken, name) = if second { (&mut y, "Y.csv") } else { (&mut x, "X.csv") };
        for fault in &faults {
            apply(broken, fault);
        }
        let shop = Shop::new(&[]);
        shop.write("X.csv", &x);
        shop.write("Y.csv", &y);
        let places = Places { source: shop.source(), out: shop.out("out"), fixed_test: None };
        match ingest(&challenge(), &places, &BTreeMap::new(), &Meter::silent()) {
            Ok(ingested) => {
                let rejected = shop.profile("out").rejected;
                prop_assert_eq!(rejected.rows, ingested.rejected_rows);
                prop_assert_eq!(rejected.reasons.values().map(|r| r.rows).sum::<u64>(), rejected.rows);
                prop_assert!(rejected.reasons.values().all(|r| r.first_line > 1 && !r.example.is_empty()));
                let mut rows = 0;
                Reader::open(&shop.out("out").join("snapshot.parquet")).unwrap().for_each(|_| {
                    rows += 1;
                    Ok(())
                }).unwrap();
                prop_assert_eq!(rows, ingested.rows);
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert_eq!(error.exit_code(), exit::DATA, "{}", text);
                prop_assert!(text.contains(name), "{}", text);
            }
        }
    }
}
