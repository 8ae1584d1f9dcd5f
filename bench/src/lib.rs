//! Measures Tidemark against its peers on one machine: the same data, the same queries, and CPU time, memory and bytes
//! as the kernel counts them.

pub mod agent;
pub mod corpus;
pub mod disk;
pub mod fleet;
pub mod http;
pub mod notify;
pub mod process;
pub mod push;
pub mod query;
pub mod remote_write;
pub mod report;
pub mod server;
pub mod storage;
