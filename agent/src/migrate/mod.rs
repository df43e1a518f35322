//! Moving machines: what an agent does as source and as target.
//!
//! The order of things and who may run the machine is decided in `novacron_protocol::session`, which knows no I/O. Here
//! are the hands: QEMU's sockets, the page pipeline, the streams to the other agent, and the durable records.

mod digest;
pub mod memory;

/// An error and its causes in one line, for a person at the other end of the wire.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.truncate(text.floor_char_boundary(novacron_protocol::limits::REASON_BYTES_MAX));
    text
}
