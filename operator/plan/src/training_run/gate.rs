//! The gate: metrics of the test split against the least values of the spec. Nothing but the
//! reported numbers decides.

use vitrine_contract::report::{SplitMetrics, Trained};
use vitrine_crds::training_run::{GateRule, GateStatus};

use crate::status::decimal;

/// Name of the split that is judged.
const TEST: &str = "test";

/// What the gate says of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Whether every line holds.
    pub passed: bool,
    /// Line by line.
    pub lines: Vec<GateStatus>,
    /// In words, with the numbers.
    pub message: String,
}

/// Judges a model by its report. A metric that is missing or no number fails its line.
pub fn judge(rules: &[GateRule], report: &Trained, dataset: &str) -> Judgement {
    if rules.is_empty() {
        return Judgement { passed: true, lines: vec![], message: "spec.gate is empty".to_owned() };
    }
    let Some(test) = report.metrics.iter().find(|m| m.split == TEST && m.rows > 0) else {
        return Judgement {
            passed: false,
            lines: rules.iter().map(|rule| line(rule, None)).collect(),
            message: format!(
                "Dataset {dataset} has no labelled test rows, so that no line of the gate can be judged: raise split.fractions.test or name a set in split.test"
            ),
        };
    };
    let lines: Vec<GateStatus> = rules.iter().map(|rule| line(rule, value_of(test, rule))).collect();
    let passed = lines.iter().all(|line| line.passed);
    let wanted = |line: &&GateStatus| line.passed == passed;
    let words: Vec<String> = lines
        .iter()
        .filter(wanted)
        .map(|line| {
            let sign = if line.passed { ">=" } else { "<" };
            let value = if line.value.is_empty() { "not reported" } else { &line.value };
            format!("{} {value} {sign} {}", line.metric.as_str(), line.min)
        })
        .collect();
    Judgement { passed, lines, message: format!("{} on {} test rows", words.join(", "), test.rows) }
}

fn value_of(test: &SplitMetrics, rule: &GateRule) -> Option<f64> {
    test.values.get(rule.metric.as_str()).copied()
}

fn line(rule: &GateRule, value: Option<f64>) -> GateStatus {
    GateStatus {
        metric: rule.metric,
        min: decimal(rule.min),
        value: value.map(decimal).unwrap_or_default(),
        passed: value.is_some_and(|value| value >= rule.min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitrine_crds::training_run::Metric;

    fn report(split: &str, f1: f64) -> Trained {
        let values = [("F1Weighted".to_owned(), f1)].into();
        Trained {
            metrics: vec![SplitMetrics { split: split.into(), rows: 100, values }],
            ..Trained::default()
        }
    }

    fn rule(metric: Metric, min: f64) -> GateRule {
        GateRule { metric, min }
    }

    #[test]
    fn the_least_value_itself_passes_and_one_below_does_not() {
        let rules = [rule(Metric::F1Weighted, 0.7)];
        assert!(judge(&rules, &report("test", 0.7), "d").passed);
        let failed = judge(&rules, &report("test", 0.699_999), "d");
        assert!(!failed.passed);
        assert_eq!(failed.message, "F1Weighted 0.699999 < 0.7 on 100 test rows");
    }

    #[test]
    fn one_line_that_fails_fails_the_gate_and_is_the_one_that_is_named() {
        let rules = [rule(Metric::F1Weighted, 0.5), rule(Metric::Accuracy, 0.5)];
        let judged = judge(&rules, &report("test", 0.7), "d");
        assert!(!judged.passed);
        assert_eq!(judged.message, "Accuracy not reported < 0.5 on 100 test rows");
        assert_eq!(judged.lines.iter().map(|l| l.passed).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn validation_metrics_and_undefined_numbers_never_pass() {
        let rules = [rule(Metric::F1Weighted, 0.1)];
        let judged = judge(&rules, &report("validation", 0.9), "shoes");
        assert!(!judged.passed && judged.message.contains("Dataset shoes has no labelled test rows"));
        assert!(!judge(&rules, &report("test", f64::NAN), "d").passed);
    }

    #[test]
    fn no_gate_is_met() {
        assert!(judge(&[], &Trained::default(), "d").passed);
    }
}
