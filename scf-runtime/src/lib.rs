//! Runs functions on a node and carries invocations between nodes.
