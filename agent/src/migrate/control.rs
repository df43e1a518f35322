//! The control stream of a migration: typed messages both ways, over as many connections as it takes.

use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::session::message::{CONTROL_BYTES_MAX, SourceMessage, TargetMessage};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_transport::connection::Closed;
use novacron_transport::{Connection, FrameError, FramedRecv, FramedSend};
use quinn::{RecvStream, SendStream};

use super::said::{MESSAGES_MAX, Said};
use crate::hold::{self, Moment, Performed};

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
    /// The other agent counts messages that were not said.
    #[error("the other agent has heard more than was said")]
    Miscounted,
    /// The other agent has acted on messages that it says it has not heard.
    #[error("the other agent says that it has heard {heard} messages, and has acted on {shown}")]
    Unheard {
        /// What it says.
        heard: u64,
        /// What it has shown.
        shown: u64,
    },
    /// More was said than a migration has to say.
    #[error("more than {MESSAGES_MAX} messages in one migration")]
    TooMany,
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
    pub async fn say<M: Message + Performed>(&mut self, message: &M) -> Result<(), ControlError> {
        let bytes = codec::encode(message)?;
        hold::at(message.step(), Moment::Before);
        self.send.send(Bytes::from(bytes)).await?;
        hold::at(message.step(), Moment::After);
        Ok(())
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

/// Whether a message is said again on the next connection if it was not heard; all are but those about hearing.
pub trait Repeated {
    /// See the trait.
    fn is_repeated(&self) -> bool;
}

impl Repeated for SourceMessage {
    fn is_repeated(&self) -> bool {
        !matches!(self, Self::Resume { .. })
    }
}

impl Repeated for TargetMessage {
    fn is_repeated(&self) -> bool {
        !matches!(
            self,
            Self::Resumed { .. } | Self::Forgotten | Self::Processed(_) | Self::HostLoad { .. }
        )
    }
}

/// What one side has said and heard in a migration, over all connections.
#[derive(Debug, Default)]
pub struct Dialogue {
    control: Option<Control>,
    said: Said,
    heard: u64,
}

impl Dialogue {
    /// Begins anew on this connection, on which so many messages were heard already.
    pub fn begin(&mut self, control: Control, heard: u64) {
        *self = Self { control: Some(control), said: Said::default(), heard };
    }

    /// Goes on on another connection, of which the other side has heard so many messages: what it has not is said
    /// again.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn go_on(
        &mut self,
        mut control: Control,
        they_heard: u64,
    ) -> Result<(), ControlError> {
        for message in self.said.after(they_heard)? {
            control.send.send(message.clone()).await?;
        }
        self.control = Some(control);
        Ok(())
    }

    /// Whether that can be.
    ///
    /// # Errors
    /// [`ControlError::Miscounted`] and [`ControlError::Unheard`].
    pub fn can_go_on(&self, they_heard: u64) -> Result<(), ControlError> {
        self.said.after(they_heard).map(drop)
    }

    /// The link is lost; the connection, if there was one, to be closed.
    pub fn cut(&mut self) -> Option<Connection> {
        self.control.take().map(|control| control.connection)
    }

    /// Messages heard so far.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether there is a link.
    pub fn is_linked(&self) -> bool {
        self.control.is_some()
    }

    /// The connection under it.
    pub fn connection(&self) -> Option<&Connection> {
        self.control.as_ref().map(Control::connection)
    }

    /// Says a message, now if there is a link, else when there is one.
    ///
    /// # Errors
    /// [`ControlError`]: the link is as good as lost.
    pub async fn say<M: Message + Repeated + Performed>(
        &mut self,
        message: &M,
    ) -> Result<(), ControlError> {
        let bytes = Bytes::from(codec::encode(message)?);
        hold::at(message.step(), Moment::Before);
        if message.is_repeated() {
            self.said.push(bytes.clone())?;
        }
        if let Some(control) = &mut self.control {
            control.send.send(bytes).await?;
        }
        hold::at(message.step(), Moment::After);
        Ok(())
    }

    /// The other side will show by what it does that it has heard everything until now.
    pub fn mark(&mut self) {
        self.said.mark();
    }

    /// It has: nothing of that is kept to be said again.
    pub fn forget_marked(&mut self) {
        self.said.forget_marked();
    }

    /// The next message, or never while there is no link. Cancel-safe.
    ///
    /// # Errors
    /// As [`Control::hear`].
    pub async fn hear<M: Message + Repeated>(&mut self) -> Result<M, ControlError> {
        let Some(control) = &mut self.control else { return std::future::pending().await };
        let message: M = control.hear().await?;
        self.heard += u64::from(message.is_repeated());
        Ok(message)
    }
}
