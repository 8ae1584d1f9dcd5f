//! The node agent: collectors fill a table of series, the spool keeps each tick on disk, the uplink sends it.

pub mod spool;
pub mod table;
pub mod uplink;
