//! Mistakes planted on purpose, one line each, to prove that the tests would find them. Without the
//! feature `planted` every question is answered by a constant "no" and nothing of this is compiled in.

/// Mistakes of the core by name: `cargo test --features planted --test sim planted`.
pub const ALL: &[&str] = &[
    "undo_only_what_succeeded",
    "forget_maybe",
    "undo_in_forward_order",
    "timer_early",
    "new_key_for_each_attempt",
    "same_key_for_all_steps",
    "outbox_number_stands_still",
    "event_twice",
    "restart_forgets_doubt",
    "forward_in_undo",
    "cancel_skips_undo",
    "deadline_behind_the_pivot_undoes",
    "pivot_in_doubt_goes_on",
    "pivot_in_doubt_undoes",
    "undo_beside_an_attempt",
    "undo_what_was_refused",
    "one_attempt_more",
    "attempt_while_settling",
    "handled_unknown_is_left",
    "undo_counts_as_done_when_sent",
    "not_seen_yet_is_a_no",
    "exhausted_undo_is_forgotten",
    "final_is_not_final",
    "pause_holds_nothing",
    "undo_stops_half_way",
    "replay_forgets_attempts",
    "retry_is_not_timed",
    "one_record_for_two_checks",
];

/// Mistakes of the core about steps inside steps.
pub const NESTED: &[&str] = &[
    "loser_is_not_undone",
    "every_branch_that_ends_wins",
    "failed_branch_is_not_undone",
    "first_branch_ends_it_all",
    "branch_is_undone_forwards",
    "parts_are_undone_together",
    "what_is_inside_is_not_undone",
    "last_item_is_not_undone",
    "one_item_more_beside",
    "one_failure_more_is_tolerated",
    "tolerated_unknown_is_left",
    "catch_without_undo",
    "keep_keeps_nothing",
    "inner_undo_beside_an_attempt",
    "repeats_share_a_place",
    "child_is_not_cancelled",
    "undo_takes_another_item",
    "settling_scope_goes_on",
    "poll_asks_at_once",
    "last_page_is_left_out",
];

/// Mistakes of the limits before a service.
pub const LIMITS: &[&str] = &[
    "one_call_beside_too_many",
    "part_of_a_token_is_enough",
    "results_from_before_count",
    "circuit_opens_one_failure_late",
    "probe_has_company",
];

/// Mistakes of the coordinator: what leaves before it is durable, what a restart forgets, what is lost.
pub const COORDINATOR: &[&str] = &[
    "call_before_commit",
    "start_answered_before_commit",
    "operator_answered_before_commit",
    "repeat_answered_before_commit",
    "event_leaves_before_commit",
    "ack_before_commit",
    "ack_after_the_first_target",
    "repeat_has_its_own_correlation_id",
    "second_target_is_lost",
    "poison_is_dropped",
    "conflict_is_swallowed",
    "failed_start_is_acknowledged",
    "outbox_out_of_order",
    "outbox_counts_what_did_not_leave",
    "restart_forgets_the_outbox",
    "restart_forgets_timers",
    "restart_forgets_attempts",
    "epoch_stands_still",
    "lock_goes_to_everybody",
    "lock_is_never_passed_on",
    "redelivered_event_starts_another",
    "restart_takes_the_newest_definition",
    "mark_of_a_repeat_stays_open",
];

/// Mistakes of the journal on disk. Its threads are its own, so they are planted for all threads.
pub const JOURNAL: &[&str] = &[
    "turn_forgets_runs",
    "turn_forgets_the_outbox",
    "turn_forgets_the_inbox",
    "turn_forgets_definitions",
    "turn_forgets_later_definitions",
    "turn_forgets_settings",
    "unfinished_turn_is_forgotten",
    "seal_forgets_keys",
    "published_is_forgotten",
    "sequence_is_not_checked",
    "epoch_is_not_checked",
    "lost_tail_is_not_missed",
    "mark_closes_with_its_first_target",
    "events_are_not_remembered",
    "gap_counts_as_committed",
];

/// Mistakes that only a whole process shows: its environment names the one, in `BACKSTITCH_PLANTED`.
pub const PROCESS: &[&str] = &["sign_in_is_logged"];

/// True while this mistake is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use chosen::{from_environment, is, plant, plant_everywhere};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;
    use std::sync::{PoisonError, RwLock};

    static EVERYWHERE: RwLock<Option<&'static str>> = RwLock::new(None);

    thread_local! {
        /// Per thread, so that tests side by side do not disturb each other.
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// True while this mistake is planted on this thread, or on all.
    #[must_use]
    pub fn is(name: &str) -> bool {
        PLANTED.get() == Some(name) || *EVERYWHERE.read().unwrap_or_else(PoisonError::into_inner) == Some(name)
    }

    /// Plants one mistake on every thread, or none.
    pub fn plant_everywhere(name: Option<&'static str>) {
        *EVERYWHERE.write().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Plants the mistake of [`super::PROCESS`] that the environment names.
    pub fn from_environment() {
        let wanted = std::env::var("BACKSTITCH_PLANTED").unwrap_or_default();
        plant_everywhere(super::PROCESS.iter().find(|name| **name == wanted).copied());
    }

    /// Plants one mistake on this thread, or none.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }
}
