//! Named places at which a test lets the process die by SIGKILL, as a crash would: a hook that reads one
//! environment variable. In a build for use (no debug assertions) it is an empty function and the names
//! are nowhere in the program.

/// Every place by its name.
#[cfg(debug_assertions)]
pub const ALL: &[&str] = &[
    "definitions.stored",
    "intake.taken",
    "intake.marked",
    "intake.before_ack",
    "intake.acknowledged",
    "intake.dead_letter",
    "transition.decided",
    "commit.durable",
    "commit.outbox_handed_over",
    "attempt.before_send",
    "attempt.answered",
    // The ones before leave open runs to read back.
    "recovery.adopting",
    "recovery.adopted",
    "outbox.before_publish",
    "outbox.published",
    "outbox.noted",
    "journal.taken",
    "journal.written",
    "journal.synced",
    "journal.head_written",
    "journal.answered",
    "turn.begun",
    "turn.store_made",
    "turn.head_written",
    "carry.slice",
    "carry.done",
    "seal.keys_written",
    "seal.pages_written",
    "head.one_slot",
    "retention.head_written",
    "retention.renamed",
    "drain.begun",
    "drain.closed",
];

/// The environment variable: `NAME` or `NAME@n` for the n-th time that the place is passed.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "BACKSTITCH_FAILPOINT";

/// Ends the process with SIGKILL if this place is armed and its turn has come.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hit(_: &str) {}

#[cfg(debug_assertions)]
pub use armed::hit;

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Ends the process with SIGKILL if this place is armed and its turn has come.
    pub fn hit(name: &str) {
        let Some(armed) = ARMED.get_or_init(|| parse(&std::env::var(super::VARIABLE).ok()?)) else { return };
        if armed.name != name || armed.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        // For the test, which wants to know that it died here and of nothing else. One write and a line of its
        // own: other threads are in the middle of lines of theirs.
        let _ = std::io::stderr().write_all(format!("\nfailpoint {name}\n").as_bytes());
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, times) = text.split_once('@').unwrap_or((text, "1"));
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(times.parse().ok()?) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_and_turns_are_read() {
            let rows = [
                ("a place", "journal.synced", Some(("journal.synced", 1))),
                ("its third time", "carry.slice@3", Some(("carry.slice", 3))),
                ("no number", "carry.slice@x", None),
            ];
            for (why, text, expected) in rows {
                let armed = parse(text).map(|armed| (armed.name, armed.left.into_inner()));
                assert_eq!(armed.as_ref().map(|(name, left)| (name.as_str(), *left)), expected, "{why}");
            }
        }
    }
}
