use super::*;
use crate::decisions::PositionView;
use crate::market::Interval;
use crate::strategy::default_graph;

const HOUR_MS: i64 = 3_600_000;

/// A graph of one input whose condition is `input > 0`, to open long a tenth of equity.
fn graph_of(input: &str) -> ValidGraph {
    let text = format!(
        r#"{{"schema_version":1,"name":"g","universe":["BTC"],"timeframe":"1h","warmup_bars":0,
        "nodes":[{input},{{"id":"zero","type":"const","value":"0"}},
          {{"id":"go","type":"compare","op":"gt","inputs":["x","zero"]}}],
        "actions":[{{"id":"long","when":"go","do":"open_long",
          "sizing":{{"mode":"pct_equity","value":"0.1"}},"leverage":"1","stop_loss":{{"mode":"pct","value":"0.02"}}}}],
        "risk":{{"max_leverage":"1","max_position_pct":"1","max_open_positions":1}}}}"#
    );
    ValidGraph::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn snapshot(closes: &[f64]) -> Snapshot {
    let mut market = MarketView::unknown(Interval::H1);
    market.bars = closes
        .iter()
        .enumerate()
        .map(|(hour, &close)| Candle {
            open_time_ms: i64::try_from(hour).unwrap() * HOUR_MS,
            open: close,
            high: close,
            low: close,
            close,
            volume: 1.0,
        })
        .collect();
    let as_of_ms = market.closed_at_ms().unwrap_or_default();
    Snapshot { as_of_ms, markets: [("BTC".to_owned(), market)].into(), ..Snapshot::default() }
}

fn btc(snapshot: &mut Snapshot) -> &mut MarketView {
    snapshot.markets.get_mut("BTC").unwrap()
}

#[test]
fn a_cross_opens_with_a_size_fixed_at_the_close() {
    // Fifty flat bars and a jump: the fast average crosses the slow one on the last bar.
    let mut closes = vec![100.0; 60];
    closes.push(125.0);
    let mut snapshot = snapshot(&closes);
    let symbol = default_graph().graph().universe[0].clone();
    let market = snapshot.markets.remove("BTC").unwrap();
    snapshot.markets.insert(symbol.clone(), market);
    let Output::Intents(intents) = evaluate(&default_graph(), &snapshot) else { panic!("a hold") };
    assert_eq!(intents.len(), 1);
    // A quarter of the nominal 10,000 by 125.
    let IntentKind::Open { side, size, .. } = &intents[0].kind else { panic!("{intents:?}") };
    assert_eq!((*side, *size), (Side::Long, OpenSize::Units(Decimal::from(20))));
    assert_eq!(intents[0].symbol, symbol);
    let again = evaluate(&default_graph(), &snapshot.clone());
    assert_eq!(again, Output::Intents(intents), "the same snapshot, the same answer");
}

#[test]
fn each_live_feature_is_known_while_it_is_fresh() {
    let check = |input: &str, given: &dyn Fn(&mut Snapshot), fires: bool| {
        let mut snapshot = snapshot(&[100.0, 100.0]);
        given(&mut snapshot);
        let output = evaluate(&graph_of(input), &snapshot);
        assert_eq!(matches!(output, Output::Intents(_)), fires, "{input}: {output:?}");
    };
    let mark = r#"{"id":"x","type":"input","feature":"mark"}"#;
    let at = |age_ms: i64| move |s: &Snapshot| Datum { value: 1.0, at_ms: s.as_of_ms - age_ms };
    check(mark, &|_| (), false);
    check(mark, &|s| btc(s).mark = None, false);
    check(
        mark,
        &|s| {
            let d = at(60_000)(s);
            btc(s).mark = Some(d);
        },
        true,
    );
    check(
        mark,
        &|s| {
            let d = at(60_001)(s);
            btc(s).mark = Some(d);
        },
        false,
    );
    let patient = r#"{"id":"x","type":"input","feature":"mark","max_age":"10m"}"#;
    check(
        patient,
        &|s| {
            let d = at(60_001)(s);
            btc(s).mark = Some(d);
        },
        true,
    );
    let funding =
        r#"{"id":"x","type":"input","feature":"funding","params":{"agg":"sum","window":"2h"}}"#;
    let rates = |values: &'static [f64]| {
        move |s: &mut Snapshot| {
            let now_ms = s.as_of_ms;
            btc(s).funding = values
                .iter()
                .rev()
                .enumerate()
                .map(|(hours, &value)| Datum {
                    value,
                    at_ms: now_ms - i64::try_from(hours).unwrap() * HOUR_MS,
                })
                .rev()
                .collect();
        }
    };
    check(funding, &rates(&[-9.0, 0.5, 0.5]), true);
    check(funding, &rates(&[9.0, -0.5, 0.4]), false);
    let tvl = r#"{"id":"x","type":"input","feature":"tvl","params":{"chain":"Ethereum"}}"#;
    check(
        tvl,
        &|s| {
            let d = at(HOUR_MS)(s);
            s.statistics.insert("tvl:Ethereum".into(), d);
        },
        true,
    );
    check(
        tvl,
        &|s| {
            let d = at(37 * HOUR_MS)(s);
            s.statistics.insert("tvl:Ethereum".into(), d);
        },
        false,
    );
    let profit = r#"{"id":"x","type":"input","feature":"position_pnl_pct"}"#;
    let holding = |entry: f64| {
        move |s: &mut Snapshot| {
            let positions = [("ETH".to_owned(), PositionView { size: 1.0, entry })].into();
            s.account = Some(AccountView { equity: 1_000.0, peak_equity: 1_000.0, positions });
        }
    };
    check(profit, &holding(90.0), false);
}

#[test]
fn a_held_position_is_seen_and_not_added_to() {
    let price = r#"{"id":"x","type":"input","feature":"price","params":{"field":"close"}}"#;
    let mut snapshot = snapshot(&[100.0]);
    let account = |size: f64| AccountView {
        equity: 1_000.0,
        peak_equity: 1_000.0,
        positions: [("BTC".to_owned(), PositionView { size, entry: 100.0 })].into(),
    };
    snapshot.account = Some(account(1.0));
    let held = evaluate(&graph_of(price), &snapshot);
    assert_eq!(held, Output::Hold { reason: "BTC: the side is held already".into() });
    snapshot.account = Some(account(-1.0));
    let Output::Intents(intents) = evaluate(&graph_of(price), &snapshot) else { panic!("hold") };
    // A tenth of the account's 1,000, not of the nominal equity.
    let IntentKind::Open { size, stop_loss_pct, .. } = &intents[0].kind else { panic!() };
    assert_eq!(*size, OpenSize::Units(Decimal::ONE));
    assert_eq!(*stop_loss_pct, Some(Decimal::new(2, 2)));
}
