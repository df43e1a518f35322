//! The control stream of a migration: typed messages both ways.

use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::session::message::CONTROL_BYTES_MAX;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_transport::connection::Closed;
use novacron_transport::{Connection, FrameError, FramedRecv, FramedSend};
use quinn::{RecvStream, SendStream};

/// Bytes of a control frame: a message and its version.
const FRAME_BYTES_MAX: usize = CONTROL_BYTES_MAX + 2;

/// Why the control stream ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection is gone.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The stream failed.
    #[error("the control stream failed")]
    Frame(#[from] FrameError),
    /// A message makes no sense.
    #[error("the other agent said something that is not understood")]
    Message(#[from] CodecError),
    /// The other agent ended it.
    #[error("the other agent ended the control stream")]
    Ended,
}

/// How long the other side may take to make room for one message.
pub const SAY_PATIENCE: Duration = Duration::from_secs(10);

/// One end of the control stream of a connection.
#[derive(Debug)]
pub struct Control {
    connection: Connection,
    send: FramedSend<SendStream>,
    receive: FramedRecv<RecvStream>,
}

/// The control stream outranks all data on the connection.
const PRIORITY: i32 = 10;

impl Control {
    /// The source's end: opens the stream.
    ///
    /// # Errors
    /// [`ControlError::Closed`].
    pub async fn open(connection: Connection) -> Result<Self, ControlError> {
        let (send, receive) = connection.open_frames(FRAME_BYTES_MAX).await?;
        Ok(Self::over(connection, send, receive))
    }

    /// The target's end: takes the stream.
    ///
    /// # Errors
    /// [`ControlError::Closed`].
    pub async fn accept(connection: Connection) -> Result<Self, ControlError> {
        let (send, receive) = connection.accept_frames(FRAME_BYTES_MAX).await?;
        Ok(Self::over(connection, send, receive))
    }

    fn over(
        connection: Connection,
        mut send: FramedSend<SendStream>,
        receive: FramedRecv<RecvStream>,
    ) -> Self {
        // Fails only on a stream that is closed, which the next send says.
        let _ = send.stream_mut().set_priority(PRIORITY);
        Self { connection, send, receive }
    }

    /// The connection under it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Says `message`.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn say<M: Message>(&mut self, message: &M) -> Result<(), ControlError> {
        let bytes = codec::encode(message)?;
        Ok(self.send.send(Bytes::from(bytes)).await?)
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// [`ControlError`]; a message that makes no sense closes the connection.
    pub async fn hear<M: Message>(&mut self) -> Result<M, ControlError> {
        let frame = self.receive.receive().await?.ok_or(ControlError::Ended)?;
        codec::decode(&frame).map_err(|error| {
            self.connection.refuse_message(&error.to_string());
            error.into()
        })
    }
}

/// The next message, or never while there is no link. Cancel-safe.
///
/// # Errors
/// As [`Control::hear`].
pub async fn hear<M: Message>(control: &mut Option<Control>) -> Result<M, ControlError> {
    match control {
        Some(control) => control.hear().await,
        None => std::future::pending().await,
    }
}
