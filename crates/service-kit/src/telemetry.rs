//! Log, traces and metrics of a process.
