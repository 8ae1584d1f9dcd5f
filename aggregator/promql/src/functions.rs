//! Functions of instant vectors.

pub(crate) mod date;
pub(crate) mod exponential;
pub(crate) mod histogram;
pub(crate) mod info;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod sort;
pub(crate) mod trigonometry;
