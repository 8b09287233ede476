//! Mistakes planted on purpose, one line each, to prove that the tests would find them. Without the
//! feature `planted` every question is answered by a constant "no" and nothing of this is compiled in.

/// Every planted mistake by its name: `cargo test --features planted --test sim planted`.
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
];

/// True while this mistake is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use chosen::{is, plant};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        /// Per thread, so that tests side by side do not disturb each other.
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// True while this mistake is planted on this thread.
    #[must_use]
    pub fn is(name: &str) -> bool {
        PLANTED.get() == Some(name)
    }

    /// Plants one mistake on this thread, or none.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }
}
