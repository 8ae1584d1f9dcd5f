//! Room for recursion: the passes over a syntax tree recurse, and callers' stacks are of any size.

use std::panic::resume_unwind;
use std::thread;

/// Stack for the deepest tree that the parser accepts, in a debug build too. Only touched pages cost memory.
const STACK_BYTES: usize = 64 << 20;
/// Texts below both bounds nest too little to matter on a stack of 2 MiB.
const NESTING_SMALL: usize = 40;
const TEXT_SMALL: usize = 2000;

/// Runs `work`, on a thread with a large stack if the query could nest deeply. `None` when no thread is to be had.
pub(crate) fn with_room<T: Send>(query: &str, work: impl FnOnce() -> T + Send) -> Option<T> {
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
