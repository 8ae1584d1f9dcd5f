//! Stack for recursion: the passes over a syntax tree recurse, and callers may have small stacks.

use std::panic::resume_unwind;
use std::thread;

/// Enough for the deepest tree that the parser accepts, even in a debug build. Only touched pages use memory.
const STACK_BYTES: usize = 64 << 20;
/// Below both limits, a query cannot nest too deeply for a stack of 2 MiB.
const NESTING_SMALL: usize = 40;
const TEXT_SMALL: usize = 2000;

/// Runs `work`, on a thread with a large stack if the query may nest deeply. Returns `None` when no thread can be
/// started.
pub(crate) fn with_deep_stack<T: Send>(query: &str, work: impl FnOnce() -> T + Send) -> Option<T> {
    let opening = |byte: &u8| matches!(byte, b'(' | b'[' | b'-' | b'+' | b'^');
    let nesting = query.as_bytes().iter().filter(|byte| opening(byte)).count();
    if nesting <= NESTING_SMALL && query.len() <= TEXT_SMALL {
        return Some(work());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("deep-query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .ok()?;
        Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
