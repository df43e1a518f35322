//! What the requests of one connection share, an extension of each; and what is under way on it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::unread::Unread;
use crate::admission::{Asking, Visit};

/// One connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Its place.
    pub(super) visit: Arc<Visit>,
    /// Answers that its other end has not read.
    pub(super) unread: Arc<Unread>,
}

impl Connection {
    /// One that has answered nothing.
    pub(super) fn of(visit: Arc<Visit>) -> Self {
        Self { visit, unread: Arc::default() }
    }
}

/// An answer whose request is under way until its last frame is taken: a stream keeps its connection from being idle.
pub(super) struct Asked {
    body: Body,
    _asking: Asking,
}

impl Asked {
    pub(super) fn body(body: Body, asking: Asking) -> Body {
        Body::new(Self { body, _asking: asking })
    }
}

impl HttpBody for Asked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
