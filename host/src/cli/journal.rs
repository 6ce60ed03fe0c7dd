//! News of the arena, one line each: fills, auditions, entries, and now and then what accounts are
//! worth.

use std::io::Write;
use std::time::{Duration, Instant};

use domain::store::journal::{
    ArenaEntry, AuditionEntry, EquityEntry, FillEntry, list_arena_entries, list_audition_events,
    list_equity, list_fills,
};
use scheduler_core::Store;

use crate::failure::Failure;
use crate::terminal::escape;

/// Between two looks at what accounts are worth.
const PACE: Duration = Duration::from_secs(10);
/// Significant digits of a price that are shown.
const SHOWN_DIGITS: u32 = 8;
/// News of one look, at most.
const LIMIT: u32 = 100;

/// What was told already.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    fill: i64,
    audition: i64,
    entry: i64,
    equity_at: Option<Instant>,
}

impl Journal {
    /// Writes what happened since the last call.
    pub(crate) async fn write_news(
        &mut self,
        store: &Store,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Failure> {
        let reader = store.reader();
        for fill in list_fills(reader, self.fill, LIMIT).await? {
            self.fill = fill.id;
            writeln!(out, "{}", escape(&of_fill(&fill)))?;
        }
        for event in list_audition_events(reader, self.audition, LIMIT).await? {
            self.audition = event.id;
            writeln!(out, "{}", escape(&of_audition(&event)))?;
        }
        for entry in list_arena_entries(reader, self.entry, LIMIT).await? {
            self.entry = entry.id;
            writeln!(out, "{}", escape(&of_entry(&entry)))?;
        }
        if self.equity_at.is_none_or(|at| at.elapsed() >= PACE) {
            let equity = list_equity(reader, LIMIT).await?;
            if !equity.is_empty() {
                self.equity_at = Some(Instant::now());
                writeln!(out, "{}", escape(&of_equity(&equity)))?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// As in `fill       Tess  buys 0.05952 BTC at 84000.0 (decision)`.
fn of_fill(fill: &FillEntry) -> String {
    let FillEntry { clone_name, symbol, size, price, realized, reason, .. } = fill;
    let (verb, size) = match size.strip_prefix('-') {
        Some(size) => ("sells", size),
        None => ("buys", size.as_str()),
    };
    let gain = match realized.trim_start_matches('-').trim_matches(['0', '.']) {
        "" => String::new(),
        _ => format!(", realizes {realized} USD"),
    };
    let price = price
        .parse::<rust_decimal::Decimal>()
        .ok()
        .and_then(|price| price.round_sf(SHOWN_DIGITS))
        .map_or_else(|| price.clone(), |price| price.normalize().to_string());
    format!("fill       {clone_name}  {verb} {size} {symbol} at {price} ({reason}){gain}")
}

/// As in `audition   Ava  running → passed: window survived`.
fn of_audition(event: &AuditionEntry) -> String {
    let AuditionEntry { clone_name, from_status, to_status, reason, .. } = event;
    let reason = reason.replace('_', " ");
    format!("audition   {clone_name}  {from_status} → {to_status}: {reason}")
}

/// As in `arena      Ava enters season 1 in slot 1, with account 5`.
fn of_entry(entry: &ArenaEntry) -> String {
    let ArenaEntry { clone_name, season_id, slot_no, account_id, .. } = entry;
    format!(
        "arena      {clone_name} enters season {season_id} in slot {slot_no}, with account {account_id}"
    )
}

/// As in `equity     Tess 10012.33  Mona 9998.10`.
fn of_equity(entries: &[EquityEntry]) -> String {
    let worth: Vec<String> = entries.iter().map(worth).collect();
    format!("equity     {}", worth.join("  "))
}

fn worth(entry: &EquityEntry) -> String {
    let kind = if entry.kind == "practice" { String::new() } else { format!(" ({})", entry.kind) };
    let equity = entry
        .equity
        .parse::<rust_decimal::Decimal>()
        .map_or_else(|_| entry.equity.clone(), |equity| format!("{:.2}", equity.round_dp(2)));
    format!("{}{kind} {equity}", entry.clone_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_is_a_sentence() {
        let check = |size: &str, realized: &str, expected: &str| {
            let fill = FillEntry {
                id: 1,
                clone_name: "Tess".into(),
                account_id: 2,
                symbol: "BTC".into(),
                size: size.into(),
                price: "84000.5".into(),
                realized: realized.into(),
                reason: "decision".into(),
            };
            assert_eq!(of_fill(&fill), expected);
        };
        check("0.05", "0", "fill       Tess  buys 0.05 BTC at 84000.5 (decision)");
        check("-0.05", "0.00", "fill       Tess  sells 0.05 BTC at 84000.5 (decision)");
        check(
            "-0.05",
            "-12.5",
            "fill       Tess  sells 0.05 BTC at 84000.5 (decision), realizes -12.5 USD",
        );
    }

    #[test]
    fn what_an_account_is_worth_is_rounded_to_cents() {
        let entry = |kind: &str, equity: &str| EquityEntry {
            account_id: 1,
            clone_name: "Ava".into(),
            kind: kind.into(),
            equity: equity.into(),
            at_ms: 0,
        };
        let entries = [entry("practice", "10000.126"), entry("arena", "1")];
        assert_eq!(of_equity(&entries), "equity     Ava 10000.13  Ava (arena) 1.00");
    }
}
