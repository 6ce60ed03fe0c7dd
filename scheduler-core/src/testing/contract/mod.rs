//! What every store must do, as tests for a store of one's own.
//!
//! A contract is a set of rules; a rule is a function with the name of what it says, and a store
//! that passes all of them is correct. There are two:
//!
//! | contract | about | for |
//! |---|---|---|
//! | [A](crate::store_contract_a) | schedules, leases, runs, heartbeats, dead letters, and the rows of a queue without transactions of callers | every store |
//! | [B](crate::store_contract_b) | the caller's own transactions, fences, tables of the caller's, several processes that write at once | stores on a SQL database |
//!
//! # On your store
//!
//! Implement [`Fixture`] and [`QueueFixture`] (and [`SqlFixture`] for contract B) for a type
//! that makes an empty database, and hand the macro an expression that makes one. Each rule
//! becomes a test of its own, with a fixture of its own, so that a rule that is broken has a
//! name. The tests are `#[tokio::test]`s: your crate needs tokio with `macros` and
//! `rt-multi-thread` among its development dependencies, and this crate with the feature
//! `contract`.
//!
//! ```
//! # fn main() {}
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use scheduler_core::queue::{QueueTable, RowId};
//! use scheduler_core::store::{QueueControl, QueueRows, SchedulerStore};
//! use scheduler_core::testing::contract::{Fixture, NOON, NewRow, QUEUE, QueueFixture, RowEdit};
//! use scheduler_core::testing::{JobEdit, ManualClock, MemoryStore, QueueRow, RunRow};
//!
//! struct InMemory { store: MemoryStore, other: MemoryStore, clock: ManualClock }
//!
//! impl InMemory {
//!     async fn empty() -> Self {
//!         let clock = ManualClock::at(NOON);
//!         let store = MemoryStore::new(Arc::new(clock.clone()));
//!         Self { other: store.clone(), store, clock }
//!     }
//! }
//!
//! #[async_trait]
//! impl Fixture for InMemory {
//!     fn store(&self) -> &dyn SchedulerStore { &self.store }
//!     fn other(&self) -> &dyn SchedulerStore { &self.other }
//!     fn clock(&self) -> &ManualClock { &self.clock }
//!     async fn runs(&self, job: &str) -> Vec<RunRow> { self.other.runs(job).await }
//!     async fn everything(&self) -> Vec<String> { self.other.everything().await }
//!     async fn edit(&self, edit: JobEdit) { assert!(self.other.edit(&edit).await, "{edit:?}"); }
//! }
//!
//! #[async_trait]
//! impl QueueFixture for InMemory {
//!     async fn open(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
//!         let other = self.other.open_queue(table.clone()).expect("a queue");
//!         (self.store.open_queue(table).expect("a queue"), other)
//!     }
//!
//!     async fn enqueue(&self, rows: &[NewRow]) {
//!         for row in rows {
//!             let id = 1 + self.store.rows(QUEUE).await.len() as i64;
//!             let mut queued = QueueRow::queued(RowId::Int(id));
//!             (queued.priority, queued.run_at_ms) = (row.priority, row.run_at_ms);
//!             queued.columns.insert("label".into(), row.label.clone().into());
//!             queued.columns.insert("user_id".into(), row.user_id.into());
//!             self.store.put_row(QUEUE, queued).await;
//!         }
//!     }
//!
//!     async fn queue_rows(&self) -> Vec<QueueRow> { self.other.rows(QUEUE).await }
//!
//!     async fn edit_row(&self, id: i64, edit: RowEdit) {
//!         let rows = self.store.rows(QUEUE).await;
//!         let mut row = rows.into_iter().find(|row| row.id == RowId::Int(id)).expect("a row");
//!         match edit {
//!             RowEdit::Cancel => row.cancel_requested = true,
//!             RowEdit::Crashes(crashes) => row.crash_count = crashes,
//!             RowEdit::NotStarted => row.started = false,
//!         }
//!         self.store.put_row(QUEUE, row).await;
//!     }
//!
//!     async fn open_jobs(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
//!         self.open(table).await
//!     }
//!
//!     async fn control(&self, table: QueueTable) -> Arc<dyn QueueControl> {
//!         self.other.control_queue(table).expect("a queue")
//!     }
//!
//!     async fn job_rows(&self, queue: &str) -> Vec<QueueRow> {
//!         self.other.rows(&format!("jobs:{queue}")).await
//!     }
//! }
//!
//! scheduler_core::store_contract_a!(InMemory::empty().await);
//! ```
//!
//! A rule that is added is a change that may break a store: read the changelog.

pub mod ahead;
pub mod beside;
pub mod control;
pub mod endings;
pub mod enqueue;
mod fixture;
pub mod handlers;
pub mod heartbeats;
pub mod interrupts;
pub mod leases;
pub mod letters;
pub mod limits;
pub mod operators;
pub mod own_rows;
pub mod processes;
pub mod queue;
pub mod rates;
mod rows;
pub mod runs;
pub mod schedules;
mod steps;
pub mod transactions;
pub mod turns;
pub mod unrun;
pub mod wakes;

pub use fixture::{Fixture, NewRow, QueueFixture, RowEdit, SqlFixture};

/// 2026-11-23 12:00:00 UTC, epoch milliseconds: what the clock of a new fixture says.
pub const NOON: i64 = 1_795_435_200_000;

/// The table of the fixture's queue.
pub const QUEUE: &str = "parcels";

/// Contract A as tests: one for each rule, on a fixture of its own.
///
/// The argument is an expression that makes a
/// [`QueueFixture`](crate::testing::contract::QueueFixture) and may `.await`. See
/// [`contract`](crate::testing::contract).
#[macro_export]
macro_rules! store_contract_a {
    ($fixture:expr) => {
        $crate::store_contract_rules! { (&$fixture)
            schedules::a_new_job_is_due_as_its_start_says
            schedules::a_look_tells_of_the_jobs_asked_for
            schedules::a_definition_that_did_not_change_leaves_its_row_alone
            schedules::a_start_makes_a_job_due_once_for_all_hosts
            schedules::what_an_operator_says_survives_a_changed_definition
            schedules::what_is_due_when_a_definition_changes_is_missed
            schedules::a_job_that_becomes_manual_is_not_due_any_more
            schedules::a_recorder_that_fails_at_the_start_registers_nothing
            schedules::a_cron_job_is_due_at_its_slot
            control::a_paused_job_waits_and_a_resumed_one_goes_on_at_its_next_slot
            control::an_operators_cadence_wins_until_it_is_taken_back
            control::what_is_due_when_an_operator_speaks_is_missed
            control::a_host_that_saw_a_row_before_its_operator_spoke_loses
            control::a_requested_run_begins_once_over_all_hosts
            control::a_request_stands_until_it_is_taken_up
            runs::several_firings_of_one_begin_each_have_their_own_answer
            runs::a_row_that_is_not_as_it_was_seen_loses_silently
            runs::hosts_that_saw_the_same_slot_due_run_it_once
            runs::the_same_slot_twice_is_one_run
            runs::two_firings_of_one_lease_are_one_run
            runs::two_firings_of_one_row_in_one_begin_move_it_once
            runs::a_firing_moves_its_row_for_every_host
            runs::a_run_says_who_runs_it_and_since_when
            runs::runs_by_hand_share_no_slot_and_move_no_row
            runs::each_process_has_its_own_run_of_a_slot
            runs::a_begin_of_nothing_writes_nothing
            runs::a_recorder_that_fails_rolls_the_grant_back_and_the_slot_stays_due
            unrun::consecutive_misses_are_one_row_that_grows
            unrun::consecutive_skips_are_one_row_that_grows
            unrun::a_miss_and_a_skip_are_two_rows
            unrun::what_did_not_run_of_several_jobs_is_recorded_of_each
            unrun::what_did_not_run_is_no_error
            unrun::a_miss_and_the_run_that_fires_beside_it_are_one_decision
            unrun::a_slot_that_fires_takes_the_place_of_an_older_one_that_waits
            unrun::a_slot_that_waits_goes_on_waiting_and_the_newest_wins
            unrun::a_rerun_that_finds_the_lease_held_waits_for_it
            unrun::a_slot_of_a_job_that_buffers_waits_and_a_newer_one_takes_its_place
            unrun::a_slot_that_replaces_asks_the_run_to_end_and_waits_for_it
            turns::slots_that_wait_have_their_turn_once_over_all_hosts
            turns::a_turn_that_finds_the_lease_held_is_not_lost
            turns::what_waits_outlives_crashes_pauses_and_definitions
            turns::a_slot_of_its_own_does_not_join_those_that_wait
            turns::misses_on_both_sides_of_a_turn_are_two_rows
            beside::runs_go_on_beside_each_other_up_to_the_limit
            beside::hosts_that_begin_at_once_do_not_exceed_the_limit
            beside::each_run_that_crashed_is_closed_and_runs_again
            beside::a_stop_that_cuts_several_off_loses_none
            beside::the_leases_of_single_runs_are_seen_and_pruned
            interrupts::a_lease_that_expires_after_a_look_is_not_taken_by_what_was_seen
            interrupts::a_run_is_interrupted_at_the_expiry_of_its_lease
            interrupts::a_run_of_one_process_is_interrupted_by_its_own_lease
            interrupts::a_run_that_was_cut_off_does_not_run_again_while_its_job_is_paused
            interrupts::an_interrupted_run_is_closed_once
            interrupts::an_interrupted_run_is_closed_with_the_grant_of_its_rerun
            interrupts::a_run_whose_lease_lives_after_all_is_not_closed
            interrupts::a_run_that_a_stop_cut_off_waits_to_run_again
            interrupts::a_stop_does_not_replace_a_newer_slot_that_waits
            endings::a_finish_without_its_lease_writes_nothing_at_all
            endings::a_run_is_finished_once
            endings::runs_that_end_at_once_each_have_their_own_answer
            endings::the_end_of_a_run_says_how_and_when
            endings::a_run_that_is_not_kept_leaves_no_row_and_counts
            endings::a_recorder_that_fails_at_the_end_leaves_the_run_to_be_finished_again
            leases::a_lease_is_held_until_just_before_its_expiry_by_its_own_grant_only
            leases::a_lease_is_granted_again_at_its_expiry_and_not_before
            leases::a_grant_is_as_long_as_it_was_asked_for
            leases::tokens_only_grow_over_ends_expiries_and_hosts
            leases::a_released_lease_has_no_holder_and_cannot_be_renewed
            leases::a_renewal_tells_of_a_cancel_request_and_a_new_grant_forgets_it
            leases::a_lease_that_is_renewed_in_time_is_never_free
            leases::two_hosts_that_grasp_at_once_are_one_holder
            processes::an_instance_that_others_took_for_dead_is_told_so
            processes::a_process_is_alive_for_a_minute_after_its_last_sign
            processes::a_process_that_stops_is_not_alive
            processes::live_processes_that_disagree_about_a_job_are_told
            processes::old_history_is_pruned_oldest_first
            processes::what_a_dead_process_left_is_pruned_and_what_all_share_stays
            heartbeats::a_worker_is_seen_before_its_first_run
            heartbeats::a_run_is_seen_from_its_begin_to_its_end
            heartbeats::errors_count_until_a_success_and_a_stop_is_none
            heartbeats::runs_of_one_worker_that_end_at_once_are_all_counted
            heartbeats::hosts_are_rolled_up_to_sums_latest_times_and_the_worst
            heartbeats::the_holder_of_a_worker_is_the_one_whose_lease_is_the_latest
            heartbeats::a_worker_that_should_have_succeeded_is_stale
            heartbeats::a_long_error_is_cut_in_the_heartbeat
            heartbeats::workers_are_listed_by_name
            heartbeats::runs_without_rows_are_rolled_up
            letters::an_item_backs_off_and_is_dead_after_its_last_attempt
            letters::a_success_resolves_an_item_and_its_next_failure_counts_from_one
            letters::an_item_is_due_again_at_its_time
            letters::items_are_settled_under_the_lease_of_their_cycle_only
            letters::a_retried_item_is_due_now_and_dead_again_if_it_fails
            letters::a_discarded_item_stays_so_until_it_is_retried
            letters::letters_are_listed_latest_first
            letters::what_a_letter_says_survives_the_way_into_the_database
            letters::resolved_letters_are_pruned_and_others_stay
            queue::rows_are_claimed_once_and_in_order
            queue::a_claimed_row_says_what_it_is
            queue::two_hosts_that_claim_at_once_share_the_rows
            queue::a_claim_is_held_until_just_before_its_expiry_by_its_own_grant_only
            queue::a_row_that_crashed_comes_back_until_its_limit
            queue::a_row_that_crashed_is_claimed_alone_and_only_by_an_idle_host
            queue::a_row_whose_cancel_was_asked_is_not_run_again
            queue::a_batch_settles_what_is_still_held_and_nothing_else
            queue::a_batch_of_successes_ends_what_is_still_held_and_nothing_else
            queue::a_row_is_settled_once
            queue::what_a_row_says_survives_the_way_into_the_database
            queue::what_has_no_news_is_left_as_it_is
            queue::the_next_claim_is_known_to_the_millisecond
            enqueue::what_is_enqueued_is_claimed_as_it_was_said
            enqueue::answers_are_in_the_order_of_the_rows
            enqueue::rows_that_are_alike_keep_their_payloads
            enqueue::queues_of_one_table_know_nothing_of_each_other
            enqueue::kinds_and_versions_that_a_host_does_not_know_are_left_to_others
            enqueue::a_key_is_unique_until_its_row_is_finished
            enqueue::a_key_can_be_unique_among_what_waits
            enqueue::a_key_is_unique_for_its_window
            enqueue::a_key_that_a_dead_process_left_is_free_when_its_row_is_dead
            enqueue::spans_without_end_are_very_long_ones
            enqueue::rows_of_one_call_with_one_key_are_one_row
            enqueue::hosts_that_enqueue_one_key_at_once_enqueue_one_row
            enqueue::what_cannot_be_enqueued_leaves_nothing
            enqueue::limits_of_one_queue_are_not_those_of_another
            ahead::what_is_claimed_ahead_has_not_begun
            ahead::what_was_lost_before_it_began_begins_with_its_next_claim
            ahead::what_was_claimed_ahead_and_has_begun_can_crash
            ahead::ends_and_claims_are_one_exchange
            ahead::nothing_is_claimed_ahead_where_there_are_limits
            handlers::a_checkpoint_survives_a_retry_and_needs_its_claim
            limits::no_more_rows_run_than_the_limits_allow_over_all_hosts
            limits::a_row_of_a_saturated_key_leaves_the_others_their_turn
            limits::a_suspect_that_cannot_run_yet_holds_nobody_up
            limits::a_row_takes_the_lowest_slots_that_are_free
            limits::an_expired_row_occupies_nothing
            rates::no_more_rows_start_within_a_period_than_the_rate_allows
            rates::a_key_that_has_started_enough_leaves_the_others_their_turn
            rates::rates_and_limits_hold_together
            rates::a_row_over_the_rate_says_when_it_can_start
            rates::each_start_of_a_row_counts
            rates::hosts_that_claim_at_once_do_not_exceed_the_rate
            rates::rates_of_one_queue_are_not_those_of_another
            operators::a_paused_queue_is_claimed_by_nobody_until_it_goes_on
            operators::a_paused_queue_takes_what_is_enqueued_and_ends_what_runs
            operators::a_queue_that_goes_on_wakes_who_waits
            operators::dead_rows_are_retried_as_if_they_were_new
            operators::dead_rows_are_discarded_and_only_they
            operators::old_jobs_are_pruned_and_dead_ones_stay
            operators::a_row_whose_window_is_open_is_not_pruned
            operators::a_dead_row_that_is_retried_has_its_key_again
            own_rows::what_is_enqueued_into_ones_own_table_is_claimed_as_it_was_said
            own_rows::what_is_enqueued_into_ones_own_table_is_limited_by_its_columns
            own_rows::a_key_is_unique_in_ones_own_table
            own_rows::hosts_that_enqueue_one_key_at_once_into_ones_own_table_enqueue_one_row
            own_rows::what_does_not_fit_ones_own_table_leaves_nothing
            own_rows::dead_rows_of_ones_own_table_are_retried_or_discarded
            own_rows::finished_rows_go_when_their_table_says_so
            wakes::a_wake_is_heard_in_its_own_process
            wakes::a_wake_is_heard_in_other_processes
            wakes::a_row_that_nobody_was_told_of_is_found_by_a_look
            wakes::the_end_of_a_limited_row_is_heard_in_other_processes
            wakes::a_row_that_is_given_back_is_heard_of_in_other_processes
            wakes::what_a_process_does_to_a_schedule_is_heard_in_others
        }
    };
}

/// Contract B as tests: one for each rule, on a fixture of its own. It is in addition to
/// [contract A](crate::store_contract_a).
///
/// The argument is an expression that makes a
/// [`SqlFixture`](crate::testing::contract::SqlFixture) and may `.await`. See
/// [`contract`](crate::testing::contract).
#[macro_export]
macro_rules! store_contract_b {
    ($fixture:expr) => {
        $crate::store_contract_rules! { (::std::sync::Arc::new($fixture))
            transactions::an_effect_under_a_lost_lease_is_rolled_back
            transactions::a_refused_fence_is_known_to_its_lease
            transactions::a_row_is_fenced_until_just_before_its_expiry_by_its_own_grant_only
            transactions::a_fence_keeps_the_lease_until_its_transaction_ends
            transactions::a_renewal_behind_ones_own_fence_is_not_a_loss
            transactions::a_callers_transaction_is_all_or_nothing
            transactions::a_row_is_there_after_the_commit_of_its_enqueue_only
            transactions::a_job_is_there_after_the_commit_of_its_enqueue_only
            own_rows::a_row_of_ones_own_is_there_after_the_commit_of_its_enqueue_only
            handlers::a_row_succeeds_with_its_effects_or_not_at_all
            handlers::a_checkpoint_is_kept_with_its_effects_or_not_at_all
            transactions::a_recorders_own_rows_agree_with_the_run
            transactions::transactions_of_several_processes_at_once_are_all_there
        }
    };
}

/// Rules as tests; use the macros of the contracts.
#[doc(hidden)]
#[macro_export]
macro_rules! store_contract_rules {
    (($fixture:expr) $($family:ident :: $rule:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            $crate::testing::contract::$family::$rule($fixture).await;
        })+
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_rule_is_in_a_contract() {
        let families = [
            ("ahead", include_str!("ahead.rs")),
            ("beside", include_str!("beside.rs")),
            ("control", include_str!("control.rs")),
            ("endings", include_str!("endings.rs")),
            ("enqueue", include_str!("enqueue.rs")),
            ("handlers", include_str!("handlers.rs")),
            ("heartbeats", include_str!("heartbeats.rs")),
            ("interrupts", include_str!("interrupts.rs")),
            ("leases", include_str!("leases.rs")),
            ("letters", include_str!("letters.rs")),
            ("limits", include_str!("limits.rs")),
            ("operators", include_str!("operators.rs")),
            ("own_rows", include_str!("own_rows.rs")),
            ("processes", include_str!("processes.rs")),
            ("queue", include_str!("queue.rs")),
            ("rates", include_str!("rates.rs")),
            ("runs", include_str!("runs.rs")),
            ("schedules", include_str!("schedules.rs")),
            ("transactions", include_str!("transactions.rs")),
            ("turns", include_str!("turns.rs")),
            ("unrun", include_str!("unrun.rs")),
            ("wakes", include_str!("wakes.rs")),
        ];
        let contracts = include_str!("mod.rs");
        for (family, text) in families {
            let rules: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
                .collect();
            assert!(!rules.is_empty(), "{family} has no rule");
            for rule in rules {
                let listed = contracts.matches(&format!("{family}::{rule}\n")).count();
                assert_eq!(listed, 1, "{family}::{rule}");
            }
        }
    }
}
