//! What a look at a row means for a firing of it.

use std::sync::Arc;

use crate::cadence::Cadence;
use crate::definition::{JobDefinition, Overlap, Scope};
use crate::executor::{Executor, Registered, lease_name};
use crate::plan::Due;
use crate::store::{Advance, Begun, Firing, ScheduleRow};

/// When the lease expires under which another process runs what this one wanted to run, if that
/// process dies at once: the look then finds the slot, or the renewed lease.
pub(super) fn expiry_elsewhere(firing: &Firing, begun: &Begun, asked_at_ms: i64) -> Option<i64> {
    match begun {
        Begun::Lost => Some(asked_at_ms.saturating_add(firing.lease_ms)),
        Begun::Busy(holder) => Some(holder.until_ms),
        Begun::Started { .. } | Begun::Recorded => None,
    }
}

/// A firing of this job by this process that does nothing yet.
pub(crate) fn firing_of(executor: &Executor, registered: &Registered) -> Firing {
    let definition = &registered.definition;
    let scope_key = match definition.scope {
        Scope::Cluster => String::new(),
        Scope::Instance => executor.instance_id.to_string(),
    };
    Firing {
        job: definition.name.clone(),
        lease_name: lease_name(&definition.name, &scope_key),
        scope_key,
        lease_ms: definition.lease_ms(),
        as_of_ms: None,
        instance_id: executor.instance_id,
        overlap: definition.overlap,
        overlap_limit: definition.overlap_limit,
        requested: false,
        run: None,
        advance: None,
        missed: Vec::new(),
        interrupted: None,
        recorder: Arc::clone(&definition.recorder),
    }
}

/// Whether a run may begin, as far as a look can tell.
pub(super) fn is_free(row: &ScheduleRow, definition: &JobDefinition) -> bool {
    match definition.overlap {
        Overlap::Allow => row.running < i64::from(definition.overlap_limit),
        Overlap::Skip | Overlap::BufferOne | Overlap::Replace => row.leased_until_ms.is_none(),
    }
}

/// Whether slots wait that need not wait for the end of the run that has begun.
pub(super) fn more_may_begin(firing: &Firing, begun: &Begun) -> bool {
    let waits = firing.advance.as_ref().is_some_and(|advance| !advance.waiting_slots.is_empty());
    waits && firing.overlap == Overlap::Allow && matches!(begun, Begun::Started { .. })
}

/// A move of a row that leaves it as it was seen.
pub(super) fn unmoved(row: &ScheduleRow) -> Advance {
    Advance {
        seen_due_at_ms: row.next_due_at_ms,
        seen_generation: row.generation,
        seen_buffered_for_ms: row.buffered_for_ms,
        seen_waiting_slots: row.waiting_slots.clone(),
        next_due_at_ms: row.next_due_at_ms,
        fired_for_ms: None,
        buffered_for_ms: row.buffered_for_ms,
        waiting_slots: row.waiting_slots.clone(),
    }
}

/// An operator's cadence wins over the row's; the definition's is used when neither can be read.
pub(crate) fn effective_cadence(row: &ScheduleRow, defined: &Cadence) -> Cadence {
    let text = row.cadence_override.as_ref().unwrap_or(&row.cadence);
    if *text == defined.to_string() {
        return defined.clone();
    }
    text.parse().unwrap_or_else(|error| {
        tracing::warn!(job = row.job, %error, "a schedule's cadence cannot be read; using the definition's");
        defined.clone()
    })
}

pub(super) fn cluster_due(row: &ScheduleRow) -> Option<Due> {
    Some(Due {
        anchor_ms: row.anchor_ms,
        next_due_at_ms: row.next_due_at_ms?,
        last_fired_for_ms: row.last_fired_for_ms,
    })
}
