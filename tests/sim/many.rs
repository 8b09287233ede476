//! Goes through many seeds on all cores; the first that finds something stops all.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Stories told of one drawn saga: loading a file costs more than a run of it.
pub const STORIES: u64 = 8;

/// The seeds of `range` in groups of [`STORIES`], each group on one thread. `work` is given the saga's seed
/// and the seeds of its stories, and adds to what its thread gathers.
///
/// # Panics
/// With what `work` found, as soon as it found it.
pub fn each<T: Default + Send>(
    range: Range<u64>,
    work: impl Fn(u64, Range<u64>, &mut T) -> Result<(), String> + Sync,
) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(range.start / STORIES);
    let stop = AtomicBool::new(false);
    let gathered = thread::scope(|scope| {
        let one = || {
            let mut gathered = T::default();
            while !stop.load(Ordering::Relaxed) {
                let saga = next.fetch_add(1, Ordering::Relaxed);
                let seeds = (saga * STORIES).max(range.start)..((saga + 1) * STORIES).min(range.end);
                if seeds.is_empty() {
                    break;
                }
                let found = catch_unwind(AssertUnwindSafe(|| work(saga, seeds, &mut gathered)));
                match found {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(why);
                    }
                    Err(_) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(format!("an assertion failed, told above; saga {saga}"));
                    }
                }
            }
            Ok(gathered)
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().expect("panics are caught")).collect::<Vec<_>>()
    });
    gathered.into_iter().collect::<Result<_, _>>().unwrap_or_else(|why| panic!("{why}"))
}
