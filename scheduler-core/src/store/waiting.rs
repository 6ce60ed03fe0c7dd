//! Slots that wait in a schedule row, as text: `[[slot, attempts], …]`, oldest first.

use super::WaitingSlot;
use crate::error::StoreError;

/// The text of these slots; `None` for none.
pub(crate) fn to_text(slots: &[WaitingSlot]) -> Option<String> {
    let pairs: Vec<(i64, i32)> = slots.iter().map(|slot| (slot.slot_ms, slot.attempts)).collect();
    (!pairs.is_empty()).then(|| serde_json::json!(pairs).to_string())
}

/// The slots of a text, which is as [`to_text`] writes it: hosts compare it.
pub(crate) fn from_text(text: Option<&str>) -> Result<Vec<WaitingSlot>, StoreError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let pairs: Vec<(i64, i32)> = serde_json::from_str(text).unwrap_or_default();
    let slots: Vec<WaitingSlot> =
        pairs.into_iter().map(|(slot_ms, attempts)| WaitingSlot { slot_ms, attempts }).collect();
    if to_text(&slots).as_deref() == Some(text) {
        return Ok(slots);
    }
    Err(StoreError::Corrupt {
        table: "schedules".into(),
        column: "waiting_slots",
        value: text.to_owned(),
        expected: "slots as `[[epoch milliseconds,attempts],…]` without spaces, or NULL",
    })
}

/// A slot among those that wait, in its place.
pub(crate) fn with(mut slots: Vec<WaitingSlot>, slot: WaitingSlot) -> Vec<WaitingSlot> {
    let place = slots.partition_point(|other| other.slot_ms < slot.slot_ms);
    slots.insert(place, slot);
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_read_back_as_they_were_written_and_nothing_else_is_read() {
        let slots = [(60_000, 0), (120_000, 2)]
            .map(|(slot_ms, attempts)| WaitingSlot { slot_ms, attempts });
        let text = to_text(&slots).expect("a text");
        assert_eq!(text, "[[60000,0],[120000,2]]");
        assert_eq!(from_text(Some(&text)).expect("slots"), slots);
        assert_eq!((to_text(&[]), from_text(None).expect("none")), (None, Vec::new()));
        for wrong in ["", "[]", "[[60000, 0]]", "[60000]", "soon"] {
            let error = from_text(Some(wrong)).expect_err(wrong).to_string();
            assert!(error.contains("waiting_slots"), "{error}");
        }
    }
}
