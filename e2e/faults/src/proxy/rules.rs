//! What shall go wrong: the nth request of a kind, at one of three points, in one of several ways.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Call;

/// Where in the life of a request the fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// The apiserver never sees the request.
    Before,
    /// The apiserver carries it out; its answer never arrives.
    Applied,
    /// The answer arrives; the fault comes with the next request.
    After,
}

/// The three points.
pub const POINTS: [Point; 3] = [Point::Before, Point::Applied, Point::After];

/// What happens at the point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// kill -9 of the operator.
    Kill,
    /// An answer with this status and reason.
    Status {
        /// HTTP status.
        code: u16,
        /// Reason of the API's Status object.
        reason: String,
        /// Value of `Retry-After`.
        retry_after: Option<u32>,
    },
    /// No answer, ever.
    Hang,
    /// The connection ends.
    Reset,
    /// Half of the answer, then the connection ends.
    Truncate,
    /// JSON that is cut off although the connection ends well.
    CutJson,
    /// Everything as it should be, later.
    Delay(u64),
    /// Everything as it should be once [`super::Proxy::release`] is called.
    Hold,
}

/// One thing that shall go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Verb, `*` for any that writes, `?` for any that reads.
    pub verb: String,
    /// Resource, `*` for any but Leases.
    pub resource: String,
    /// Requests of this kind that pass first.
    pub skip: u32,
    /// How often it then happens.
    pub times: u32,
    /// Where.
    pub point: Point,
    /// What.
    pub action: Action,
}

impl Rule {
    /// A rule for the nth request (from 1) of a kind.
    pub fn nth(verb: &str, resource: &str, nth: u32, point: Point, action: Action) -> Self {
        Self { verb: verb.to_owned(), resource: resource.to_owned(), skip: nth - 1, times: 1, point, action }
    }

    /// Does it speak of requests that change nothing?
    pub fn reads(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "?")
    }

    /// Does it speak of such a request?
    pub fn covers(&self, call: &Call) -> bool {
        let verb = match self.verb.as_str() {
            "*" => call.writes(),
            "?" => !call.writes(),
            verb => verb == call.verb,
        };
        let resource = match self.resource.as_str() {
            "*" => !call.is_lease() && call.resource != "tokenreviews",
            resource => resource == call.resource,
        };
        verb && resource
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, resource, skip, times, point, action } = self;
        write!(f, "{verb} {resource} #{}", skip + 1)?;
        if *times > 1 {
            write!(f, " x{times}")?;
        }
        write!(f, " {point:?} {action:?}")
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Adds a rule.
    pub fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    /// How many have not happened yet?
    pub fn left(&self) -> usize {
        self.0.iter().filter(|r| r.times > 0).count()
    }

    /// Counts a request and says what shall go wrong with it.
    pub fn take(&mut self, call: &Call) -> Option<Rule> {
        let mut taken = None;
        for rule in self.0.iter_mut().filter(|r| r.times > 0 && r.covers(call)) {
            // every rule counts every request, also one that another rule takes
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if taken.is_none() {
                rule.times -= 1;
                taken = Some(rule.clone());
            }
        }
        taken
    }
}

impl Action {
    /// A refusal with this status and reason.
    pub fn status(code: u16, reason: &str) -> Self {
        Self::Status { code, reason: reason.to_owned(), retry_after: None }
    }

    /// The answer to a watch from a version that is no longer kept.
    pub fn gone() -> Self {
        Self::status(410, "Expired")
    }

    /// Milliseconds as a duration.
    pub fn delay(&self) -> Option<Duration> {
        match self {
            Self::Delay(millis) => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(verb: &'static str, resource: &str) -> Call {
        Call { verb, resource: resource.into(), ..Call::default() }
    }

    #[test]
    fn only_the_nth_request_of_the_kind_is_taken() {
        let mut rules = Rules::default();
        rules.add(Rule::nth("create", "jobs", 2, Point::Before, Action::Kill));
        assert!(rules.take(&call("create", "services")).is_none());
        assert!(rules.take(&call("create", "jobs")).is_none());
        assert_eq!(rules.left(), 1);
        assert!(rules.take(&call("create", "jobs")).is_some());
        assert_eq!(rules.left(), 0);
        assert!(rules.take(&call("create", "jobs")).is_none());
    }

    #[test]
    fn a_request_that_one_rule_takes_counts_for_the_others() {
        let mut rules = Rules::default();
        for nth in [1, 3, 5] {
            rules.add(Rule::nth("patch", "leases", nth, Point::Before, Action::Reset));
        }
        let taken: Vec<bool> = (0..6).map(|_| rules.take(&call("patch", "leases")).is_some()).collect();
        assert_eq!(taken, [true, false, true, false, true, false]);
        assert_eq!(rules.left(), 0);
    }

    #[test]
    fn any_write_is_none_of_the_lease() {
        let rule = Rule::nth("*", "*", 1, Point::Before, Action::Kill);
        assert!(rule.covers(&call("patch", "datasets/status")));
        assert!(!rule.covers(&call("patch", "leases")));
        assert!(!rule.covers(&call("list", "jobs")));
    }
}
