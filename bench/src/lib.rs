//! Compares Tidemark with its peers on one machine: the same data and queries, with CPU time, memory and bytes as counted
//! by the kernel.

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
