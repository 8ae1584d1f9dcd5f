//! Settings of the C library's allocator.
#![expect(
    unsafe_code,
    reason = "mallopt(3) has no safe wrapper; the block says why it is sound"
)]

use std::thread::available_parallelism;

use nix::libc;

/// Has the threads share as many arenas as there are cores. By default there are eight a core, and each keeps what its
/// threads once needed: beside a small memory budget that is more than all else. To be called before there are threads.
pub fn bound_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let cores = available_parallelism().map_or(1, |cores| cores.get());
        let arenas = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes two integers and changes settings of the allocator only; what it does not know it refuses.
        let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
        debug_assert_eq!(accepted, 1, "a positive number of arenas is taken");
    }
}
