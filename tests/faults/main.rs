//! Hosts share one database while they are killed, frozen, blocked and stopped: what the protocol
//! promises must hold in what they leave. Each test prints its seed and its figures.
//!
//! | variable | what |
//! |---|---|
//! | `FAULT_SEED` | repeats a run, as far as processes allow |
//! | `FAULT_KILLS` | the torments go on until so many kills were made |
//! | `FAULT_HOST` | the host's program: a copy that a later build leaves alone |
//! | `FAULT_OLD_HOST` | the program of the last release's host, to work beside this one's |

mod backtest;
mod blocked;
mod clock;
mod database;
mod delays;
mod frozen;
mod full_disk;
mod host;
mod queue;
mod recovery;
mod slots;
mod stops;
mod torment;
mod versions;
mod writers;

#[cfg(feature = "postgres")]
#[path = "../it/postgres.rs"]
mod postgres;

/// Runs tests that take the address of an empty database on every database of this build.
macro_rules! on_every_database {
    ($($test:ident => $body:path,)+) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}", folder.path().join("faults.db").display());
                $body(&url).await;
            })+
        }

        #[cfg(feature = "postgres")]
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(url) = crate::postgres::new_database().await {
                    $body(&url).await;
                }
            })+
        }
    };
}

on_every_database! {
    each_slot_runs_once_or_is_recorded => crate::slots::torment,
    each_row_is_delivered_within_its_limits => crate::queue::torment,
    what_a_dead_process_ran_runs_again_within_its_lease_and_a_second => crate::recovery::of_a_job,
    what_a_dead_process_had_claimed_is_claimed_again_as_soon => crate::recovery::of_a_row,
    a_frozen_host_writes_nothing_while_the_next_one_runs_its_slot => crate::frozen::job,
    a_frozen_host_writes_nothing_although_nobody_took_its_lease => crate::frozen::job_alone,
    a_frozen_host_writes_nothing_while_the_next_one_delivers_its_row => crate::frozen::row,
    a_host_whose_workers_were_blocked_books_nothing_and_goes_on => crate::blocked::job,
    a_host_whose_workers_were_blocked_runs_its_slot_again_itself => crate::blocked::job_alone,
    a_host_whose_workers_were_blocked_goes_on_with_its_queue => crate::blocked::row,
    no_slot_runs_twice_and_none_is_lost_when_the_clock_is_set => crate::clock::of_all,
    a_process_whose_clock_is_set_keeps_its_lease_and_goes_on => crate::clock::of_one,
    a_process_whose_clock_is_set_keeps_its_row => crate::clock::of_one_with_a_row,
    a_stop_at_any_moment_ends_well_and_leaves_nothing_running => crate::stops::of_jobs,
    a_stop_at_any_moment_gives_attempts_back => crate::stops::of_queues,
    a_back_test_whose_worker_is_killed_is_done_once_at_its_second_attempt => crate::backtest::killed,
    a_back_test_that_kills_its_worker_three_times_is_dead => crate::backtest::killed_three_times,
    an_older_host_and_this_one_run_what_the_other_left => crate::versions::jobs,
    an_older_host_and_this_one_deliver_what_the_other_left => crate::versions::queues,
}
