//! Which action acts, when several could.

use super::graph::{Action, ActionKind};
use super::reading::Reading;

/// The side of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Gains when the price rises.
    Long,
    /// Gains when the price falls.
    Short,
}

impl Side {
    /// 1 for long, −1 for short.
    #[must_use]
    pub fn sign(self) -> f64 {
        match self {
            Self::Long => 1.0,
            Self::Short => -1.0,
        }
    }
}

/// What a graph decides at the close of one bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changes.
    Hold(HoldReason),
    /// The action at this position of the graph's list acts.
    Act(usize),
}

/// Why nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// No action fired: every condition is false or unknown, or the action is cooling down.
    NoSignal,
    /// Long and short fired with equal priority.
    Conflict,
    /// The side to open is already held; positions are not added to.
    AlreadyHeld,
}

/// Decides between the actions of a graph.
///
/// An action fires when its condition is known to be true, it is not cooling down, and, for a
/// close, a position is held. Of those that fire the highest priority wins; at equal priority
/// close goes before open, the document's order decides between opens of one side, and opens of
/// both sides are a [`HoldReason::Conflict`].
///
/// `condition` and `is_cooling` are asked with the action's position in `actions`.
pub fn decide(
    actions: &[Action],
    held: Option<Side>,
    condition: impl Fn(usize) -> Reading<bool>,
    is_cooling: impl Fn(usize) -> bool,
) -> Decision {
    let mut best: Option<usize> = None;
    let mut conflict = false;
    for (position, action) in actions.iter().enumerate() {
        let fires = condition(position) == Reading::Known(true)
            && !is_cooling(position)
            && (side(action).is_some() || held.is_some());
        if !fires {
            continue;
        }
        let Some(rival) = best.map(|rival| &actions[rival]) else {
            best = Some(position);
            continue;
        };
        let rank = |action: &Action| (action.priority, side(action).is_none());
        if rank(action) > rank(rival) {
            best = Some(position);
            conflict = false;
        } else if rank(action) == rank(rival) {
            conflict |= side(action) != side(rival);
        }
    }
    match best {
        None => Decision::Hold(HoldReason::NoSignal),
        Some(_) if conflict => Decision::Hold(HoldReason::Conflict),
        Some(position) if held.is_some() && side(&actions[position]) == held => {
            Decision::Hold(HoldReason::AlreadyHeld)
        }
        Some(position) => Decision::Act(position),
    }
}

/// The side that an action opens; `None` closes.
fn side(action: &Action) -> Option<Side> {
    match action.kind {
        ActionKind::OpenLong(_) => Some(Side::Long),
        ActionKind::OpenShort(_) => Some(Side::Short),
        ActionKind::Close => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Entry, Sizing};
    use super::super::reading::Unknown;
    use super::*;

    /// `actions` is a list of `long`, `short` or `close` with a priority and the state of the
    /// condition: `1` true, `0` false, `?` unknown, `c` true but cooling down.
    fn check(held: Option<Side>, actions: &str, expected: Decision) {
        let entry = Entry {
            sizing: Sizing::PctEquity(0.1),
            leverage: 1.0,
            stop_loss: None,
            take_profit: None,
        };
        let words: Vec<Vec<&str>> =
            actions.split(", ").map(|action| action.split(' ').collect()).collect();
        let parsed: Vec<Action> = words
            .iter()
            .map(|words| Action {
                id: words[0].to_owned(),
                when: String::new(),
                kind: match words[0] {
                    "long" => ActionKind::OpenLong(entry),
                    "short" => ActionKind::OpenShort(entry),
                    _ => ActionKind::Close,
                },
                priority: words[1].parse().expect("a priority"),
                cooldown_ms: 0,
            })
            .collect();
        let condition = |position: usize| match words[position][2] {
            "0" => Reading::Known(false),
            "?" => Reading::Unknown(Unknown::WarmUp),
            _ => Reading::Known(true),
        };
        let decision = decide(&parsed, held, condition, |position| words[position][2] == "c");
        assert_eq!(decision, expected, "{held:?}: {actions}");
    }

    #[test]
    fn conflicts_are_settled_by_rule() {
        use Decision::{Act, Hold};
        use HoldReason::{AlreadyHeld, Conflict, NoSignal};
        use Side::{Long, Short};

        check(None, "long 1 0", Hold(NoSignal));
        check(None, "long 1 ?", Hold(NoSignal));
        check(None, "long 1 c", Hold(NoSignal));
        check(None, "long 1 1", Act(0));

        // The highest priority wins, whatever the order of the document.
        check(None, "long 1 1, short 2 1", Act(1));
        check(None, "short 2 1, long 1 1", Act(0));
        check(None, "short 2 c, long 1 1", Act(1));
        check(None, "short 2 ?, long 1 1", Act(1));
        check(Some(Long), "close 1 1, short 2 1", Act(1));
        check(Some(Long), "close 2 1, short 1 1", Act(0));

        // Close goes before open at equal priority, but needs something to close.
        check(Some(Long), "short 1 1, close 1 1", Act(1));
        check(Some(Short), "short 1 1, close 1 1", Act(1));
        check(None, "close 9 1", Hold(NoSignal));
        check(None, "close 9 1, long 1 1", Act(1));

        // Equal priority, both sides.
        check(None, "long 1 1, short 1 1", Hold(Conflict));
        check(None, "long 1 1, long 1 1, short 1 1", Hold(Conflict));
        check(Some(Long), "long 1 1, short 1 1", Hold(Conflict));
        check(Some(Long), "long 1 1, short 1 1, close 1 1", Act(2));
        check(None, "long 1 1, short 1 1, long 2 1", Act(2));
        check(None, "long 1 1, short 1 0", Act(0));
        check(None, "long 1 1, long 1 1", Act(0));

        // No pyramiding; the other side flips.
        check(Some(Long), "long 1 1", Hold(AlreadyHeld));
        check(Some(Short), "short 1 1", Hold(AlreadyHeld));
        check(Some(Short), "long 1 1", Act(0));
        check(Some(Long), "long 2 1, close 1 1", Hold(AlreadyHeld));
    }
}
