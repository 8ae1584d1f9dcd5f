//! The C library's allocator: its settings, and what the process has in memory.
#![expect(
    unsafe_code,
    reason = "mallopt(3) and malloc_trim(3) have no safe wrappers; the blocks say why they are sound"
)]

use std::thread::available_parallelism;

use common::telemetry;
use nix::libc;
use tidemark_storage::ProcessMemory;

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

/// The memory of this process.
#[derive(Debug, Clone, Copy)]
pub struct OwnMemory;

impl ProcessMemory for OwnMemory {
    fn resident_bytes(&self) -> Option<u64> {
        telemetry::resident_bytes()
    }

    fn release(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim takes the allocator's own locks and touches only memory that nobody has.
        let _released = unsafe { libc::malloc_trim(0) };
    }
}
