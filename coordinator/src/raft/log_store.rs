//! log_store
