//! The campaigns: which faults, in which workloads. What must hold afterwards is in [`crate::oracle`].

pub mod c1;
pub mod c2;
pub mod c3;
pub mod c4;
pub mod c8;
pub mod undecodable;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::case::{Faults, Outcome};
use crate::workload::Workload;

/// A workload with faults: what a repro line names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name of the workload.
    pub workload: String,
    /// What goes wrong.
    pub faults: Faults,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.workload, self.faults)
    }
}

/// The campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Campaign {
    /// Crash at every write.
    C1,
    /// Stale and unobserved events.
    C2,
    /// Answers of the apiserver.
    C3,
    /// Leaders.
    C4,
    /// Poison resources.
    C8,
}

impl Campaign {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::C1 => "c1",
            Self::C2 => "c2",
            Self::C3 => "c3",
            Self::C4 => "c4",
            Self::C8 => "c8",
        }
    }

    /// Does it have cases in that workload?
    pub fn uses(self, workload: &Workload) -> bool {
        match self {
            Self::C1 => true,
            Self::C4 | Self::C8 => false,
            Self::C2 => c2::WORKLOADS.contains(&workload.name),
            Self::C3 => c3::WORKLOADS.contains(&workload.name),
        }
    }

    /// Its cases in a workload, given a run without faults.
    pub fn cases(self, workload: &Workload, learnt: &Outcome) -> Vec<Case> {
        match self {
            Self::C1 => c1::cases(workload, learnt),
            Self::C2 => c2::cases(workload),
            Self::C3 => c3::cases(workload, learnt),
            Self::C4 | Self::C8 => Vec::new(),
        }
    }
}
