//! The C library's allocator: its settings, and the memory of the process.
#![expect(
    unsafe_code,
    reason = "mallopt(3) and malloc_trim(3) have no safe wrappers; the blocks say why they are sound"
)]

use std::thread::available_parallelism;

use common::telemetry;
use nix::libc;
use tidemark_storage::ProcessMemory;

/// Limits the allocator to one arena per core. The default is eight, and each retains what its threads once used, which
/// would exceed a small memory budget. Call this before threads start.
pub fn bound_arenas() {
    #[cfg(target_env = "gnu")]
    {
        let cores = available_parallelism().map_or(1, |cores| cores.get());
        let arenas = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes two integers, changes only settings of the allocator, and rejects unknown ones.
        let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
        debug_assert_eq!(accepted, 1, "mallopt accepts a positive number of arenas");
    }
}

/// Measures and trims the memory of this process.
#[derive(Debug, Clone, Copy)]
pub struct OwnMemory;

impl ProcessMemory for OwnMemory {
    fn resident_bytes(&self) -> Option<u64> {
        telemetry::resident_bytes()
    }

    fn release(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim takes the allocator's own locks and touches only free memory.
        let _released = unsafe { libc::malloc_trim(0) };
    }
}
