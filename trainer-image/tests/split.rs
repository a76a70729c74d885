#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code)]
//! Which part a row goes to, for any rows.

mod support;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use support::{Shop, single};
use vitrine_contract::job::Split;
use vitrine_trainer::split::{GroupKey, Part, TextKeys, part};

fn text() -> impl Strategy<Value = String> {
    // Few words, so that equal texts are frequent.
    prop::collection::vec(prop::sample::select(vec!["un", "deux", "Vélo", "velo", "<i>", "12", "ÉTÉ"]), 1..4)
        .prop_map(|words| words.join(" "))
}

/// Part of each text, in the order of the table.
fn parts(texts: &[String], seed: u64) -> Vec<(String, Part, GroupKey)> {
    let table = texts.iter().fold("text,label\n".to_owned(), |t, text| format!("{t}\"{text}\",a\n"));
    let shop = Shop::new(&[("X.csv", &table)]);
    let mut task = single();
    task.split = Split { seed, train: 0.5, validation: 0.2, test: 0.3, ..task.split };
    shop.ingest(&task).unwrap();
    shop.rows("out").into_iter().map(|row| (row.texts[0].clone().unwrap(), row.part, row.group)).collect()
}

fn by_text(rows: &[(String, Part, GroupKey)]) -> HashMap<String, Part> {
    rows.iter().map(|(text, part, _)| (text.clone(), *part)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn adding_rows_or_another_order_moves_no_row(
        texts in prop::collection::vec(text(), 1..30),
        more in prop::collection::vec(text(), 0..30),
        seed in any::<u64>(),
    ) {
        let before = parts(&texts, seed);
        let mut all = [more, texts].concat();
        all.reverse();
        let after = by_text(&parts(&all, seed));
        for (text, part, _) in before {
            prop_assert_eq!(after[&text], part, "{}", text);
        }
    }

    #[test]
    fn a_group_is_in_one_part(texts in prop::collection::vec(text(), 1..60), seed in any::<u64>()) {
        let mut parts_of: HashMap<GroupKey, HashSet<Part>> = HashMap::new();
        for (_, part, group) in parts(&texts, seed) {
            parts_of.entry(group).or_default().insert(part);
        }
        prop_assert!(parts_of.values().all(|parts| parts.len() == 1));
    }

    #[test]
    fn shares_are_about_right_for_any_seed(seed in any::<u64>()) {
        let split = Split { seed, train: 0.7, validation: 0.1, test: 0.2, ..Split::default() };
        let mut counts: HashMap<Part, f64> = HashMap::new();
        for row in 0..5000 {
            *counts.entry(part(&split, GroupKey::of_value(&row.to_string()))).or_default() += 1.0 / 5000.0;
        }
        // Five standard deviations of 5000 draws.
        for (part, share) in [(Part::Train, 0.7), (Part::Validation, 0.1), (Part::Test, 0.2)] {
            prop_assert!((counts[&part] - share).abs() < 0.035, "{:?} {}", part, counts[&part]);
        }
    }

    #[test]
    fn without_a_test_share_nothing_is_tested(seed in any::<u64>(), row in any::<u32>()) {
        let split = Split { seed, train: 0.9, validation: 0.1, test: 0.0, ..Split::default() };
        prop_assert_ne!(part(&split, GroupKey::of_value(&row.to_string())), Part::Test);
        let fixed = Split { train: 1.0, validation: 0.0, fixed_test: Some(String::new()), ..split };
        prop_assert_eq!(part(&fixed, GroupKey::of_value(&row.to_string())), Part::Train);
    }
}

#[test]
fn texts_are_equal_up_to_case_accents_markup_and_punctuation() {
    let mut keys = TextKeys::new().unwrap();
    let one = keys.key(&[Some("Vélo  d'été"), None]);
    assert_eq!(one, keys.key(&[Some("<b>velo</b>, D ete"), Some("")]));
    assert_eq!(one, keys.key(&[Some("velo"), Some("d ete")]));
    assert_ne!(one, keys.key(&[Some("velo dete")]));
    assert_ne!(keys.key(&[Some("!!!")]), keys.key(&[Some("???")]));
    assert_eq!(GroupKey::from_hex(&one.to_hex()), Some(one));
}

#[test]
fn parts_are_those_of_the_first_release() {
    // A change here would move rows of every data set in use.
    let split = Split { seed: 42, train: 0.6, validation: 0.2, test: 0.2, ..Split::default() };
    let letters: String = (0..30)
        .map(|row| match part(&split, GroupKey::of_value(&row.to_string())) {
            Part::Train => 't',
            Part::Validation => 'v',
            Part::Test => 'x',
        })
        .collect();
    assert_eq!(letters, "tttvvttxvtxxtxxxtttttxttttvxxt");
    let key = TextKeys::new().unwrap().key(&[Some("Étagère murale"), None]);
    assert_eq!(key.to_hex(), "400d92affcc6f159ba1925ad27e0d45d");
}
