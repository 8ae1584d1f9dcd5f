//! System calls that no safe crate wraps. The only module here with `unsafe`.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; each block says why it is sound"
)]

/// Reads the state of the kernel's clock discipline (adjtimex(2)) and the call's result; `None` if the call is denied.
#[must_use]
pub fn adjtimex() -> Option<(libc::timex, i32)> {
    // SAFETY: `timex` is a C struct of integers, for which all zeros is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`; `modes` is 0, so the call only writes to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some((timex, state))
}

/// Configures the allocator to return memory that a start, a new pod or a scrape needed briefly: one arena for all threads, which
/// are few and rarely allocate, and a mapping of its own for each large buffer. Call it before starting threads.
pub fn keep_memory_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 << 10)] {
        // SAFETY: mallopt takes two integers and only changes settings of the allocator; it rejects unknown ones.
        let accepted = unsafe { libc::mallopt(parameter, value) };
        if accepted == 0 {
            tracing::debug!(parameter, "allocator rejected a setting");
        }
    }
}

/// Returns free memory to the system.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches only free memory.
    let _released = unsafe { libc::malloc_trim(0) };
}
