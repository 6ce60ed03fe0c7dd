use serde_json::json;

use super::*;
use crate::market::Side;

/// Before the frames below, which were captured from the venue.
const NOW: i64 = 1_790_232_237_500;

fn read(frame: Value) -> Frame {
    read_frame(&frame.to_string(), NOW)
}

#[test]
fn captured_frames_are_read() {
    let frame = read(
        json!({"channel":"trades","data":[{"coin":"BTC","side":"A","px":"84143.0","sz":"0.00036",
        "time":1790232216193_i64,"hash":"0x7ab6","tid":1045359869404765_i64,"users":["0x9a","0x82"]}]}),
    );
    let Frame::Trades(trades) = frame else { panic!("{frame:?}") };
    let trade = &trades.good[0];
    assert_eq!(
        (trade.symbol.as_str(), trade.side, trade.tid),
        ("BTC", Side::Sell, 1045359869404765)
    );
    assert_eq!(trade.price.to_string(), "84143.0");

    let frame = read(json!({"channel":"bbo","data":{"coin":"BTC","time":1790232237145_i64,
        "bbo":[{"px":"84143.0","sz":"10.25923","n":36},null]}}));
    let Frame::Quotes(quotes) = frame else { panic!("{frame:?}") };
    assert!(quotes.good[0].bid.is_some() && quotes.good[0].ask.is_none());

    let frame = read(
        json!({"channel":"activeAssetCtx","data":{"coin":"BTC","ctx":{"funding":"0.0000018952",
        "openInterest":"36585.31848","prevDayPx":"86627.0","dayNtlVlm":"4161029539.6949653625","premium":"-0.0006413454",
        "oraclePx":"84198.0","markPx":"84148.0","midPx":"84143.5","impactPxs":["84143.0","84144.0"],"new":{"a":1}}}}),
    );
    let Frame::Contexts(contexts) = frame else { panic!("{frame:?}") };
    let context = &contexts.good[0];
    assert_eq!(context.mark.unwrap().to_string(), "84148.0");
    assert_eq!(context.day_volume.unwrap().to_string(), "4161029539.6949653625");

    let frame = read(
        json!({"channel":"candle","data":{"t":1790232180000_i64,"T":1790232239999_i64,"s":"BTC","i":"1m",
        "o":"84143.0","c":"84143.0","h":"84144.0","l":"84143.0","v":"14.27847","n":114}}),
    );
    let Frame::Candles(candles) = frame else { panic!("{frame:?}") };
    assert_eq!((candles.good[0].0.as_str(), candles.good[0].1.volume), ("BTC", 14.27847));

    let frame = read(
        json!({"channel":"allMids","data":{"mids":{"@142":"80907.5","BTC":"80868.5","PURR/USDC":"0.06"}}}),
    );
    let Frame::Mids(mids) = frame else { panic!("{frame:?}") };
    assert_eq!((mids.good.len(), mids.good[0].symbol.as_str()), (1, "BTC"));
}

#[test]
fn what_is_no_data_says_what_it_is() {
    assert_eq!(read_frame("Websocket connection established.", NOW), Frame::Text);
    assert_eq!(read_frame("{\"channel\":", NOW), Frame::Text);
    assert_eq!(read(json!([1])), Frame::Text);
    assert_eq!(read(json!({"channel":"pong"})), Frame::Pong);
    assert_eq!(read(json!({"channel":"l9","data":1})), Frame::Unknown("l9".into()));
    assert_eq!(
        read(json!({"channel":"error","data":"Already subscribed: {}"})),
        Frame::Refused("Already subscribed: {}".into())
    );
    let ack = json!({"channel":"subscriptionResponse","data":{"method":"subscribe",
        "subscription":{"type":"candle","coin":"BTC","interval":"1m"}}});
    assert_eq!(read(ack), Frame::Acknowledged(Some(Subscription::Candle("BTC".into()))));
}

#[test]
fn a_bad_row_is_refused_by_name_and_the_rest_stays() {
    let trade = |change: &dyn Fn(&mut Value)| {
        let mut row = json!({"coin":"BTC","side":"B","px":"1.5","sz":"2","time":NOW,"tid":1});
        change(&mut row);
        row
    };
    let rows = vec![
        trade(&|_| {}),
        // Numbers where text is documented, and the other way round.
        trade(&|row| (row["px"], row["tid"]) = (json!(1.5), json!("7"))),
        trade(&|row| row["px"] = json!(".48")),
        trade(&|row| row["px"] = json!("NaN")),
        trade(&|row| row["px"] = json!("0")),
        trade(&|row| row["sz"] = json!("-1")),
        trade(&|row| row["sz"] = json!(null)),
        trade(&|row| row["side"] = json!("X")),
        trade(&|row| row["time"] = json!(NOW + 5_001)),
        trade(&|row| row["coin"] = json!("")),
        json!("no object"),
    ];
    let frame = read(json!({"channel":"trades","data":rows}));
    let Frame::Trades(trades) = frame else { panic!("{frame:?}") };
    assert_eq!((trades.good.len(), trades.read, trades.rejects.total()), (3, 11, 8));
    let reasons: Vec<_> = trades.rejects.reasons().collect();
    assert_eq!(
        reasons,
        [
            ("bad_side", 2),
            ("from_the_future", 1),
            ("missing_number", 1),
            ("missing_text", 1),
            ("not_a_number", 1),
            ("not_positive", 2),
        ]
    );
}

#[test]
fn a_dead_coin_is_unavailable_and_not_free_of_funding() {
    let ctx = json!({"funding":"0.0","openInterest":"0.0","premium":null,"oraclePx":"5.0","markPx":"5.0",
        "midPx":null,"impactPxs":null});
    let frame = read(json!({"channel":"activeAssetCtx","data":{"coin":"MATIC","ctx":ctx}}));
    let Frame::Contexts(contexts) = frame else { panic!("{frame:?}") };
    assert_eq!((contexts.good.len(), contexts.read, contexts.rejects.total()), (0, 1, 0));
}

#[test]
fn bars_and_books_that_cannot_be_are_refused() {
    let bar =
        json!({"t":NOW - NOW % 60_000,"s":"BTC","i":"1m","o":"2","c":"2","h":"1","l":"2","v":"1"});
    let off = json!({"t":NOW - NOW % 60_000 - 1,"s":"BTC","i":"1m","o":"2","c":"2","h":"2","l":"2","v":"1"});
    let hour = json!({"t":0,"s":"BTC","i":"1h","o":"2","c":"2","h":"2","l":"2","v":"1"});
    let Frame::Candles(candles) = read(json!({"channel":"candle","data":[bar, off, hour]})) else {
        panic!("candles")
    };
    let reasons: Vec<_> = candles.rejects.reasons().map(|(reason, _)| reason).collect();
    assert_eq!((candles.good.len(), reasons), (0, vec!["bad_interval", "off_grid", "unsound_bar"]));
    let crossed = json!({"coin":"BTC","time":NOW,"bbo":[{"px":"3","sz":"1"},{"px":"2","sz":"1"}]});
    let Frame::Quotes(quotes) = read(json!({"channel":"bbo","data":crossed})) else {
        panic!("quotes")
    };
    assert_eq!(quotes.rejects.total(), 1);
}
