//! Tests that see the whole workspace from outside.

mod licences;
mod tidy;
