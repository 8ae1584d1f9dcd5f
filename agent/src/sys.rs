//! System calls that no safe crate wraps. The only module here with `unsafe`.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; each block says why it is sound"
)]

/// State of the kernel's clock discipline and the call's result (adjtimex(2)); `None` when it is refused.
#[must_use]
pub fn adjtimex() -> Option<(libc::timex, i32)> {
    // SAFETY: `timex` is a C struct of integers, for which all zeros is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`; `modes` is 0, so the call only writes to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some((timex, state))
}
