//! What was measured against what was promised: a table for people, and one line for programs.

use serde_json::{Map, Value, json};

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Not above this.
    AtMost(f64),
    /// This.
    Exactly(f64),
    /// Only told.
    None,
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::Exactly(want) => (value - want).abs() < 1e-9,
            Self::None => true,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {}", number(most)),
            Self::Exactly(want) => format!("= {}", number(want)),
            Self::None => String::new(),
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// What it must be.
    pub limit: Limit,
    /// Holds on every machine, however busy: CI insists on it.
    pub hard: bool,
}

/// What one run found.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Lines in order.
    pub lines: Vec<Line>,
    /// What needs no number: counts by name, for whoever looks for a cause.
    pub facts: Map<String, Value>,
}

impl Sheet {
    /// A gate.
    pub fn gate(&mut self, name: &str, value: f64, limit: Limit) {
        self.line(name, value, limit, false);
    }

    /// A count that a busy machine does not change.
    pub fn must(&mut self, name: &str, value: f64, limit: Limit) {
        self.line(name, value, limit, true);
    }

    fn line(&mut self, name: &str, value: f64, limit: Limit, hard: bool) {
        eprintln!("  {name}: {} {}", number(value), limit.text());
        self.lines.push(Line { name: name.to_owned(), value, limit, hard });
    }

    /// A value without a gate.
    pub fn value(&mut self, name: &str, value: f64) {
        self.gate(name, value, Limit::None);
    }

    /// A fact.
    pub fn fact(&mut self, name: &str, fact: Value) {
        eprintln!("  {name}: {fact}");
        self.facts.insert(name.to_owned(), fact);
    }

    /// The value of a line.
    pub fn value_of(&self, name: &str) -> Option<f64> {
        self.find(name).map(|line| line.value)
    }

    fn find(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|l| l.name == name)
    }
}

/// How many gates were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// All of them.
    pub all: usize,
    /// Those that hold on every machine.
    pub hard: usize,
}

/// The runs of one N.
#[derive(Clone, Debug)]
pub struct Scale {
    /// N.
    pub n: usize,
    /// Runs.
    pub runs: Vec<Sheet>,
}

impl Scale {
    /// Median, least and most of a line.
    pub fn spread(&self, name: &str) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(|r| Some(r.find(name)?.value)).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        };
        Some([median, *values.first()?, *values.last()?])
    }

    /// Prints the table; returns the lines for programs and the gates that were missed. A time is judged
    /// by its median, a count that must be exact by every run.
    pub fn print(&self) -> (Value, Missed) {
        let (mut out, mut missed) = (Vec::new(), Missed::default());
        println!("\nN = {}, {} run(s): median (least..most)", self.n, self.runs.len());
        let Some(first) = self.runs.first() else { return (Value::Null, missed) };
        for line in &first.lines {
            let Some([median, least, most]) = self.spread(&line.name) else { continue };
            let holds = match line.limit {
                Limit::Exactly(_) => line.limit.holds(least) && line.limit.holds(most),
                _ => line.limit.holds(median),
            };
            missed.all += usize::from(!holds);
            missed.hard += usize::from(!holds && line.hard);
            let verdict = match (line.limit, holds) {
                (Limit::None, _) => "",
                (_, true) => "pass",
                (_, false) => "MISS",
            };
            let spread = format!("{} ({}..{})", number(median), number(least), number(most));
            println!("{verdict:4}  {:62}  {spread:28}  {}", line.name, line.limit.text());
            out.push(json!({"name": line.name, "median": median, "least": least, "most": most,
                "limit": line.limit.text(), "pass": holds}));
        }
        (json!({"n": self.n, "runs": self.runs.len(), "lines": out, "facts": first.facts}), missed)
    }
}

/// A number as people read it.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged() {
        let run = |value| {
            let mut sheet = Sheet::default();
            sheet.gate("x", value, Limit::AtMost(2.0));
            sheet.gate("y", 0.0, Limit::Exactly(0.0));
            sheet
        };
        let scale = Scale { n: 1, runs: vec![run(9.0), run(1.0), run(2.0)] };
        assert_eq!(scale.spread("x"), Some([2.0, 1.0, 9.0]));
        assert_eq!(scale.print().1, Missed::default());
        let worse = Scale { n: 1, runs: vec![run(9.0), run(3.0), run(2.0)] };
        assert_eq!(worse.print().1, Missed { all: 1, hard: 0 });
        let mut late = Sheet::default();
        late.must("w", 1.0, Limit::Exactly(0.0));
        let mut well = Sheet::default();
        well.must("w", 0.0, Limit::Exactly(0.0));
        let once = Scale { n: 1, runs: vec![well.clone(), well, late] };
        assert_eq!(once.print().1, Missed { all: 1, hard: 1 }, "every run counts");
        let even = Scale { n: 1, runs: vec![run(1.0), run(2.0)] };
        assert_eq!(even.spread("x"), Some([1.5, 1.0, 2.0]));
        assert_eq!(even.spread("z"), None);
    }
}
