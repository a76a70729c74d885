//! Cross-validation folds that keep groups together and classes in proportion.

use std::collections::HashMap;

use crate::rng::Rng;

/// Why there are no folds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Nothing to learn from or nothing to test on.
    #[error("{folds} folds need at least 2 folds and as many groups of rows as folds, found {groups} groups")]
    TooFew {
        /// Folds asked for.
        folds: usize,
        /// Distinct groups.
        groups: usize,
    },
    /// One group for each label.
    #[error("{labels} labels but {groups} group keys")]
    Lengths {
        /// Labels given.
        labels: usize,
        /// Group keys given.
        groups: usize,
    },
}

/// The fold of each row, `0..folds`. Rows with the same group key share a fold; without keys every
/// row is a group. Each fold gets about the same number of rows of each class: groups are dealt
/// greedily, large ones first, equal ones in an order drawn from `seed`.
pub fn stratified_group_k_fold(
    labels: &[u32],
    groups: Option<&[u64]>,
    folds: usize,
    seed: u64,
) -> Result<Vec<u32>, FoldError> {
    let members = members(labels.len(), groups)?;
    if folds < 2 || members.len() < folds {
        return Err(FoldError::TooFew { folds, groups: members.len() });
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    Rng::new(seed, 0xF01D).shuffle(&mut order);
    order.sort_by_key(|&group| std::cmp::Reverse(members[group].len()));

    let classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    let mut total = vec![0u64; classes];
    for &class in labels {
        total[class as usize] += 1;
    }
    let mut filled = vec![vec![0u64; classes]; folds];
    let mut sizes = vec![0usize; folds];
    let mut fold_of = vec![0; labels.len()];
    for group in order {
        let mut counts: Vec<(usize, u64)> = Vec::new();
        for &row in &members[group] {
            let class = labels[row as usize] as usize;
            match counts.iter_mut().find(|(known, _)| *known == class) {
                Some((_, count)) => *count += 1,
                None => counts.push((class, 1)),
            }
        }
        let fold = cheapest(&counts, &filled, &sizes, &total);
        for &(class, count) in &counts {
            filled[fold][class] += count;
        }
        sizes[fold] += members[group].len();
        members[group].iter().for_each(|&row| fold_of[row as usize] = fold as u32);
    }
    Ok(fold_of)
}

/// Rows of each group, groups in the order of their first row.
fn members(rows: usize, groups: Option<&[u64]>) -> Result<Vec<Vec<u32>>, FoldError> {
    let Some(keys) = groups else {
        return Ok((0..rows as u32).map(|row| vec![row]).collect());
    };
    if keys.len() != rows {
        return Err(FoldError::Lengths { labels: rows, groups: keys.len() });
    }
    let mut place = HashMap::new();
    let mut members: Vec<Vec<u32>> = Vec::new();
    for (row, key) in keys.iter().enumerate() {
        let at = *place.entry(key).or_insert(members.len());
        if at == members.len() {
            members.push(Vec::new());
        }
        members[at].push(row as u32);
    }
    Ok(members)
}

/// The fold where these rows add least to the squared share of their classes; the emptier of equal
/// ones, then the first.
fn cheapest(counts: &[(usize, u64)], filled: &[Vec<u64>], sizes: &[usize], total: &[u64]) -> usize {
    let cost = |fold: usize| -> f64 {
        let grown = |&(class, count): &(usize, u64)| {
            let (before, after) = (filled[fold][class], filled[fold][class] + count);
            ((after * after - before * before) as f64) / (total[class] * total[class]) as f64
        };
        counts.iter().map(grown).sum()
    };
    let mut best = (0, cost(0));
    for fold in 1..filled.len() {
        let candidate = cost(fold);
        if candidate < best.1 || (candidate <= best.1 && sizes[fold] < sizes[best.0]) {
            best = (fold, candidate);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::{FoldError, stratified_group_k_fold};
    use crate::rng::Rng;
    use proptest::prelude::*;

    #[test]
    fn without_groups_each_class_differs_by_one_row_at_most() {
        let labels: Vec<u32> =
            (0..1000).map(|i| u32::from(i % 10 == 0) + u32::from(i % 97 == 0) * 2).collect();
        let folds = stratified_group_k_fold(&labels, None, 3, 42).unwrap();
        for class in 0..4 {
            let count = |fold| labels.iter().zip(&folds).filter(|&(&l, &f)| l == class && f == fold).count();
            let counts = [count(0), count(1), count(2)];
            assert!(
                counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1,
                "class {class}: {counts:?}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let labels: Vec<u32> = (0..300).map(|i| i % 3).collect();
        let folds = |seed| stratified_group_k_fold(&labels, None, 3, seed).unwrap();
        assert_eq!(folds(1), folds(1));
        assert_ne!(folds(1), folds(2));
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        assert_eq!(
            stratified_group_k_fold(&[0, 1, 0], Some(&[5, 5, 5]), 2, 0),
            Err(FoldError::TooFew { folds: 2, groups: 1 })
        );
        assert_eq!(
            stratified_group_k_fold(&[0, 1], None, 1, 0),
            Err(FoldError::TooFew { folds: 1, groups: 2 })
        );
        assert_eq!(
            stratified_group_k_fold(&[0, 1], Some(&[1]), 2, 0),
            Err(FoldError::Lengths { labels: 2, groups: 1 })
        );
    }

    proptest! {
        #[test]
        fn a_group_is_never_split_and_folds_are_of_like_size(seed in any::<u64>(), folds in 2usize..6) {
            let mut rng = Rng::new(seed, 1);
            let groups: Vec<u64> = (0..600).map(|_| rng.below(200) as u64).collect();
            let labels: Vec<u32> = groups.iter().map(|_| rng.below(5) as u32).collect();
            let fold_of = stratified_group_k_fold(&labels, Some(&groups), folds, seed).unwrap();
            let mut fold_of_group = std::collections::HashMap::new();
            let mut sizes = vec![0usize; folds];
            for (group, &fold) in groups.iter().zip(&fold_of) {
                prop_assert_eq!(*fold_of_group.entry(group).or_insert(fold), fold);
                sizes[fold as usize] += 1;
            }
            let even = 600 / folds;
            prop_assert!(sizes.iter().all(|&s| s * 10 > even * 8 && s * 10 < even * 12), "{:?}", sizes);
        }
    }
}
