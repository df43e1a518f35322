//! What a client still sends of a request that was answered before it was read: a refusal does not wait for a body. A
//! connection that is closed while its client writes breaks off before the client has read the answer, so a little more
//! is taken, and thrown away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header;
use hyper::body::{Frame, SizeHint};

/// Bytes that are thrown away at most: more than any body that means something, apart from usage.
const BYTES_MAX: usize = 128 * 1024;

/// For them to come.
const WITHIN: Duration = Duration::from_secs(1);

/// The body of a request that was lent to whoever answers it.
#[derive(Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Body>>>);

struct Lent {
    body: Option<Body>,
    back: Arc<Mutex<Option<Body>>>,
}

impl Leftover {
    /// Lends the body of a request. A client that asks first whether it shall send one sends none that is refused.
    pub(super) fn of(request: Request) -> (Self, Request) {
        let leftover = Self::default();
        if request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
            return (leftover, request);
        }
        let back = Arc::clone(&leftover.0);
        let lend = |body| Body::new(Lent { body: Some(body), back });
        (leftover, request.map(lend))
    }

    /// Throws away what nobody has read.
    pub(super) async fn drain(self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = body else { return };
        let read = async {
            let (mut stream, mut bytes) = (body.into_data_stream(), 0);
            while let Some(Ok(chunk)) = stream.next().await {
                bytes += chunk.len();
                if bytes > BYTES_MAX {
                    return;
                }
            }
        };
        // Whoever sends more, or slower, is cut off.
        let _ = tokio::time::timeout(WITHIN, read).await;
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }
}
