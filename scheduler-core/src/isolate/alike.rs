//! Whether the items of a cycle failed for a reason that is not theirs: a pure rule.

use std::collections::HashMap;

/// Fewer items than this say nothing about a common reason.
const FEWEST: u64 = 10;

/// A common reason of many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outage<'f> {
    /// Items that failed for it.
    pub(super) failed: u64,
    /// How one of them failed.
    pub(super) error: &'f str,
}

/// The outage, when at least [`FEWEST`] items ran and more than half of them failed alike.
pub(super) fn outage<'f>(
    ran: u64,
    failures: impl Iterator<Item = (&'f String, &'f String)>,
) -> Option<Outage<'f>> {
    let mut alike: HashMap<String, Outage<'f>> = HashMap::new();
    for (key, error) in failures {
        let found = alike.entry(class(key, error)).or_insert(Outage { failed: 0, error });
        found.failed += 1;
    }
    let most = alike.into_values().max_by_key(|found| found.failed)?;
    (ran >= FEWEST && most.failed * 2 > ran).then_some(most)
}

/// What is common to the same failure of different items: the message without the item's key,
/// without what is quoted, and without words that have a digit (numbers, times, identities).
fn class(key: &str, error: &str) -> String {
    let mut class = String::new();
    let mut quote = None;
    let mut word = String::new();
    let end = |word: &mut String, class: &mut String| {
        let own = word.as_str() == key || word.contains(|c: char| c.is_ascii_digit());
        class.push_str(if own { "#" } else { word });
        word.clear();
    };
    for c in error.chars() {
        match quote {
            Some(closing) if c == closing => quote = None,
            Some(_) => {}
            None if c == '`' || c == '"' => {
                end(&mut word, &mut class);
                quote = Some(c);
                class.push('#');
            }
            None if c.is_alphanumeric() || "_-.".contains(c) => word.push(c),
            None => {
                end(&mut word, &mut class);
                class.push(c);
            }
        }
    }
    end(&mut word, &mut class);
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_of_different_items_is_alike() {
        let alike = [
            ("17", "account 17: connection refused", "18", "account 18: connection refused"),
            ("a", "timed out after 1.25s", "b", "timed out after 900ms"),
            ("x", "no price for `BTC` at 1795435200000", "y", "no price for `ETH` at 5"),
            (
                "ada",
                "ada: panicked: index out of bounds",
                "bob",
                "bob: panicked: index out of bounds",
            ),
        ];
        for (key, error, other, others) in alike {
            assert_eq!(class(key, error), class(other, others), "{error}");
        }
        let different = [
            ("1", "connection refused", "2", "connection reset"),
            ("1", "account is closed", "2", "account is frozen"),
        ];
        for (key, error, other, others) in different {
            assert_ne!(class(key, error), class(other, others), "{error}");
        }
    }

    fn check(name: &str, ran: u64, errors: &[(&str, u64)], expected: Option<u64>) {
        let failures: Vec<(String, String)> = errors
            .iter()
            .flat_map(|(error, count)| (0..*count).map(move |at| (at.to_string(), (*error).into())))
            .collect();
        let found = outage(ran, failures.iter().map(|(key, error)| (key, error)));
        assert_eq!(found.map(|outage| outage.failed), expected, "{name}");
    }

    #[test]
    fn an_outage_is_ten_items_of_which_more_than_half_failed_alike() {
        check("nothing ran", 0, &[], None);
        check("nine items say nothing", 9, &[("refused", 9)], None);
        check("ten of ten", 10, &[("refused", 10)], Some(10));
        check("just over half", 11, &[("refused", 6)], Some(6));
        check("half is not more than half", 10, &[("refused", 5)], None);
        check("half each of two reasons", 10, &[("refused", 5), ("closed", 5)], None);
        check("the larger of two reasons", 10, &[("closed", 3), ("refused", 6)], Some(6));
    }
}
