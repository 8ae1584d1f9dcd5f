//! PromQL: parser, planning and evaluation over what a store can read.
