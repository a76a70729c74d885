//! Trees as flat arrays, and the way of a row through them.
//!
//! All trees of a model lie one after the other. A node is a place in five arrays; a leaf is a node
//! whose feature is [`LEAF`] and whose `left` is the number of its value. The arrays are what an
//! artifact holds, so they may come from anywhere: [`Trees::check`] says whether a walk through
//! them ends and stays inside.

/// Feature of a node that asks nothing.
pub(crate) const LEAF: u32 = u32::MAX;

/// What is wrong with the arrays of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Arrays that belong together differ in length, or there is no tree, class or value.
    #[error("the arrays of the trees do not fit each other")]
    Shape,
    /// The trees' first nodes do not ascend from 0 inside the arrays.
    #[error("tree {tree} starts at a node that does not exist or belongs to another tree")]
    Root {
        /// Number of the tree.
        tree: usize,
    },
    /// A child comes before its parent or belongs to another tree, so that a walk might not end.
    #[error("a child of node {node} is not a later node of its tree")]
    Child {
        /// Number of the node.
        node: usize,
    },
    /// A node asks for a feature that does not exist.
    #[error("node {node} asks for a feature that does not exist")]
    Feature {
        /// Number of the node.
        node: usize,
    },
    /// A leaf names a value that does not exist.
    #[error("leaf {node} names a value that does not exist")]
    Leaf {
        /// Number of the node.
        node: usize,
    },
    /// A threshold or value is NaN or infinite, or sums of them may be.
    #[error("a threshold or a value of the trees is not a finite number, or their sums are not")]
    NonFinite,
    /// A share of a class in a leaf lies outside of 0 to 1.
    #[error("a leaf's share of a class is not between 0 and 1")]
    Share,
}

/// Nodes of many trees.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trees {
    /// First node of each tree, ascending from 0.
    pub(crate) roots: Vec<u32>,
    /// Feature that a node asks for, or [`LEAF`].
    pub(crate) feature: Vec<u32>,
    /// Values up to this one go left, others right.
    pub(crate) threshold: Vec<f32>,
    /// Left child, or the number of a leaf's value.
    pub(crate) left: Vec<u32>,
    /// Right child.
    pub(crate) right: Vec<u32>,
    /// 1 where a row without this feature goes left, 0 where it goes right.
    pub(crate) default_left: Vec<u8>,
}

impl Trees {
    /// Number of trees.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// True when there is no tree.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Number of nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.feature.len()
    }

    /// Begins a tree with a root that [`Trees::set_leaf`] or [`Trees::set_split`] has to fill.
    pub(super) fn start(&mut self) -> u32 {
        let root = self.add();
        self.roots.push(root);
        root
    }

    fn add(&mut self) -> u32 {
        let node = self.feature.len() as u32;
        self.feature.push(LEAF);
        self.threshold.push(0.0);
        self.left.push(0);
        self.right.push(0);
        self.default_left.push(0);
        node
    }

    /// Makes the node a leaf with that value.
    pub(super) fn set_leaf(&mut self, node: u32, value: u32) {
        self.left[node as usize] = value;
    }

    /// Makes the node a split and gives its two new children.
    pub(super) fn set_split(
        &mut self,
        node: u32,
        feature: u32,
        threshold: f32,
        default_left: bool,
    ) -> (u32, u32) {
        let (left, right) = (self.add(), self.add());
        let node = node as usize;
        self.feature[node] = feature;
        self.threshold[node] = threshold;
        self.left[node] = left;
        self.right[node] = right;
        self.default_left[node] = u8::from(default_left);
        (left, right)
    }

    /// Appends trees whose leaf values follow the `values` of those already here.
    pub(super) fn append(&mut self, other: &Self, values: u32) {
        let offset = self.feature.len() as u32;
        self.roots.extend(other.roots.iter().map(|root| root + offset));
        for (node, &feature) in other.feature.iter().enumerate() {
            let shift = if feature == LEAF { values } else { offset };
            self.left.push(other.left[node] + shift);
            self.right.push(if feature == LEAF { 0 } else { other.right[node] + offset });
        }
        self.feature.extend_from_slice(&other.feature);
        self.threshold.extend_from_slice(&other.threshold);
        self.default_left.extend_from_slice(&other.default_left);
    }

    /// Is every walk from every root to a leaf inside the arrays, for rows of `features` features
    /// and leaves of `values` values?
    ///
    /// # Errors
    /// The first thing that is wrong. Nothing is assumed about the arrays.
    pub(crate) fn check(&self, features: usize, values: usize) -> Result<(), TreeError> {
        let nodes = self.feature.len();
        let fits = [self.threshold.len(), self.left.len(), self.right.len(), self.default_left.len()];
        if fits.iter().any(|&len| len != nodes) || self.roots.is_empty() {
            return Err(TreeError::Shape);
        }
        for tree in 0..self.roots.len() {
            let start = self.roots[tree] as usize;
            let end = self.roots.get(tree + 1).map_or(nodes, |&root| root as usize);
            if (tree == 0 && start != 0) || start >= end || end > nodes {
                return Err(TreeError::Root { tree });
            }
            for node in start..end {
                self.check_node(node, end, features, values)?;
            }
        }
        Ok(())
    }

    fn check_node(&self, node: usize, end: usize, features: usize, values: usize) -> Result<(), TreeError> {
        if self.feature[node] == LEAF {
            let known = (self.left[node] as usize) < values;
            return if known { Ok(()) } else { Err(TreeError::Leaf { node }) };
        }
        if self.feature[node] as usize >= features {
            return Err(TreeError::Feature { node });
        }
        if !self.threshold[node].is_finite() {
            return Err(TreeError::NonFinite);
        }
        let inside = |child: u32| (child as usize) > node && (child as usize) < end;
        if inside(self.left[node]) && inside(self.right[node]) {
            Ok(())
        } else {
            Err(TreeError::Child { node })
        }
    }

    /// Number of the value of the leaf that a row reaches. `row` holds NaN where the row has no entry.
    pub(super) fn leaf(&self, tree: usize, row: &[f32]) -> usize {
        let mut node = self.roots[tree] as usize;
        while self.feature[node] != LEAF {
            let value = row[self.feature[node] as usize];
            let left = value <= self.threshold[node] || (value.is_nan() && self.default_left[node] != 0);
            node = if left { self.left[node] } else { self.right[node] } as usize;
        }
        self.left[node] as usize
    }
}

/// A row spread out over all features, for one row after another.
#[derive(Debug, Clone)]
pub struct Scratch(Vec<f32>);

impl Scratch {
    /// For rows of that many features.
    pub fn new(features: usize) -> Self {
        Self(vec![f32::NAN; features])
    }

    /// Number of features of its rows.
    pub fn features(&self) -> usize {
        self.0.len()
    }

    /// Calls `work` with the row spread out, absent entries being NaN.
    pub(super) fn with<T>(&mut self, indices: &[u32], values: &[f32], work: impl FnOnce(&[f32]) -> T) -> T {
        for (&index, &value) in indices.iter().zip(values) {
            self.0[index as usize] = value;
        }
        let result = work(&self.0);
        for &index in indices {
            self.0[index as usize] = f32::NAN;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAF, Scratch, TreeError, Trees};
    use proptest::prelude::*;

    /// Feature 0 up to 1 or absent: value 0; else feature 2 up to -1: value 1; else, absent too: value 2.
    fn small() -> Trees {
        let mut trees = Trees::default();
        let root = trees.start();
        let (left, right) = trees.set_split(root, 0, 1.0, true);
        trees.set_leaf(left, 0);
        let (left, right) = trees.set_split(right, 2, -1.0, false);
        trees.set_leaf(left, 1);
        trees.set_leaf(right, 2);
        trees
    }

    fn reached(trees: &Trees, tree: usize, indices: &[u32], values: &[f32]) -> usize {
        Scratch::new(3).with(indices, values, |row| trees.leaf(tree, row))
    }

    #[test]
    fn rows_go_by_threshold_and_by_absence() {
        let trees = small();
        assert_eq!(trees.check(3, 3), Ok(()));
        assert_eq!(reached(&trees, 0, &[], &[]), 0);
        assert_eq!(reached(&trees, 0, &[0], &[1.0]), 0);
        assert_eq!(reached(&trees, 0, &[0], &[1.5]), 2);
        assert_eq!(reached(&trees, 0, &[0, 2], &[1.5, -1.0]), 1);
        assert_eq!(reached(&trees, 0, &[0, 2], &[1.5, 0.0]), 2);
    }

    #[test]
    fn a_row_leaves_nothing_behind() {
        let mut scratch = Scratch::new(2);
        scratch.with(&[1], &[3.0], |row| assert!(row[0].is_nan() && row[1] > 2.0));
        scratch.with(&[], &[], |row| assert!(row.iter().all(|v| v.is_nan())));
    }

    #[test]
    fn appended_trees_keep_their_ways_and_values() {
        let mut trees = small();
        trees.append(&small(), 3);
        assert_eq!(trees.check(3, 6), Ok(()));
        assert_eq!((trees.len(), trees.nodes()), (2, 10));
        assert_eq!(reached(&trees, 0, &[0], &[1.5]), 2);
        assert_eq!(reached(&trees, 1, &[0, 2], &[1.5, -1.0]), 4);
        assert_eq!(trees.check(3, 5), Err(TreeError::Leaf { node: 9 }));
    }

    #[test]
    fn what_would_leave_the_arrays_or_never_end_is_named() {
        let broken = |change: &dyn Fn(&mut Trees)| {
            let mut trees = small();
            trees.append(&small(), 0);
            change(&mut trees);
            trees.check(3, 3).unwrap_err()
        };
        assert_eq!(broken(&|t| t.left[2] = 2), TreeError::Child { node: 2 });
        assert_eq!(broken(&|t| t.left[2] = 0), TreeError::Child { node: 2 });
        assert_eq!(broken(&|t| t.right[2] = 5), TreeError::Child { node: 2 });
        assert_eq!(broken(&|t| t.right[7] = 10), TreeError::Child { node: 7 });
        assert_eq!(broken(&|t| t.right[7] = u32::MAX), TreeError::Child { node: 7 });
        assert_eq!(broken(&|t| t.feature[0] = 3), TreeError::Feature { node: 0 });
        assert_eq!(broken(&|t| t.left[1] = 3), TreeError::Leaf { node: 1 });
        assert_eq!(broken(&|t| t.threshold[0] = f32::NAN), TreeError::NonFinite);
        assert_eq!(broken(&|t| t.threshold[0] = f32::INFINITY), TreeError::NonFinite);
        assert_eq!(broken(&|t| t.roots[0] = 1), TreeError::Root { tree: 0 });
        assert_eq!(broken(&|t| t.roots[1] = 0), TreeError::Root { tree: 0 });
        assert_eq!(broken(&|t| t.roots[1] = 10), TreeError::Root { tree: 1 });
        assert_eq!(broken(&|t| t.roots[1] = 99), TreeError::Root { tree: 0 });
        assert_eq!(broken(&|t| t.roots.clear()), TreeError::Shape);
        assert_eq!(broken(&|t| t.default_left.push(0)), TreeError::Shape);
        assert_eq!(broken(&|t| t.right.truncate(9)), TreeError::Shape);
        assert_eq!(Trees::default().check(3, 3), Err(TreeError::Shape));
    }

    fn any_trees() -> impl Strategy<Value = Trees> {
        let small = || prop_oneof![9 => 0u32..12, 1 => any::<u32>()];
        let node = (prop_oneof![3 => 0u32..4, 2 => Just(LEAF)], -2.0f32..2.0, small(), small(), 0u8..2);
        (prop::collection::vec(node, 0..12), prop::collection::vec(small(), 0..3)).prop_map(
            |(nodes, more)| {
                let mut trees = Trees { roots: vec![0], ..Trees::default() };
                trees.roots.extend(more);
                for (feature, threshold, left, right, default_left) in nodes {
                    trees.feature.push(feature);
                    trees.threshold.push(threshold);
                    trees.left.push(left);
                    trees.right.push(right);
                    trees.default_left.push(default_left);
                }
                trees
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        #[test]
        fn arrays_that_pass_are_safe_to_walk(trees in any_trees(), row in prop::collection::vec(-2.0f32..2.0, 3)) {
            if trees.check(3, 5).is_ok() {
                for tree in 0..trees.len() {
                    prop_assert!(reached(&trees, tree, &[0, 1, 2], &row) < 5);
                    prop_assert!(reached(&trees, tree, &[], &[]) < 5);
                }
            }
        }
    }
}
