//! Turns a panic of sled into a message. sled 0.34 panics on most damaged stores; people get one line of
//! ours instead of its text and a backtrace.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}
/// Guarded calls in progress: sled's own threads have no flag of ours.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static HOOK: Once = Once::new();
static IO_PANIC: OnceLock<String> = OnceLock::new();

/// Returns what the first of sled's own threads to panic said. Nobody waiting for that thread is told by sled.
pub fn io_panic() -> Option<String> {
    IO_PANIC.get().cloned()
}

/// Calls `f`; a panic in it becomes an error with the panic's text, and prints nothing.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let of_sled = thread.name().is_some_and(|name| name.starts_with("sled-io"));
            if of_sled {
                IO_PANIC.get_or_init(|| message(info.payload()));
            }
            if QUIET.get() || (of_sled && CALLS.load(Ordering::Relaxed) > 0) {
                return;
            }
            before(info);
        }));
    });
    let outer = QUIET.replace(true);
    CALLS.fetch_add(1, Ordering::Relaxed);
    // What `f` touched is a sled handle that nobody uses again after an error.
    let result = catch_unwind(AssertUnwindSafe(f));
    CALLS.fetch_sub(1, Ordering::Relaxed);
    QUIET.set(outer);
    result.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    format!("sled gave up: {}", text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_message() {
        assert_eq!(guarded(|| 7), Ok(7));
        let text = guarded(|| panic!("index {} out of bounds\nmore", 3)).unwrap_err();
        assert_eq!(text, "sled gave up: index 3 out of bounds");
        assert!(!QUIET.get(), "later panics of this thread are seen");
    }
}
