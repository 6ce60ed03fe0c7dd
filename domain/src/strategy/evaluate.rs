//! The value of every node of a graph, bar by bar.

use std::collections::BTreeMap;

use super::graph::{Comparison, Crossing, Input, Logic, Math, NodeKind};
use super::indicator::{Atr, Indicator, State};
use super::reading::{Reading, Unknown};
use super::valid::ValidGraph;

/// Where the inputs of a bar come from: a candle and an account in a back-test, a snapshot of
/// features in a live decision.
pub trait InputSource {
    /// The value of `input` at the close of the bar, or why there is none. Only what was available
    /// then may be given.
    fn read(&self, input: &Input) -> Reading<f64>;
}

/// A graph in evaluation: a flat list of operations in the order of their dependencies, with all
/// memory allocated once. [`Self::step`] is called for each bar of a history, oldest first.
#[derive(Debug, Clone)]
pub struct Evaluator {
    operations: Vec<Operation>,
    values: Values,
    /// For each action, the place of its condition in `values.conditions`.
    actions: Vec<usize>,
}

impl Evaluator {
    /// The evaluation of `graph` before its first bar.
    #[must_use]
    pub fn new(graph: &ValidGraph) -> Self {
        let nodes = &graph.graph().nodes;
        let unseen = Unknown::WarmUp;
        let mut values = Values { numbers: Vec::new(), conditions: Vec::new() };
        // Each node's place among the numbers or among the conditions.
        let mut places = vec![0; nodes.len()];
        for (node, place) in nodes.iter().zip(&mut places) {
            *place = match node.kind {
                NodeKind::Compare(_) | NodeKind::Logic(_) => {
                    append(&mut values.conditions, Reading::Unknown(unseen))
                }
                NodeKind::Const(value) => append(&mut values.numbers, Reading::number(value)),
                _ => append(&mut values.numbers, Reading::Unknown(unseen)),
            };
        }
        let operations = graph
            .order()
            .iter()
            .filter_map(|&node| {
                let operands = graph.inputs(node).iter().map(|&input| places[input]).collect();
                compile(&nodes[node].kind, operands)
                    .map(|kind| Operation { kind, out: places[node] })
            })
            .collect();
        let actions = graph.conditions().iter().map(|&node| places[node]).collect();
        Self { operations, values, actions }
    }

    /// Takes the next bar.
    pub fn step(&mut self, source: &impl InputSource) {
        for operation in &mut self.operations {
            operation.run(&mut self.values, source);
        }
    }

    /// The condition of the action at `action` in the graph's list, on the newest bar.
    ///
    /// # Panics
    /// When the graph has no such action.
    #[must_use]
    pub fn condition(&self, action: usize) -> Reading<bool> {
        self.values.conditions[self.actions[action]]
    }

    /// How often each feature was unknown so far, in readings: two nodes of one feature count
    /// twice a bar. Features that were always known are absent.
    #[must_use]
    pub fn unknown_inputs(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for operation in &self.operations {
            if let Kind::Input { input, unknown } = &operation.kind
                && *unknown > 0
            {
                *counts.entry(input.feature.name()).or_insert(0) += *unknown;
            }
        }
        counts
    }
}

#[derive(Debug, Clone)]
struct Values {
    numbers: Vec<Reading<f64>>,
    conditions: Vec<Reading<bool>>,
}

fn append<T>(list: &mut Vec<T>, value: T) -> usize {
    list.push(value);
    list.len() - 1
}

#[derive(Debug, Clone)]
struct Operation {
    kind: Kind,
    /// The place of the result among the numbers or among the conditions.
    out: usize,
}

/// Operands are places among the numbers; those of `Logic` and `HoldFor` among the conditions.
#[derive(Debug, Clone)]
enum Kind {
    Input { input: Input, unknown: u64 },
    Indicator { operand: usize, indicator: Box<Indicator> },
    TrueRange { operands: [usize; 3], atr: Box<Atr> },
    Math { math: Math, operands: Box<[usize]> },
    Between { operand: usize, low: f64, high: f64 },
    Order { test: fn(f64, f64) -> bool, operands: [usize; 2] },
    Cross { crossing: Crossing, operands: [usize; 2], last: Reading<(f64, f64)> },
    Logic { logic: Logic, operands: Box<[usize]> },
    HoldFor { operand: usize, streak: Streak },
}

/// The operation of a node; a constant has none. The number of operands was checked when the graph
/// was validated.
fn compile(node: &NodeKind, operands: Vec<usize>) -> Option<Kind> {
    Some(match *node {
        NodeKind::Const(_) => return None,
        NodeKind::Input(ref input) => Kind::Input { input: input.clone(), unknown: 0 },
        NodeKind::Indicator(indicator) => match State::new(indicator) {
            State::Single(indicator) => {
                Kind::Indicator { operand: operands[0], indicator: Box::new(indicator) }
            }
            State::TrueRange(atr) => Kind::TrueRange {
                operands: [operands[0], operands[1], operands[2]],
                atr: Box::new(atr),
            },
        },
        NodeKind::Math(math) => Kind::Math { math, operands: operands.into() },
        NodeKind::Compare(comparison) => {
            let order = |test| Kind::Order { test, operands: [operands[0], operands[1]] };
            match comparison {
                Comparison::Gt => order(|left, right| left > right),
                Comparison::Gte => order(|left, right| left >= right),
                Comparison::Lt => order(|left, right| left < right),
                Comparison::Lte => order(|left, right| left <= right),
                Comparison::Between { low, high } => {
                    Kind::Between { operand: operands[0], low, high }
                }
                Comparison::Cross(crossing) => Kind::Cross {
                    crossing,
                    operands: [operands[0], operands[1]],
                    last: Reading::Unknown(Unknown::WarmUp),
                },
            }
        }
        NodeKind::Logic(Logic::HoldFor(bars)) => {
            Kind::HoldFor { operand: operands[0], streak: Streak::new(bars) }
        }
        NodeKind::Logic(logic) => Kind::Logic { logic, operands: operands.into() },
    })
}

impl Operation {
    #[inline]
    fn run(&mut self, values: &mut Values, source: &impl InputSource) {
        let Values { numbers, conditions } = values;
        let pair =
            |[left, right]: [usize; 2], numbers: &[Reading<f64>]| numbers[left].zip(numbers[right]);
        match &mut self.kind {
            Kind::Input { input, unknown } => {
                let reading = source.read(input);
                *unknown += u64::from(reading.known().is_none());
                numbers[self.out] = reading;
            }
            Kind::Indicator { operand, indicator } => {
                numbers[self.out] = indicator.push(numbers[*operand]);
            }
            Kind::TrueRange { operands, atr } => {
                numbers[self.out] = atr.read(operands.map(|operand| numbers[operand]));
            }
            Kind::Math { math, operands } => {
                numbers[self.out] = calculate(*math, operands.iter().map(|&place| numbers[place]));
            }
            Kind::Between { operand, low, high } => {
                conditions[self.out] =
                    numbers[*operand].map(|value| *low <= value && value <= *high);
            }
            Kind::Order { test, operands } => {
                conditions[self.out] =
                    pair(*operands, numbers).map(|(left, right)| test(left, right));
            }
            Kind::Cross { crossing, operands, last } => {
                let now = pair(*operands, numbers);
                conditions[self.out] = last.zip(now).map(|(last, now)| match crossing {
                    Crossing::Up => last.0 <= last.1 && now.0 > now.1,
                    Crossing::Down => last.0 >= last.1 && now.0 < now.1,
                });
                *last = now;
            }
            Kind::Logic { logic, operands } => {
                conditions[self.out] = combine(*logic, operands, conditions);
            }
            Kind::HoldFor { operand, streak } => {
                conditions[self.out] = streak.push(conditions[*operand]);
            }
        }
    }
}

fn calculate(math: Math, mut operands: impl Iterator<Item = Reading<f64>>) -> Reading<f64> {
    let Some(first) = operands.next() else { return Reading::Unknown(Unknown::WarmUp) };
    if math == Math::Abs {
        return first.map(f64::abs);
    }
    operands.fold(first, |result, operand| match result.zip(operand) {
        Reading::Unknown(reason) => Reading::Unknown(reason),
        Reading::Known((left, right)) => match math {
            Math::Add => Reading::number(left + right),
            Math::Sub => Reading::number(left - right),
            Math::Mul => Reading::number(left * right),
            Math::Div if right == 0.0 => Reading::Unknown(Unknown::DivisionByZero),
            Math::Div => Reading::number(left / right),
            Math::Min => Reading::number(left.min(right)),
            Math::Max => Reading::number(left.max(right)),
            Math::Abs => Reading::number(left.abs()),
        },
    })
}

fn combine(logic: Logic, operands: &[usize], conditions: &[Reading<bool>]) -> Reading<bool> {
    let first = conditions[operands[0]];
    let rest = operands[1..].iter().map(|&place| conditions[place]);
    match logic {
        Logic::And => rest.fold(first, Reading::and),
        Logic::Or => rest.fold(first, Reading::or),
        Logic::Xor => rest.fold(first, Reading::xor),
        Logic::Not => first.negate(),
        // Compiled to an operation of its own, which remembers.
        Logic::HoldFor(_) => first,
    }
}

/// Whether a condition has been true for so many bars: the Kleene conjunction of the last ones,
/// where bars before the history are unknown.
#[derive(Debug, Clone)]
struct Streak {
    bars: usize,
    /// Bars since the last false one; `None` before the first.
    since_false: Option<usize>,
    /// Bars since the last one that was not true.
    run_of_true: usize,
    /// Why the last bar that was unknown was so.
    reason: Unknown,
}

impl Streak {
    fn new(bars: usize) -> Self {
        Self { bars, since_false: None, run_of_true: 0, reason: Unknown::WarmUp }
    }

    fn push(&mut self, condition: Reading<bool>) -> Reading<bool> {
        self.since_false = self.since_false.map(|bars| bars + 1);
        match condition {
            Reading::Known(true) => self.run_of_true += 1,
            Reading::Known(false) => {
                self.run_of_true = 0;
                self.since_false = Some(0);
            }
            Reading::Unknown(reason) => {
                self.run_of_true = 0;
                self.reason = reason;
            }
        }
        if self.since_false.is_some_and(|bars| bars < self.bars) {
            Reading::Known(false)
        } else if self.run_of_true >= self.bars {
            Reading::Known(true)
        } else {
            Reading::Unknown(self.reason)
        }
    }
}

#[cfg(test)]
mod tests;
