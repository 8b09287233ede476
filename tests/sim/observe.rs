//! What can be seen from outside, as plain data: the checkers read nothing else.

/// One thing seen, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A call left the orchestrator.
    Sent {
        path: String,
        direction: &'static str,
        key: String,
        forward_key: Option<String>,
        /// What it tells of the item that it is made for.
        item: Option<String>,
        attempt: u32,
    },
    /// A service changed something.
    Applied {
        path: String,
    },
    /// A child run was started, forward or as an undo.
    Child {
        path: String,
        undo: bool,
    },
    /// A child run was asked to take back what it did.
    ChildCancelled {
        path: String,
    },
    /// A child run came to its end.
    ChildEnded {
        path: String,
    },
    /// A service took it back (or noted that it must never happen).
    Undone {
        path: String,
    },
    /// The orchestrator got an answer: `done none maybe`.
    Answered {
        path: String,
        direction: &'static str,
        effect: &'static str,
        /// How often the service had answered this call with success, this answer included; 0: it is no such answer.
        times: u32,
    },
    /// A record became durable: the fact's name, its step if it has one, and its outcome word if it has one.
    Recorded {
        fact: String,
        path: Option<String>,
        word: Option<String>,
    },
    /// An event went to the outbox with its number.
    Emitted {
        id: String,
        event: String,
        number: u64,
    },
    Crashed,
    Restarted,
    /// An operator's command was taken.
    Operated {
        command: String,
    },
    /// The state that the run shows.
    State {
        state: String,
    },
}

/// One line of a story.
pub fn line(at: u64, seen: &Seen) -> String {
    let at = at - super::world::EPOCH_MS;
    match seen {
        Seen::Sent { path, direction, attempt, .. } => format!("{at:>8} ms  → {path} {direction} #{attempt}"),
        Seen::Child { path, undo } => format!("{at:>8} ms  → {path} {} run", if *undo { "undo" } else { "child" }),
        Seen::ChildCancelled { path } => format!("{at:>8} ms  → {path} child cancelled"),
        Seen::ChildEnded { path } => format!("{at:>8} ms  ← {path} child ended"),
        Seen::Applied { path } => format!("{at:>8} ms    service: {path} applied"),
        Seen::Undone { path } => format!("{at:>8} ms    service: {path} undone"),
        Seen::Answered { path, direction, effect, .. } => format!("{at:>8} ms  ← {path} {direction}: {effect}"),
        Seen::Recorded { fact, path, word } => {
            format!("{at:>8} ms      {fact} {} {}", path.as_deref().unwrap_or(""), word.as_deref().unwrap_or(""))
        }
        Seen::Emitted { event, number, .. } => format!("{at:>8} ms    outbox {number}: {event}"),
        Seen::Crashed => format!("{at:>8} ms  ✗ crash"),
        Seen::Restarted => format!("{at:>8} ms  ↻ restart"),
        Seen::Operated { command } => format!("{at:>8} ms  operator: {command}"),
        Seen::State { state } => format!("{at:>8} ms  state: {state}"),
    }
}
